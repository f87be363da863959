"""Write tests/interop/golden: folders that transformers saved, in bfloat16, and what it computes from them in float32.

Command      python tests/interop/make_golden.py                 (pip install torch transformers)
"""

import json
import shutil
from pathlib import Path

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


@torch.no_grad()
def main() -> None:
    """Write every folder anew."""
    torch.manual_seed(0)
    for name, model in models().items():
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


if __name__ == "__main__":
    main()
