"""A tokenizer: text to token ids and back, with the policy of a document's ends, as one value with one hash."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from gptjax.data import utf8
from gptjax.data.errors import DataError

FORMAT = 1
MANIFEST = "manifest.json"


class Codec(Protocol):
    """Text to ids in [0, size) and back; knows nothing of documents. `bos` and `eos` are ids of its own, if any."""

    @property
    def kind(self) -> str:
        """What `load` reads it by."""

    @property
    def size(self) -> int:
        """Ids are below it."""

    @property
    def bos(self) -> int | None:
        """Its own id of a beginning of text."""

    @property
    def eos(self) -> int | None:
        """Its own id of an end of text."""

    @property
    def unknown(self) -> int | None:
        """Its own id of what it cannot spell; None where it spells all text or refuses it."""

    @property
    def specials(self) -> Mapping[str, int]:
        """The ids that no text becomes, by what is written for them."""

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """int32 ids of each text."""

    def decode(self, ids: np.ndarray) -> str:
        """The text of these ids."""

    def pieces(self, ids: np.ndarray) -> list[str]:
        """What each id adds to the text."""

    def files(self) -> dict[str, bytes]:
        """Name -> content; all there is to know, and the same wherever it is made."""


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A codec with the policy of a document's ends and the padding of its vocabulary; never changes."""

    codec: Codec
    """Text to ids."""
    bos: bool
    """Every document begins with `bos_id`."""
    eos: bool
    """Every document ends with `eos_id`."""
    pad_vocab_multiple: int
    """`padded` vocabularies are a multiple of it."""

    @cached_property
    def bos_id(self) -> int | None:
        """The id before every document: the codec's own, or one behind its vocabulary; None by policy."""
        if not self.bos:
            return None
        return self.codec.size if self.codec.bos is None else self.codec.bos

    @cached_property
    def eos_id(self) -> int | None:
        """The id after every document: the codec's own, or one behind its vocabulary and bos; None by policy."""
        if not self.eos:
            return None
        return self.codec.size + (self.bos_id == self.codec.size) if self.codec.eos is None else self.codec.eos

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for whatever the vocabulary cannot spell; None where it spells all text or refuses it."""
        return self.codec.unknown

    @cached_property
    def specials(self) -> Mapping[str, int]:
        """The codec's ids that no text becomes (an end of text, a turn's beginning), by what is written for them."""
        return self.codec.specials

    @cached_property
    def eos_text(self) -> str | None:
        """What is written for `eos_id`, where something is."""
        return next((text for text, id in self.specials.items() if id == self.eos_id), None)

    @cached_property
    def vocab_size(self) -> int:
        """Ids are below it, bos and eos included."""
        return max(self.codec.size, 1 + (self.bos_id or 0), 1 + (self.eos_id or 0))

    def padded(self, vocab_size: int) -> int:
        """Rows of the model for a vocabulary of this size: this tokenizer's and an objective's own ids."""
        return -(-vocab_size // self.pad_vocab_multiple) * self.pad_vocab_multiple

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) over the codec's kind and files, the policy, and the padding."""
        digest = hashlib.sha256(json.dumps(self._policy(), sort_keys=True).encode())
        for name, content in sorted(self.codec.files().items()):
            digest.update(f"\n{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def encode(self, text: str) -> np.ndarray:
        """int32 ids [n] of the text alone, no bos, no eos; raises `DataError` for what the vocabulary cannot spell."""
        return self.encode_batch([text])[0]

    def encode_written(self, text: str) -> np.ndarray:
        """int32 ids of a text like a chat template's, in which what is written for a special token becomes that."""
        if not self.specials:
            return self.encode(text)
        longest_first = sorted(self.specials, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        return self.encode_parts([parts], self.specials)[0]

    def encode_parts(self, divided: list[list[str]], tokens: Mapping[str, int]) -> list[np.ndarray]:
        """int32 ids of each divided text: at odd places stands what is written for one of `tokens`, else text."""
        texts = iter(self.encode_batch([text for parts in divided for text in parts[::2]]))
        return [
            np.concatenate([np.array([tokens[p]], np.int32) if n % 2 else next(texts) for n, p in enumerate(parts)])
            for parts in divided
        ]

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """int32 ids of each text alone, on all cores where the library has threads."""
        return self.codec.encode_batch([utf8.check(text, f"text {text[:20]!a}") for text in texts])

    def document(self, ids: np.ndarray) -> np.ndarray:
        """A whole document's ids: between bos and eos as the policy has it."""
        ends = [np.array([] if id is None else [id], np.int32) for id in (self.bos_id, self.eos_id)]
        return np.concatenate([ends[0], ids, ends[1]])

    def decode(self, ids: np.ndarray) -> str:
        """The text; bos, eos and ids behind the vocabulary (an objective's own) stand for none."""
        ids = self._checked(ids)
        return self.codec.decode(ids[self._is_text(ids)])

    def pieces(self, ids: np.ndarray) -> list[str]:
        """What each token shows as: its own share of the text, or <bos>, <eos>, <id>.

        A character of several tokens shows at its last one.
        """
        ids = self._checked(ids)
        is_text = self._is_text(ids)
        texts = iter(self.codec.pieces(ids[is_text]))
        names = {self.bos_id: "<bos>", self.eos_id: "<eos>"}
        shown = zip(ids.tolist(), is_text.tolist(), strict=True)
        return [next(texts) if text else names.get(id, f"<{id}>") for id, text in shown]

    def save(self, folder: Path) -> None:
        """Write the tokenizer as a folder that is there whole or not at all.

        Raises `DataError` where the folder holds anything but this tokenizer already.
        """
        manifest = {**self._policy(), "hash": self.hash}
        contents = {**self.codec.files(), MANIFEST: json.dumps(manifest, indent=2).encode()}
        if folder.exists() and (there := contents_of(folder)):
            if there != contents:
                raise DataError(f"{folder}: holds something else than this tokenizer; name another folder")
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, content in contents.items():
                with (making / name).open("wb") as file:
                    file.write(content)
                    os.fsync(file.fileno())
            making.chmod(0o755)  # mkdtemp makes it private
            making.rename(folder)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise

    def _policy(self) -> dict[str, int | str]:
        policy = {"bos": self.bos, "eos": self.eos, "pad_vocab_multiple": self.pad_vocab_multiple}
        return {"format": FORMAT, "kind": self.codec.kind, **policy}

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int64)
        if ids.size and ids.min() < 0:
            raise DataError(f"token id {ids.min()} is negative; ids are 0 to {self.vocab_size - 1}")
        return ids

    def _is_text(self, ids: np.ndarray) -> np.ndarray:
        ends = [id for id in (self.bos_id, self.eos_id) if id is not None]
        return (ids < self.codec.size) & ~np.isin(ids, ends)


def contents_of(folder: Path) -> dict[str, bytes]:
    """Name -> content of every file of a saved tokenizer; empty where there is no folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
