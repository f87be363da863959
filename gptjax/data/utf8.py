"""UTF-8 in and out of files: strict, streamed, and with the offset of the first wrong byte."""

import codecs
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gptjax.data import cuts
from gptjax.data.errors import DataError

PART_BYTES = 1 << 20
"""Bytes of a text file that are held at once."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading bytes; raises `DataError` where the system will not open or read it."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def parts(path: Path) -> Iterator[str]:
    """The text of a file in order, in parts of about `PART_BYTES` cut where tokens cannot cross (`cuts`).

    Nothing is translated: the parts, joined and encoded, are the file's bytes. Memory does not grow with the file.
    """
    held, rest, offset = "", b"", 0
    with opened(path) as file:
        while block := file.read(PART_BYTES):
            text, rest, offset = _decode(rest + block, path, offset, last=False)
            held += text
            place = cuts.last(held)
            yield held[:place]
            held = held[place:]
        held += _decode(rest, path, offset, last=True)[0]
    if held:
        yield held


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text with its line end) for each line of a file; a byte-order mark at its start is dropped."""
    offset = 0
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            text = _decode(line, f"{path}:{number}", offset, last=True)[0]
            yield number, text.removeprefix("\ufeff") if number == 1 else text
            offset += len(line)


def check(text: str, origin: str) -> str:
    """`text` itself; raises `DataError` where it holds half a surrogate pair, which no UTF-8 can spell."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            code = f"U+{ord(text[error.start]):04X}"
            raise DataError(
                f"{origin}: character {error.start} is {code}, half of a surrogate pair and no text; remove it"
            ) from None
    return text


def pieces(spellings: Iterable[bytes]) -> list[str]:
    """What each of these byte strings adds to their text: a character shows where its last byte comes.

    Wrong bytes show as U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(spelling) for spelling in spellings]


def _decode(data: bytes, origin: Path | str, offset: int, last: bool) -> tuple[str, bytes, int]:
    """(text, bytes of an unfinished character, their offset in the file)."""
    try:
        text, used = codecs.utf_8_decode(data, "strict", last)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{origin}: invalid UTF-8 at byte offset {offset + error.start} (0x{data[error.start]:02X}); "
            "save the file as UTF-8, or name only text files"
        ) from None
    return text, data[used:], offset + used
