"""Llama in transformers: `Linear` layers, [out, in], rotary positions in the half-split pairing that is used here."""

import re
from typing import Any

from gptjax.interop.fields import Fields
from gptjax.interop.layout import Entry, Shape, linear, norm, refuse
from gptjax.models.gpt import GPT

ONLY = {
    "positions": "rotary", "norm": "rms", "norm_place": "pre", "mlp": "swiglu", "qk_norm": False, "embed_norm": False,
    "conv_tokens": 0, "window": None, "logit_softcap": None,
}  # fmt: skip
"""What a Llama has of what a `GPT` may have."""


def _read(fields: Fields) -> GPT:
    fields.only("hidden_act", "silu")
    width, heads = fields.size("hidden_size", 4096), fields.size("num_attention_heads", 32)
    head_dim = fields.size("head_dim", width // heads or 1)
    if head_dim * heads != width:
        raise fields.wrong("head_dim", head_dim, f"has no like here; heads are hidden_size / {heads} wide")
    bias = fields.flag("attention_bias", False)
    if fields.flag("mlp_bias", False) != bias:
        raise fields.wrong("mlp_bias", not bias, f"has no like beside attention_bias={bias}: biases are all or none")
    kv_heads = fields.size("num_key_value_heads", heads)
    return GPT(
        layers=fields.size("num_hidden_layers", 32),
        width=width,
        heads=heads,
        kv_heads=None if kv_heads == heads else kv_heads,
        mlp_width=fields.size("intermediate_size", 11008),
        context=fields.size("max_position_embeddings", 2048),
        dropout=_dropout(fields),
        positions="rotary",
        rope_theta=_rope_theta(fields),
        norm="rms",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        mlp="swiglu",
        bias=bias,
        tied=fields.flag("tie_word_embeddings", False),
        init_std=fields.number("initializer_range", 0.02),
    )


def _dropout(fields: Fields) -> float:
    return 0.0 if fields.value("attention_dropout") is None else fields.dropout("attention_dropout")


def _rope_theta(fields: Fields) -> float:
    """One base for all; a scaling of any kind changes what positions mean, and is refused."""
    theta = fields.number("rope_theta", 10000.0)
    for name in ("rope_scaling", "rope_parameters"):
        rope = fields.value(name)
        if rope is None:
            continue
        plain = isinstance(rope, dict) and rope.keys() <= {"rope_type", "type", "rope_theta"}
        if not plain or {rope.get("rope_type", "default"), rope.get("type", "default")} != {"default"}:
            raise fields.wrong(name, rope, "has no like here: positions are turned at one base and never scaled")
        theta = Fields(fields.path, rope).number("rope_theta", theta)
    return theta


def _write(config: GPT) -> dict[str, Any]:
    refuse(config, "llama", ONLY)
    return {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.width // config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # where readers before transformers 5 look for it
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "attention_dropout": config.dropout,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied,
    }


def _entries(config: GPT) -> list[Entry]:
    block, layer, bias = "blocks", "model.layers.{}", config.bias
    return [
        Entry(("embed/tokens",), "model.embed_tokens.weight"),
        *norm(f"{block}/attn_norm", f"{layer}.input_layernorm", bias=False),
        *(e for x in "qkvo" for e in linear(f"{block}/attn/{x}", f"{layer}.self_attn.{x}_proj", bias, transposed=True)),
        *norm(f"{block}/mlp_norm", f"{layer}.post_attention_layernorm", bias=False),
        *(
            entry
            for name in ("gate", "up", "down")
            for entry in linear(f"{block}/mlp/{name}", f"{layer}.mlp.{name}_proj", bias, transposed=True)
        ),
        *norm("final_norm", "model.norm", bias=False),
        *([] if config.tied else linear("head", "lm_head", bias=False, transposed=True)),
    ]


SHAPE = Shape(
    model_type="llama",
    architecture="LlamaForCausalLM",
    prefix="model.",
    skipped=re.compile(r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq"),
    read=_read,
    write=_write,
    entries=_entries,
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    classifier="LlamaForSequenceClassification",
)
"""Touvron et al., arXiv 2302.13971."""
