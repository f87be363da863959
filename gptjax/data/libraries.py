"""Vocabularies of the `tokenizers` library: GPT-2's byte-level BPE from its two files, and any `tokenizer.json`."""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tokenizers

from gptjax.config import ConfigError
from gptjax.data import cuts
from gptjax.data.errors import DataError

CUT_CHARACTERS = 16384
"""GPT-2 encodes longer texts in parts of this size: the same tokens, several times as fast."""
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, eq=False)
class LibraryCodec:
    """A tokenizer of the library. No text becomes a special token by looking like one."""

    kind: str
    """ "gpt2" or "tokenizer.json"."""
    library: tokenizers.Tokenizer
    contents: dict[str, bytes]
    """The files that it was read from."""
    bos: int | None
    """The vocabulary's own id of a beginning of text, if it has one."""
    eos: int | None
    """The vocabulary's own id of an end of text, if it has one."""

    @cached_property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.library.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def unknown(self) -> int | None:
        """The id of the vocabulary's unknown token, if its model has one."""
        token = getattr(self.library.model, "unk_token", None)
        return None if token is None else self.library.token_to_id(token)

    @cached_property
    def specials(self) -> dict[str, int]:
        """The tokens that are set apart from text."""
        if self.kind == "gpt2":
            return {} if self.eos is None else {END_OF_TEXT: self.eos}
        added = self.library.get_added_tokens_decoder().items()
        return {token.content: id for id, token in added if token.special}

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The tokens of each text, on all cores."""
        parts = [cuts.cut(text, CUT_CHARACTERS) if self.kind == "gpt2" else [text] for text in texts]
        flat = [part for of_text in parts for part in of_text]
        encoded = iter(self.library.encode_batch_fast(flat, add_special_tokens=False) if flat else [])
        nothing = np.zeros(0, np.int32)
        return [
            np.concatenate([nothing, *(np.array(next(encoded).ids, np.int32) for _ in of_text)]) for of_text in parts
        ]

    def decode(self, ids: np.ndarray) -> str:
        """The text as the library spells it."""
        return self.library.decode(ids.tolist(), skip_special_tokens=False)

    def pieces(self, ids: np.ndarray) -> list[str]:
        """What each id adds to the text; nothing while a character is unfinished."""
        stream = tokenizers.decoders.DecodeStream(skip_special_tokens=False)
        return [stream.step(self.library, id) or "" for id in ids.tolist()]

    def files(self) -> dict[str, bytes]:
        """The files that `gpt2` or `from_json` read."""
        return self.contents


def gpt2(encoder: bytes, merges: bytes, origin: str) -> LibraryCodec:
    """Byte-level BPE from encoder.json and vocab.bpe; raises `DataError` naming `origin` where they are not such."""
    try:
        vocabulary = json.loads(encoder)
        lines = merges.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
        split = [line.split(" ") for line in lines[lines[0].startswith("#version") :]]
        pairs = [(left, right) for left, right in split]
        library = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=pairs))
    except Exception as error:  # the library raises bare Exception for merges outside the vocabulary
        raise DataError(f"{origin}: not the files of a GPT-2 vocabulary ({error})") from None
    missing = sorted(set(tokenizers.pre_tokenizers.ByteLevel.alphabet()) - set(vocabulary))
    if missing:
        raise DataError(
            f"{origin}: {len(missing)} of the 256 bytes are not in the vocabulary (the first is {missing[0]!r})"
        )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    contents = {"encoder.json": encoder, "vocab.bpe": merges}
    return LibraryCodec("gpt2", library, contents, None, vocabulary.get(END_OF_TEXT))


def from_json(content: bytes, bos: str | None, eos: str | None, origin: str) -> LibraryCodec:
    """Any `tokenizer.json`; `bos` and `eos` are the texts of its tokens that begin and end a document, if it has them.

    Its own padding, truncation and special tokens around a text are off. Raises `DataError` naming
    `origin` where it is not one, `ConfigError` where it has no such token.
    """
    try:
        library = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
        raise DataError(f"{origin}: not a tokenizer.json ({error})") from None
    library.no_padding()
    library.no_truncation()
    library.encode_special_tokens = True
    ids = [None if token is None else library.token_to_id(token) for token in (bos, eos)]
    for name, token, id in zip(("bos_token", "eos_token"), (bos, eos), ids, strict=True):
        if token is not None and id is None:
            raise ConfigError(f"{name}={token!r} is not in the vocabulary of {origin}; None adds a token behind it")
    contents = {"tokenizer.json": content, "specials.json": json.dumps([bos, eos]).encode()}
    return LibraryCodec("tokenizer.json", library, contents, *ids)
