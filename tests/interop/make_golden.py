"""Write tests/interop/golden: folders that transformers saved, in bfloat16, and what it computes from them in float32;
beside each family's the low-rank adapters that PEFT saved for it, and what the two compute together.

Command      python tests/interop/make_golden.py                 (pip install torch transformers peft)
"""

import json
import shutil
from pathlib import Path

import peft
import torch
import transformers

GOLDEN = Path(__file__).parent / "golden"
GPT_SIZES = {"n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2, "bos_token_id": None, "eos_token_id": None}
SIZES = {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 12,
    "max_position_embeddings": 8, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
IDS = [[3, 1, 4, 1, 5, 9, 2, 6], [0, 10, 8, 7, 5, 3, 5, 8]]
TYPES = [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1]]
ROPE = {"rope_type": "default", "rope_theta": 100.0}


def models() -> dict[str, transformers.PreTrainedModel]:
    """A model of each family, every parameter drawn."""
    return {
        "openai-gpt": transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(vocab_size=11, **GPT_SIZES)),
        "gpt2": transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=11, n_inner=12, tie_word_embeddings=False, **GPT_SIZES)
        ),
        "bert": transformers.BertForPreTraining(transformers.BertConfig(vocab_size=11, **SIZES)),
        "llama": transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=11, num_key_value_heads=2, rope_parameters=ROPE, **SIZES)
        ),
    }


ADAPTERS = {
    "gpt2": {"target_modules": ["c_attn", "mlp.c_proj"], "r": 3, "lora_alpha": 6, "fan_in_fan_out": True},
    "llama": {"target_modules": ["q_proj", "v_proj", "down_proj"], "r": 2, "use_rslora": True},
    "bert": {
        "target_modules": ["query", "output.dense"], "r": 2,
        "rank_pattern": {"query": 1}, "alpha_pattern": {"query": 3},
    },
}  # fmt: skip
"""The adapters of a family: a fused matrix, another scale, ranks of their own."""


def adapt(name: str, model: transformers.PreTrainedModel) -> None:
    """Write adapters for a model that was saved, every one drawn, and the logits with them."""
    model = type(model).from_pretrained(GOLDEN / name, dtype=torch.float32).eval()
    types = {"token_type_ids": torch.tensor(TYPES)} if name == "bert" else {}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**ADAPTERS[name]))
    for part, parameter in adapted.named_parameters():
        if "lora_" in part:
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    folder = GOLDEN / f"peft-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    adapted.peft_config["default"].base_model_name_or_path = name  # not where it lay on this machine
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink()
    out = adapted.eval()(input_ids=torch.tensor(IDS), **types)
    logits = out.prediction_logits if types else out.logits
    (folder / "expected.json").write_text(json.dumps({"ids": IDS, "logits": logits.tolist()}))


@torch.no_grad()
def main() -> None:
    """Write every folder anew."""
    torch.manual_seed(0)
    drawn = models()
    for name, model in drawn.items():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
        model.to(torch.bfloat16).save_pretrained(GOLDEN / name)
        # Read anew: a cast in memory would have rounded what is no parameter, the rotary angles.
        model = type(model).from_pretrained(GOLDEN / name, dtype=torch.float32).eval()
        types = {"token_type_ids": torch.tensor(TYPES)} if name == "bert" else {}
        out = model(input_ids=torch.tensor(IDS), **types)
        logits = {"ids": IDS, "logits": (out.prediction_logits if types else out.logits).tolist()}
        if types:
            logits |= {"types": TYPES, "next_sentence": out.seq_relationship_logits.tolist()}
        (GOLDEN / name / "expected.json").write_text(json.dumps(logits))
    for name in ADAPTERS:
        adapt(name, drawn[name])


if __name__ == "__main__":
    main()
