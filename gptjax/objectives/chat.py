"""A chat written out by a template in Jinja, as Hugging Face's tokenizers carry one: which of its text is answers.

A template is given `messages`, `add_generation_prompt`, `bos_token` (empty: the tokenizer's own token stands before
every example) and `eos_token`. It is somebody else's code, and runs in Jinja's sandbox: it can neither import nor
change a thing. An answer is what it adds to all before it for a turn of the assistant, up to its `eos_token`.

What it writes that the tokenizer has a token for, such as <|im_start|>, becomes that token. The same in what somebody
says, or calls itself, stays text: a turn cannot end itself and begin another. (Added tokens that a tokenizer.json does
not call special are part of its text wherever they stand.)
"""

import json
import re
from collections.abc import Collection, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gptjax.data.errors import DataError

Turn = tuple[str, str]
"""(role, content)."""
END, TEXT = "\ufdd0", "\ufdd1"
"""Noncharacters of Unicode, which no text has and no filter of a template changes: what stands for the end-of-text
token while a template runs, and what stands within what would become a token and is to stay text."""


class Piece(NamedTuple):
    """A part of an example. Pieces are tokenized one by one, so that a prompt has the same tokens with any answer."""

    text: str
    answer: bool
    """Trained on, and followed by the end-of-text token."""
    templated: bool = False
    """Written by a template: `parts` tells tokens and text apart."""

    def parts(self, specials: tuple[str, ...]) -> list[str]:
        """The text, divided into what is written for a token (at odd places) and what stands between, maybe nothing."""
        if not self.templated:
            return [self.text]
        return [part.replace(TEXT, "") for part in _any_of((END, *specials)).split(self.text)]

    def spelt(self, eos: str | None) -> str:
        """The text as a person would write it, with `eos` for the end-of-text token."""
        return self.text.replace(END, eos or "").replace(TEXT, "")


@lru_cache(maxsize=16)
def _any_of(specials: tuple[str, ...]) -> re.Pattern[str]:
    """Matches what is written for a token, the longest first, and is not marked as text; one group."""
    found = (re.escape(special) + f"(?!{TEXT})" for special in sorted(specials, key=len, reverse=True))
    return re.compile(f"({'|'.join(found)})")


class _Refused(Exception):
    """A template's own `raise_exception`."""


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)


@lru_cache(maxsize=16)
def compiled(template: str) -> jinja2.Template:
    """The template, ready to run; raises `jinja2.TemplateSyntaxError`."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.globals["raise_exception"] = _refuse
    # Jinja's own escapes for HTML, and templates are not written for that.
    sandbox.filters["tojson"] = lambda value, **how: json.dumps(value, **({"ensure_ascii": False} | how))
    return sandbox.from_string(template)


def pieces(
    template: str, turns: Sequence[Turn], origin: str, specials: Collection[str] = (), eos: str | None = None
) -> list[Piece]:
    """The chat in pieces; every turn of the assistant is an answer.

    `specials` are what is written for the tokenizer's tokens, `eos` the one of them that ends a text. Raises
    `DataError` naming `origin` where the template refuses the chat, or where it cannot be told which of the text is an
    answer: a turn is written otherwise once another follows.
    """
    if all(role != "assistant" for role, _ in turns):
        raise DataError(f"{origin}: no turn of the chat is the assistant's, so there is no answer to learn")
    if any(mark in said for turn in turns for said in turn for mark in (END, TEXT)):
        raise DataError(f"{origin}: the chat holds U+FDD0 or U+FDD1, which are no characters; remove them")
    turns = [(_as_text(role, specials), _as_text(content, specials)) for role, content in turns]
    write = partial(_written, template, origin, eos)
    found, done, whole = [], "", write(turns, False)
    for number, (role, _) in enumerate(turns):
        if role != "assistant":
            continue
        before, after = write(turns[:number], True), write(turns[: number + 1], False)
        if not (before.startswith(done) and after.startswith(before) and whole.startswith(after)):
            raise DataError(f"{origin}: the chat template writes turn {number + 1} otherwise where others follow it")
        answer = after[len(before) :].partition(END)[0]
        found += [Piece(before[len(done) :], False, True), Piece(answer, True, True)]
        # The end-of-text token that the template writes is the one behind every answer.
        done = after[: len(before) + len(answer)] + (END if after[len(before) + len(answer) :].startswith(END) else "")
    return found


def _as_text(said: str, specials: Collection[str]) -> str:
    """What somebody says, nothing of which is to become a token: a mark behind the first letter of each that would."""
    found = "|".join(map(re.escape, specials))
    return re.sub(f"(?=(?:{found}))(.)", rf"\1{TEXT}", said, flags=re.DOTALL) if specials else said


def _written(template: str, origin: str, eos: str | None, turns: Sequence[Turn], prompt: bool) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        written = compiled(template).render(
            messages=messages, add_generation_prompt=prompt, bos_token="", eos_token=END, tools=None, documents=None
        )
    except Exception as error:  # somebody else's code may fail in any way
        raise DataError(f"{origin}: the chat template fails: {error or type(error).__name__}") from None
    # Many templates have the token's text in them instead of `eos_token`.
    return written if eos is None else _any_of((eos,)).sub(END, written)
