"""Which families of transformers there are here, and which of them a model is written as."""

from typing import Any

from gptjax.config import ConfigError, ModelConfig
from gptjax.data.errors import DataError
from gptjax.interop import bert, gpt1, gpt2, llama
from gptjax.interop.layout import Shape
from gptjax.models.bert import Bert
from gptjax.models.gpt import GPT

SHAPES = {shape.model_type: shape for shape in (gpt1.SHAPE, gpt2.SHAPE, bert.SHAPE, llama.SHAPE)}
"""By the name that `config.json` gives them."""


def named(model_type: Any, where: str) -> Shape:
    """The family of a `config.json`; raises `DataError` for any other."""
    if not isinstance(model_type, str) or model_type not in SHAPES:
        raise DataError(f"{where}: model_type={str(model_type)[:80]!r} has no like here; there are {', '.join(SHAPES)}")
    return SHAPES[model_type]


def fitting(config: ModelConfig) -> Shape:
    """The one family that a model can be written as; its `write` says what stands in the way."""
    if isinstance(config, Bert):
        return bert.SHAPE
    if not isinstance(config, GPT):
        kinds = ", ".join(SHAPES)
        raise ConfigError(f"model {type(config).__name__} is none that transformers reads; {kinds} can be exported")
    if config.norm_place == "post":
        return gpt1.SHAPE
    return llama.SHAPE if config.norm == "rms" else gpt2.SHAPE
