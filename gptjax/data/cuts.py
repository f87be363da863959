"""Where running text may be cut without changing its tokens.

Between a character that is not white space and a space that follows it. No token of GPT-2's byte-level BPE, nor of a
sentencepiece model that splits at white space, reaches across such a place, so that the tokens of a text are those of
its parts.
"""

import re

WINDOW = 1 << 12
"""Characters from the end of a part in which `last` looks for a place to cut."""

_PLACE = re.compile(r"\S(?= )")


def cut(text: str, characters: int) -> list[str]:
    """`text` in parts that join to it again, each cut at the first good place from `characters` on."""
    parts, start = [], 0
    while len(text) - start > characters:
        place = _PLACE.search(text, start + characters - 1)
        if place is None:
            break
        parts.append(text[start : place.end()])
        start = place.end()
    if start < len(text):
        parts.append(text[start:])
    return parts


def last(text: str) -> int:
    """The last good place to cut `text`; its end where the last `WINDOW` characters have none."""
    end = 0
    for place in _PLACE.finditer(text, max(0, len(text) - WINDOW)):
        end = place.end()
    return end or len(text)
