"""A model of this house as the lm-evaluation-harness asks for one, so that its tasks judge it.

It needs `lm_eval` (0.4.13) and neither torch nor the hub. Pairs of context and continuation are encoded as the
harness's own Hugging Face backend does, so that the same weights get the same results; the one difference is that no
text becomes a special token by looking like one.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals import continuations
from gptjax.infer.ladder import rung
from gptjax.infer.sample import Decoding, generate
from gptjax.types import Model, Params

NEW_TOKENS = 256
"""Tokens to generate where a task does not say, as the harness has it."""
FIRST_TOKENS = 32
"""Tokens that are generated before stop strings are looked for; then twice as many, and so on."""
DRAWN = {"do_sample", "temperature", "top_k", "top_p", "until", "max_gen_toks"}
"""Settings of generation that are understood."""


class Backend(TemplateLM):
    """Answers the harness's three kinds of request; counts them, and what had to be cut."""

    def __init__(self, model: Model, params: Params, tokenizer: Tokenizer, tokens: int, seed: int) -> None:
        """`params` are the model's own, in the dtype to compute in; `tokens` are read at once, padding included."""
        super().__init__()
        self.model, self.params, self.codec = model, params, tokenizer
        self.tokens, self.key = tokens, jax.random.key(seed)
        self.requests, self.cut, self.seconds, self.drawn = 0, 0, 0.0, 0

    @property
    def eot_token_id(self) -> int:
        """What stands before a text without a context; raises `DataError` where the tokenizer has no such token."""
        id = continuations.start(self.codec)
        if id is None:
            raise DataError("the tokenizer has no token that begins or ends a text, and a task asks about a bare one")
        return id

    @property
    def max_length(self) -> int:
        """Tokens that are read at most."""
        return self.model.context

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids, behind the token that begins a text where the tokenizer's policy has one."""
        begin = [] if self.codec.bos_id is None or add_special_tokens is False else [self.codec.bos_id]
        return [*begin, *self.codec.encode(string).tolist()]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        found = self._scored([(before, after) for _, before, after in requests])
        answers = [(-float(nats), bool(greedy)) for nats, greedy in zip(found.nats_R, found.greedy_R, strict=True)]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request[0], answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts, in windows that start afresh: every token is predicted once."""
        pairs, owners = [], []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1):
                pairs.append(make_disjoint_window(window))
                owners.append(number)
        nats_R = self._scored(pairs).nats_R
        totals = (-np.bincount(owners, nats_R, len(requests))).tolist() if pairs else [0.0] * len(requests)
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Texts that continue the contexts up to a stop string, which is not part of them; greedy unless asked."""
        begun, texts = time.perf_counter(), [""] * len(requests)
        by_settings: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            by_settings.setdefault(repr(request.args[1]), []).append(number)
        for numbers in by_settings.values():
            settings = _understood(requests[numbers[0]].args[1])
            most = settings["max_gen_toks"]
            if not 0 < most < self.max_length:
                raise ConfigError(
                    f"max_gen_toks={most} is not in 1..{self.max_length - 1}, the model's context but one"
                )
            prompts = {number: self._prompt(requests[number].args[0], self.max_length - most) for number in numbers}
            self.cut += sum(cut for _, cut in prompts.values())
            numbers = sorted(numbers, key=lambda n: len(prompts[n][0]), reverse=True)
            while numbers:
                rows = max(1, self.tokens // (len(prompts[numbers[0]][0]) + most))
                some, numbers = numbers[:rows], numbers[rows:]
                for number, text in zip(some, self._written([prompts[n][0] for n in some], settings), strict=True):
                    texts[number] = text
                    self.cache_hook.add_partial("generate_until", requests[number].args, text)
        self.requests += len(requests)
        self.seconds += time.perf_counter() - begun
        return texts

    def _prompt(self, context: str, most: int) -> tuple[np.ndarray, bool]:
        """The last `most` ids of a context, and whether there were more."""
        ids = np.array(self.tok_encode(context) or [self.prefix_token_id], np.int32)
        return ids[-most:], len(ids) > most

    def _written(self, prompts: Sequence[np.ndarray], settings: dict[str, Any]) -> list[str]:
        """The text behind each prompt, up to the first stop string."""
        made = [np.zeros(0, np.int32) for _ in prompts]
        left, tokens = list(range(len(prompts))), FIRST_TOKENS
        while left:
            done = len(made[left[0]])  # every row that is not finished has as many
            tokens = min(tokens, settings["max_gen_toks"] - done)
            read = [np.concatenate([prompts[row], made[row]]) for row in left]
            read += [read[0]] * (rung(len(read)) - len(read))  # few shapes are compiled
            self.drawn += 1  # so that no two batches draw the same noise, nor two calls
            key = jax.random.fold_in(self.key, self.drawn)
            new = generate(self.model, self.params, read, tokens, settings["decoding"], key, self.codec.eos_id)
            for row, ids in zip(left, new, strict=False):
                made[row] = np.concatenate([made[row], ids])
            ended = {row for row, ids in zip(left, new, strict=False) if len(ids) < tokens}
            texts = {row: self.codec.decode(made[row]) for row in left}
            stopped = {row for row, text in texts.items() if any(stop in text for stop in settings["until"] if stop)}
            full = done + tokens >= settings["max_gen_toks"]
            left = [] if full else [row for row in left if row not in ended | stopped]
            tokens *= 2
        decoded = (self.codec.decode(ids) for ids in made)
        return [postprocess_generated_text(text, settings["until"], None) for text in decoded]

    def _scored(self, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> continuations.Scored:
        begun = time.perf_counter()
        arrays = [(np.array(before, np.int32), np.array(after, np.int32)) for before, after in pairs]
        found = continuations.scored(self.model, self.params, arrays, tokens=self.tokens)
        self.requests += len(arrays)
        self.cut += int(found.cut_R.sum())
        self.seconds += time.perf_counter() - begun
        return found


def _understood(asked: dict[str, Any]) -> dict[str, Any]:
    """A task's settings of generation, with the `Decoding`; raises `ConfigError` for one that is not known here."""
    settings: dict[str, Any] = dict(normalize_gen_kwargs(asked, NEW_TOKENS))
    if strange := sorted(settings.keys() - DRAWN):
        known = ", ".join(sorted(DRAWN))
        raise ConfigError(f"generation_kwargs: {', '.join(strange)} is not known here; there are {known}")
    temperature = float(settings.get("temperature", 1.0)) if settings["do_sample"] else 0.0
    drawn = Decoding(temperature, settings.get("top_k") or None, settings.get("top_p"))
    return {**settings, "decoding": drawn}
