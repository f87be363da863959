"""Supervised fine-tuning: next-token prediction of answers alone, given their prompts."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np

from gptjax.config import ConfigError, Data, ObjectiveConfig, Sources, Widest
from gptjax.data import packing
from gptjax.data.errors import DataError
from gptjax.objectives import chat, examples
from gptjax.objectives.causal import full_row, next_token, require_language_model, require_tile
from gptjax.objectives.chat import Piece
from gptjax.objectives.examples import Record, at, shown, text_at
from gptjax.objectives.head import TileTokens
from gptjax.types import Model, Objective, RowSource


@dataclass(frozen=True)
class SFT(ObjectiveConfig):
    """Learn to answer. A record is one of

    {"prompt": ..., "completion": ...}: the two texts as they are;
    {"messages": [{"role": ..., "content": ...}, ...]}: a chat, every turn of the assistant is an answer;
    {"instruction": ..., "input": ..., "output": ...}: a chat of two turns, user and assistant; "input" may be missing,
    and {"instruction": ..., "instances": [{"input": ..., "output": ...}, ...]} is several of them.

    An answer ends in the end-of-text token, which is trained on too. Whole examples share rows, masked apart.
    """

    turn_start: str = "{role}:\n"
    """Text before each chat turn; {role} becomes user, assistant, system or whatever the record says."""
    turn_end: str = "\n\n"
    """Text after each chat turn but an assistant's, which ends in the end-of-text token."""
    template: str | None = None
    """Chat template in Jinja, as tokenizer_config.json has one, that writes the turns instead; it runs in a sandbox.
    What it writes that the tokenizer has a special token for becomes that token; what the turns say does not."""
    too_long: Literal["skip", "truncate", "refuse"] = "skip"
    """Examples longer than a row are left out, cut at their end, or an error; the first two are counted and printed."""
    tile_tokens: TileTokens = "auto"
    """Tokens whose logits exist at once: fewer take less memory; auto is all but on a CPU, where caches are small."""

    def check(self) -> None:
        self.require("{role}" in self.turn_start, f"turn_start={self.turn_start!r} does not contain {{role}}")
        require_tile(self, self.tile_tokens)
        if self.template is not None:
            try:
                chat.compiled(self.template)
            except jinja2.TemplateError as error:
                self.require(False, f"template is not one that Jinja reads: {error}")

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective; weights of the batch are 1 on answers and 0 elsewhere. No example continues another."""
        require_language_model(self, model)
        return next_token(model, self.tile_tokens)._replace(carried=None)

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """The examples of these splits as they are read, prompts and answers."""
        for pieces in examples.read(data, self.pieces).of(splits):
            yield "".join(part for piece in pieces for part in piece.parts(())[::2])

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """Packed examples of each corpus; `data.packing` does not matter, since examples are always packed whole.

        Raises `ConfigError` where the tokenizer has no end-of-text token, `DataError` where a record is unusable.
        """
        if tokenizer.eos_id is None:
            raise ConfigError(
                "tokenizer.eos is off, and without an end-of-text token no answer ends; turn it on, and where the run "
                "starts from another (--init) pretrain that one with tokenizer.eos on"
            )
        found = examples.read(data, partial(self.pieces, tokenizer=tokenizer))
        notes: list[str] = []
        train = tuple(
            self._rows(corpus.source, conversations, tokenizer, context, notes)
            for corpus, conversations in zip(data.corpora, found.train, strict=True)
        )
        held_out = (
            self._rows(data.validation or "held out", found.validation, tokenizer, context, notes)
            if found.validation
            else None
        )
        weights = tuple(corpus.weight for corpus in data.corpora)
        return Sources(train, weights, held_out, None, found.identity, tuple(notes))

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """Any row: all have `context` + 1 tokens, whatever examples share them."""
        return Widest(full_row(context, packed=True))

    def pieces(self, record: Record, origin: str, tokenizer: Any = None) -> list[list[Piece]]:
        """The examples in a record; raises `DataError` with `origin` where it is none of the known forms.

        A template may write the special tokens of `tokenizer`; without one all that it writes is text.
        """
        write = partial(self._chat, origin, tokenizer)
        if "messages" in record:
            return [write(_messages(record, origin))]
        if "prompt" in record:
            return [
                [Piece(text_at(record, origin, "prompt"), False), Piece(text_at(record, origin, "completion"), True)]
            ]
        if "instruction" not in record:
            forms = 'none of "messages", "prompt" and "instruction" is there'
            raise DataError(f"{origin}: {forms}; fields are {', '.join(record)}")
        instances = _objects(record, origin, "instances") if "instances" in record else [record]
        return [write(_instruction(record, instance, origin)) for instance in instances]

    def _chat(self, origin: str, tokenizer: Any, messages: list[tuple[str, str]]) -> list[Piece]:
        if self.template is not None:
            written = () if tokenizer is None else (tuple(tokenizer.specials), tokenizer.eos_text)
            return chat.pieces(self.template, messages, origin, *written)
        pieces = []
        for role, content in messages:
            start = self.turn_start.replace("{role}", role)
            if role == "assistant":
                pieces += [Piece(start, False), Piece(content, True)]
            else:
                pieces.append(Piece(start + content + self.turn_end, False))
        return pieces

    def _rows(
        self, name: str, conversations: list[list[Piece]], tokenizer: Any, context: int, notes: list[str]
    ) -> RowSource:
        rows, said = packing.examples(*tokenized(conversations, tokenizer), context, self.too_long)
        notes += [f"{name}: {note}" for note in said]
        return rows


def _messages(record: Record, origin: str) -> list[tuple[str, str]]:
    messages = _objects(record, origin, "messages")
    return [(text_at(message, origin, "role"), text_at(message, origin, "content")) for message in messages]


def _objects(record: Record, origin: str, name: str) -> list[Record]:
    values = at(record, origin, name)
    if not (isinstance(values, list) and values and all(isinstance(value, dict) for value in values)):
        raise DataError(f'{origin}: field "{name}" is {shown(values)}, not a list of objects, one at least')
    return values


def _instruction(record: Record, instance: Record, origin: str) -> list[tuple[str, str]]:
    question = text_at(record, origin, "instruction")
    if instance.get("input"):
        question += "\n\n" + text_at(instance, origin, "input")
    return [("user", question), ("assistant", text_at(instance, origin, "output"))]


def tokenized(conversations: list[list[Piece]], tokenizer: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Token ids and weights of each example: weight 1 on answers and the end-of-text token after each, else 0.

    An example starts with the tokenizer's beginning-of-text token where it has one.
    """
    specials = {**tokenizer.specials, chat.END: tokenizer.eos_id}
    divided = [piece.parts(tuple(specials)) for pieces in conversations for piece in pieces]
    encoded = tokenizer.encode_parts(divided, specials)
    ends = accumulate((len(pieces) for pieces in conversations), initial=0)
    start = np.array([] if tokenizer.bos_id is None else [tokenizer.bos_id], np.int32)
    stop = np.array([tokenizer.eos_id], np.int32)
    all_tokens, all_weights = [], []
    for pieces, (first, last) in zip(conversations, pairwise(ends), strict=True):
        parts = [
            np.append(ids, stop) if piece.answer else ids
            for piece, ids in zip(pieces, encoded[first:last], strict=True)
        ]
        if len(start) and parts[0][:1].tolist() == start.tolist():  # a template has written it
            parts[0] = parts[0][1:]
        counts = [np.full(len(part), piece.answer, np.float32) for piece, part in zip(pieces, parts, strict=True)]
        all_tokens.append(np.concatenate([start, *parts]).astype(np.int32))
        all_weights.append(np.concatenate([np.zeros(len(start), np.float32), *counts]))
    return all_tokens, all_weights
