"""BERT in transformers, with both of its heads: `Linear` layers, [out, in], and the exact GELU."""

import re
from typing import Any

from gptjax.interop.fields import Fields
from gptjax.interop.layout import Entry, Shape, linear, norm
from gptjax.models.bert import Bert


def _read(fields: Fields) -> Bert:
    fields.only("hidden_act", "gelu")
    fields.only("position_embedding_type", "absolute")
    fields.only("is_decoder", False)
    fields.only("add_cross_attention", False)
    fields.only("type_vocab_size", 2)
    fields.only("tie_word_embeddings", True)
    return Bert(
        layers=fields.size("num_hidden_layers", 12),
        width=fields.size("hidden_size", 768),
        heads=fields.size("num_attention_heads", 12),
        mlp_width=fields.size("intermediate_size", 3072),
        context=fields.size("max_position_embeddings", 512),
        dropout=fields.dropout("hidden_dropout_prob", "attention_probs_dropout_prob"),
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        init_std=fields.number("initializer_range", 0.02),
    )


def _write(config: Bert) -> dict[str, Any]:
    return {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": "gelu",
        "max_position_embeddings": config.context,
        "type_vocab_size": 2,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "layer_norm_eps": config.norm_eps,
        "initializer_range": config.init_std,
        "tie_word_embeddings": True,
    }


def _entries(config: Bert) -> list[Entry]:
    block, layer, embeddings = "blocks", "bert.encoder.layer.{}", "bert.embeddings"

    def dense(ours: str, theirs: str) -> list[Entry]:
        return linear(ours, theirs, bias=True, transposed=True)

    return [
        Entry(("embed/tokens",), f"{embeddings}.word_embeddings.weight"),
        Entry(("embed/positions",), f"{embeddings}.position_embeddings.weight"),
        Entry(("embed/types",), f"{embeddings}.token_type_embeddings.weight"),
        *norm("embed_norm", f"{embeddings}.LayerNorm", bias=True),
        *dense(f"{block}/attn/q", f"{layer}.attention.self.query"),
        *dense(f"{block}/attn/k", f"{layer}.attention.self.key"),
        *dense(f"{block}/attn/v", f"{layer}.attention.self.value"),
        *dense(f"{block}/attn/o", f"{layer}.attention.output.dense"),
        *norm(f"{block}/attn_norm", f"{layer}.attention.output.LayerNorm", bias=True),
        *dense(f"{block}/mlp/up", f"{layer}.intermediate.dense"),
        *dense(f"{block}/mlp/down", f"{layer}.output.dense"),
        *norm(f"{block}/mlp_norm", f"{layer}.output.LayerNorm", bias=True),
        *dense("pooler", "bert.pooler.dense"),
        *dense("head/transform", "cls.predictions.transform.dense"),
        *norm("head/norm", "cls.predictions.transform.LayerNorm", bias=True),
        Entry(("head/bias",), "cls.predictions.bias"),
        *dense("next_sentence", "cls.seq_relationship"),
    ]


SHAPE = Shape(
    model_type="bert",
    architecture="BertForPreTraining",
    prefix="bert.",
    skipped=re.compile(r"(bert\.)?embeddings\.position_ids"),
    read=_read,
    write=_write,
    entries=_entries,
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    optional=("pooler", "next_sentence"),
)
"""Devlin et al., arXiv 1810.04805; a masked language model's file lacks the pooler and the next sentence."""
