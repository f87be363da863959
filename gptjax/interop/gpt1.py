"""GPT-1 in transformers ("openai-gpt"): GPT-2's layers with each norm behind its branch, and none at the end."""

import re
from typing import Any

from gptjax.interop.fields import Fields
from gptjax.interop.gpt2 import ONLY, body, refuse_activation, sizes
from gptjax.interop.layout import Entry, Shape, refuse
from gptjax.models.gpt import GPT

ACTIVATIONS = {"gelu": "gelu_tanh"}
"""Here "gelu" means the tanh form."""


def _read(fields: Fields) -> GPT:
    width = fields.size("n_embd", 768)
    return GPT(
        layers=fields.size("n_layer", 12),
        width=width,
        heads=fields.size("n_head", 12),
        mlp_width=4 * width,
        context=fields.size("n_positions", 512),
        dropout=fields.dropout("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        norm_place="post",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        mlp=fields.choice("afn", ACTIVATIONS, "gelu"),  # type: ignore[arg-type]
        tied=fields.flag("tie_word_embeddings", True),
        init_std=fields.number("initializer_range", 0.02),
    )


def _write(config: GPT) -> dict[str, Any]:
    refuse(config, "openai-gpt", {**ONLY, "norm_place": "post", "mlp_width": 4 * config.width})
    refuse_activation(config, "openai-gpt", ACTIVATIONS)
    return {**sizes(config, "openai-gpt"), "afn": "gelu"}


def _entries(config: GPT) -> list[Entry]:
    return body(config, "tokens_embed", "positions_embed")


SHAPE = Shape(
    model_type="openai-gpt",
    architecture="OpenAIGPTLMHeadModel",
    prefix="transformer.",
    skipped=re.compile(r"(transformer\.)?(h\.\d+\.attn\.bias|position_ids)"),
    read=_read,
    write=_write,
    entries=_entries,
    copies={"lm_head.weight": "transformer.tokens_embed.weight"},
    classifier="OpenAIGPTForSequenceClassification",
)
"""Radford et al. 2018."""
