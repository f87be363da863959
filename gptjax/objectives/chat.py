"""A chat written out by a template in Jinja, as Hugging Face's tokenizers carry one: which of its text is answers.

A template is given `messages`, `add_generation_prompt`, `bos_token` (empty: the tokenizer's own token stands before
every example) and `eos_token`. It is somebody else's code, and runs in Jinja's sandbox: it can neither import nor
change a thing. An answer is what it adds to all before it for a turn of the assistant, up to its `eos_token`. Other
marks that it writes, such as <|im_start|>, are text like any other: no tokenizer here reads special tokens in a text.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gptjax.data.errors import DataError

Turn = tuple[str, str]
"""(role, content)."""
END = "\0end of text\0"
"""What stands for the end-of-text token while a template runs."""


class Piece(NamedTuple):
    """A part of an example. Pieces are tokenized one by one, so that a prompt has the same tokens with any answer."""

    text: str
    answer: bool
    """Trained on, and followed by the end-of-text token."""


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


def pieces(template: str, turns: Sequence[Turn], origin: str) -> list[Piece]:
    """The chat in pieces; every turn of the assistant is an answer.

    Raises `DataError` naming `origin` where the template refuses the chat, or where it cannot be told which of the text
    is an answer: a turn is written otherwise once another follows, or `eos_token` ends a turn that is none.
    """
    if all(role != "assistant" for role, _ in turns):
        raise DataError(f"{origin}: no turn of the chat is the assistant's, so there is no answer to learn")
    found, done, whole = [], "", _written(template, turns, False, origin)
    for number, (role, _) in enumerate(turns):
        if role != "assistant":
            continue
        before = _written(template, turns[:number], True, origin)
        after = _written(template, turns[: number + 1], False, origin)
        if not (before.startswith(done) and after.startswith(before) and whole.startswith(after)):
            raise DataError(f"{origin}: the chat template writes turn {number + 1} otherwise where others follow it")
        answer = after[len(before) :].partition(END)[0]
        found += [Piece(before[len(done) :], False), Piece(answer, True)]
        # The end-of-text token that the template writes is the one behind every answer.
        done = after[: len(before) + len(answer)] + (END if after[len(before) + len(answer) :].startswith(END) else "")
    if any(END in piece.text for piece in found):
        raise DataError(f"{origin}: the chat template ends a turn that is no answer with eos_token")
    return found


def _written(template: str, turns: Sequence[Turn], prompt: bool, origin: str) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        return compiled(template).render(
            messages=messages, add_generation_prompt=prompt, bos_token="", eos_token=END, tools=None, documents=None
        )
    except Exception as error:  # somebody else's code may fail in any way
        raise DataError(f"{origin}: the chat template fails: {error or type(error).__name__}") from None
