"""Greedy generation against transformers: 256 tokens after a prompt of 64, 6 layers of 384, the same weights.

Command      python experiments/bench/generation.py [--rows 1 16] [--rounds 5] [--json OUT]
Cost         two minutes on two CPU cores
Peer         `GPT2LMHeadModel.generate` with its key-value cache (pip install torch transformers)

What both choose must be the likeliest token at every place, by our logits of the whole text and up to float32
rounding, before anything is timed (near ties send the texts apart). Each form has a process of its own, as users run
it; rounds are interleaved, and the table has medians of whole calls, prompt included, compilation not.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
import transformers
from apart import AS_STARTED, Apart
from command import options, tell
from interleaved import medians

from gptjax.cli import guarded
from gptjax.config import ConfigError
from gptjax.infer.sample import Decoding, generate
from gptjax.models.gpt import GPT
from gptjax.types import Model, Place

ENVIRONMENTS: dict[str, dict[str, str]] = {"gptjax": AS_STARTED, "transformers": {}}
"""Of each form's process."""
PROMPT_TOKENS, NEW_TOKENS, VOCABULARY = 64, 256, 8192
MODEL = GPT(layers=6, width=384, heads=6, mlp_width=1536, context=PROMPT_TOKENS + NEW_TOKENS)
NEAR_TIE = 1e-2
"""Difference of logits that float32 rounding may turn round."""
Generator = Callable[[np.ndarray], np.ndarray]
"""Prompts [B, P] to the new tokens [B, NEW_TOKENS]."""


def ours(params: Any) -> Generator:
    """gptjax's own `generate`, of the model as a run builds it."""
    place, decoding = Place(jax.devices()[0].platform), Decoding(temperature=0.0)
    model = MODEL.build(VOCABULARY, VOCABULARY, place)

    def run(prompts_BP: np.ndarray) -> np.ndarray:
        return np.stack(generate(model, params, list(prompts_BP), NEW_TOKENS, decoding, jax.random.key(0)))

    return run


def theirs(params: Any) -> Generator:
    """transformers, with our parameters."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=MODEL.context, n_embd=MODEL.width, n_layer=MODEL.layers, n_head=MODEL.heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    model.load_state_dict(_state(params), strict=False)
    model.tie_weights()

    @torch.inference_mode()
    def run(prompts_BP: np.ndarray) -> np.ndarray:
        ids_BP = torch.from_numpy(prompts_BP.astype(np.int64))
        lengths = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS}
        mask_BP = torch.ones_like(ids_BP)
        out = model.generate(ids_BP, attention_mask=mask_BP, do_sample=False, use_cache=True, pad_token_id=0, **lengths)
        return out[:, prompts_BP.shape[1] :].numpy()

    return run


def _state(params: Any) -> dict[str, torch.Tensor]:
    """Our parameters by transformers' names; its Conv1D holds [in, out] as we do."""
    norm = {"scale": "weight", "bias": "bias"}
    linear = {"kernel": "weight", "bias": "bias"}
    found = {"wte.weight": params["embed"]["tokens"], "wpe.weight": params["embed"]["positions"]}
    found |= {f"ln_f.{norm[k]}": v for k, v in params["final_norm"].items()}
    blocks = params["blocks"]
    for i in range(MODEL.layers):
        for ours_name, name in (("attn_norm", "ln_1"), ("mlp_norm", "ln_2")):
            found |= {f"h.{i}.{name}.{norm[k]}": v[i] for k, v in blocks[ours_name].items()}
        for k, v in linear.items():
            found[f"h.{i}.attn.c_attn.{v}"] = np.concatenate([blocks["attn"][x][k][i] for x in "qkv"], axis=-1)
        for part, name in (("o", "attn.c_proj"), ("up", "mlp.c_fc"), ("down", "mlp.c_proj")):
            source = blocks["attn" if part == "o" else "mlp"][part]
            found |= {f"h.{i}.{name}.{v}": source[k][i] for k, v in linear.items()}
    return {f"transformer.{name}": torch.from_numpy(np.array(x, np.float32)) for name, x in found.items()}


def parameters() -> Any:
    """The weights that both have, with wide embeddings, so that few choices are near ties."""
    params = jax.device_get(MODEL.build(VOCABULARY, VOCABULARY).init(jax.random.key(0)))
    params["embed"] = jax.tree.map(lambda x: 10 * x, params["embed"])
    return params


def prompts(rows: int) -> np.ndarray:
    """Random tokens, [B, P]."""
    return np.random.default_rng(0).integers(0, VOCABULARY, (rows, PROMPT_TOKENS), dtype=np.int32)


def generator(who: str, rows: int) -> Callable[[int], np.ndarray]:
    """A form for a process of its own; its argument says nothing."""
    run, prompts_BP = (ours if who == "gptjax" else theirs)(parameters()), prompts(rows)
    return lambda _: run(prompts_BP)


def measure(rows: int, rounds: int) -> dict[str, Any]:
    """Check that both choose the same tokens, then time; one object of results."""
    generators = {who: Apart(partial(generator, who, rows), environment) for who, environment in ENVIRONMENTS.items()}
    found = {who: run(0) for who, run in generators.items()}
    model, params, prompts_BP = MODEL.build(VOCABULARY, VOCABULARY), parameters(), prompts(rows)
    gaps = {who: _gap(model, params, prompts_BP, new_BT) for who, new_BT in found.items()}
    if max(gaps.values()) > NEAR_TIE:
        raise ConfigError(f"{rows} rows: not the likeliest tokens, by {gaps} in logit: there is nothing to compare")
    seconds = medians({who: partial(run, 0) for who, run in generators.items()}, rounds)
    for run in generators.values():
        run.end()
    return {
        "rows": rows,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "same_tokens": float(np.mean(found["gptjax"] == found["transformers"])),
        "largest_gap_in_logit": gaps,
        "seconds": seconds,
        "tokens_per_second": {who: rows * NEW_TOKENS / value for who, value in seconds.items()},
        "ratio": seconds["transformers"] / seconds["gptjax"],
    }


def _gap(model: Model, params: Any, prompts_BP: np.ndarray, new_BT: np.ndarray) -> float:
    """How far below the largest logit the chosen ones are at the most."""
    text_BU = np.concatenate([prompts_BP, new_BT], axis=1)
    logits_BTV = jax.jit(model.apply)(params, text_BU[:, :-1])[:, PROMPT_TOKENS - 1 :]
    chosen_BT = np.take_along_axis(np.asarray(logits_BTV), new_BT[..., None], axis=-1)[..., 0]
    return float(np.max(np.asarray(logits_BTV).max(-1) - chosen_BT))


def table(results: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = ["| rows | gptjax, tokens/s | transformers, tokens/s | ratio |", "|---|---|---|---|"]
    for found in results:
        rates = found["tokens_per_second"]
        lines.append(
            f"| {found['rows']} | {rates['gptjax']:,.0f} | {rates['transformers']:,.0f} | {found['ratio']:.1f} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, write, print."""
    parser = options(str(__doc__), rounds=5)
    parser.add_argument("--rows", type=int, nargs="*", default=(1, 16))
    asked = parser.parse_args(argv)
    tell([measure(rows, asked.rounds) for rows in asked.rows], table, asked.json)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
