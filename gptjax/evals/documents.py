"""How well a model predicts documents: nats of tokens, bits of bytes, perplexity of the original text's words."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from gptjax.config import ConfigError, TaskConfig
from gptjax.data import corpora
from gptjax.data.errors import DataError
from gptjax.evals import bootstrap, likelihood, statistics
from gptjax.evals.sweep import Between
from gptjax.evals.task import Judge, Judged, Subject
from gptjax.types import Params, TokenSplit


@dataclass(frozen=True, kw_only=True)
class Documents(TaskConfig):
    """Every document of a source of text, read by itself from its beginning."""

    begins: str | None = None
    """Regular expression where a document begins within a text, ^ being a line's start; None takes whole texts."""
    stride: int | None = None
    """Tokens between the windows of a long document; None is the model's context."""

    def check(self) -> None:
        super().check()
        self.require(self.stride is None or self.stride > 0, f"stride={self.stride} must be positive")
        try:
            re.compile(self.begins or "")
        except re.error as error:
            raise ConfigError(f"begins={self.begins!r} is no regular expression ({error})") from None

    def texts(self) -> Iterator[str]:
        """The documents, those without a word left out; raises `DataError` where there are none."""
        text = ""
        for piece in corpora.pieces(self.data):
            text = piece.text if piece.starts else text + piece.text
            if piece.ends:
                yield from filter(str.strip, self._divided(text))

    def _divided(self, text: str) -> Iterator[str]:
        starts = [] if self.begins is None else [m.start() for m in re.finditer(self.begins, text, re.MULTILINE)]
        ends = sorted({0, *starts, len(text)})
        yield from (text[first:last] for first, last in pairwise(ends))

    def build(self, subject: Subject) -> Judge:
        """Reads and tokenizes the documents."""
        tokenizer, model = subject.tokenizer, subject.model
        texts = list(islice(self.texts(), self.limit))
        if not texts:
            raise DataError(f"{self.data}: holds no document with a word in it")
        ids = [tokenizer.document(ids) for ids in tokenizer.encode_batch(texts)]
        if empty := sum(len(one) == 0 for one in ids):
            raise DataError(f"{self.data}: {empty:,} of {len(ids):,} documents have no token; the tokenizer drops them")
        starts = np.cumsum([0, *map(len, ids)])
        bytes_E = np.array([len(text.encode()) for text in texts])
        words_E = np.array([len(text.split()) for text in texts])
        split = TokenSplit(np.concatenate(ids), starts, int(bytes_E.sum()))
        stride = model.context if self.stride is None else self.stride
        given = likelihood.given(split, True, tokenizer.bos_id)
        tokens_E = np.diff(starts) - np.isin(starts[:-1], given)

        def judge(params: Params, between: Between) -> Judged:
            how = (model.context, stride, subject.rows, True, subject.place, subject.fetch, between, tokenizer.bos_id)
            nats_N = likelihood.token_nats(model, params, split, *how)
            likelihood.refuse_non_finite("score of token", nats_N)
            nats_E = np.add.reduceat(nats_N.astype(np.float64), starts[:-1])
            measures = bootstrap.measured(
                {
                    "nats_per_token": statistics.ratio(nats_E, tokens_E),
                    "bits_per_byte": statistics.ratio(nats_E / math.log(2), bytes_E),
                    "word_perplexity": statistics.exponential(statistics.ratio(nats_E, words_E)),
                },
                len(texts),
            )
            columns = zip(nats_E.tolist(), tokens_E.tolist(), bytes_E.tolist(), words_E.tolist(), strict=True)
            results = [{"nats": n, "tokens": t, "bytes": b, "words": w} for n, t, b, w in columns]
            return Judged(measures, results, (f"{self.name}: windows of {model.context} tokens, {stride} apart",))

        return judge

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        return {
            "nats_per_token": "-log p of all tokens, ends of documents included, for each of them",
            "bits_per_byte": "-log2 p of all documents for each byte of their text in UTF-8",
            "word_perplexity": "e to the -log p of all documents for each word of their text, divided by white space",
        }
