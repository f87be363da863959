"""Texts in one language, texts in another: a trained translator with its tokenizer and a search."""

from typing import Any

import jax
import numpy as np

from gptjax.infer.beam import Beam, translations
from gptjax.types import Params


def translate(
    translator: Any, params: Params, tokenizer: Any, texts: list[str], how: Beam, rows: int = 128
) -> list[str]:
    """The best translation of each text, at most a context long; `rows` texts are searched at once.

    `params` are the translator's own. Raises `DataError` for a text that is longer than the translator's context.
    """
    sources = [as_source(tokenizer, text) for text in texts]
    found = []
    for first in range(0, len(texts), rows):
        part = sources[first : first + rows]
        best = translations(translator, params, part, translator.context, how, tokenizer.bos_id, tokenizer.eos_id)
        found += [tokenizer.decode(hypotheses[0].tokens) for hypotheses in best]
    return found


def as_source(tokenizer: Any, text: str) -> np.ndarray:
    """A text's ids as an encoder reads them, its end-of-text included."""
    return np.append(tokenizer.encode(text), tokenizer.eos_id).astype(np.int32)


def looks(translator: Any, params: Params, tokenizer: Any, source: str, target: str) -> np.ndarray:
    """weights_TS: where a translator looks in a source as it predicts each target token, as far as a row reaches."""
    source_1S, ids = as_source(tokenizer, source)[None], tokenizer.encode(target)[: translator.context - 1]
    inputs_1T = np.append(tokenizer.bos_id, ids)[None].astype(np.int32)

    @jax.jit
    def look(params: Params) -> jax.Array:
        memory = translator.encode(params, source_1S, np.array([source_1S.shape[1]], np.int32))
        return translator.attention(params, memory, inputs_1T)

    return np.asarray(look(params)[0])
