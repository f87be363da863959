"""GPT-2 in transformers: `Conv1D` layers, [in, out] as here, with queries, keys and values in one."""

import re
from typing import Any

from gptjax.interop.fields import Fields
from gptjax.interop.layout import Entry, Shape, linear, norm, refuse
from gptjax.models.gpt import GPT

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu2": "relu2"}
ONLY = {
    "positions": "learned", "norm": "layer", "bias": True, "qk_norm": False, "embed_norm": False,
    "conv_tokens": 0, "window": None, "logit_softcap": None,
}  # fmt: skip
"""What the transformers of OpenAI's first two GPTs have of what a `GPT` may have."""


def _read(fields: Fields) -> GPT:
    fields.only("scale_attn_weights", True)
    fields.only("scale_attn_by_inverse_layer_idx", False)
    fields.only("add_cross_attention", False)
    width = fields.size("n_embd", 768)
    return GPT(
        layers=fields.size("n_layer", 12),
        width=width,
        heads=fields.size("n_head", 12),
        mlp_width=fields.size("n_inner", 4 * width),
        context=fields.size("n_positions", 1024),
        dropout=fields.dropout("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        mlp=fields.choice("activation_function", ACTIVATIONS, "gelu_new"),  # type: ignore[arg-type]
        tied=fields.flag("tie_word_embeddings", True),
        init_std=fields.number("initializer_range", 0.02),
    )


def _write(config: GPT) -> dict[str, Any]:
    refuse(config, "gpt2", {**ONLY, "norm_place": "pre"})
    refuse_activation(config, "gpt2", ACTIVATIONS)
    words = {meaning: word for word, meaning in reversed(ACTIVATIONS.items())}
    return {**sizes(config, "gpt2"), "n_inner": config.mlp_width, "activation_function": words[config.mlp]}


def refuse_activation(config: GPT, model_type: str, known: dict[str, str]) -> None:
    """Raise `ConfigError` where the family there lacks the MLP's nonlinearity."""
    there = ", ".join(sorted({*known.values()}))
    config.require(
        config.mlp in known.values(), f"model.mlp={config.mlp!r} cannot be expressed as {model_type} ({there})"
    )


def sizes(config: GPT, model_type: str) -> dict[str, Any]:
    """The fields that both families name alike."""
    refuse(config, model_type, {"kv_heads": config.heads if config.kv_heads is not None else None})
    return {
        "n_layer": config.layers,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_positions": config.context,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": config.norm_eps,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied,
    }


def body(config: GPT, tokens: str, positions: str) -> list[Entry]:
    """Embeddings, layers and head; the embeddings' names differ between the families."""
    block, layer = "blocks", "transformer.h.{}"
    return [
        Entry(("embed/tokens",), f"transformer.{tokens}.weight"),
        Entry(("embed/positions",), f"transformer.{positions}.weight"),
        *norm(f"{block}/attn_norm", f"{layer}.ln_1", bias=True),
        *linear([f"{block}/attn/{x}" for x in "qkv"], f"{layer}.attn.c_attn", bias=True, transposed=False),
        *linear(f"{block}/attn/o", f"{layer}.attn.c_proj", bias=True, transposed=False),
        *norm(f"{block}/mlp_norm", f"{layer}.ln_2", bias=True),
        *linear(f"{block}/mlp/up", f"{layer}.mlp.c_fc", bias=True, transposed=False),
        *linear(f"{block}/mlp/down", f"{layer}.mlp.c_proj", bias=True, transposed=False),
        *([] if config.tied else linear("head", "lm_head", bias=False, transposed=True)),
    ]


def _entries(config: GPT) -> list[Entry]:
    return [*body(config, "wte", "wpe"), *norm("final_norm", "transformer.ln_f", bias=True)]


SHAPE = Shape(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    skipped=re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"),
    read=_read,
    write=_write,
    entries=_entries,
    copies={"lm_head.weight": "transformer.wte.weight"},
    classifier="GPT2ForSequenceClassification",
)
"""Radford et al. 2019; norms come first."""
