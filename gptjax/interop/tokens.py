"""Tokenizers of Hugging Face folders, in and out; beside them gptjax's own files, which lose nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers as library
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from gptjax.config import TokenizerConfig
from gptjax.data import libraries, sentencepieces
from gptjax.data import tokenizers as saved
from gptjax.data.alphabets import CharacterCodec
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.interop.fields import read_json
from gptjax.interop.pieces import converted

OWN = "gptjax_tokenizer"
"""The folder that `Tokenizer.save` writes; read before anything else."""
SETTINGS = "tokenizer_config.json"


@dataclass(frozen=True, kw_only=True)
class FolderTokenizer(TokenizerConfig):
    """The tokenizer of a Hugging Face folder."""

    folder: str
    """Holds tokenizer.json, or vocab.json and merges.txt, or tokenizer.model."""

    def build(self, documents: Any) -> Tokenizer:
        """The tokenizer; `documents` is not read. Raises `DataError` where the folder has none."""
        return Tokenizer(read(Path(self.folder)).codec, self.bos, self.eos, self.pad_vocab_multiple)


def read(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, with the document policy that its files tell.

    A document ends in the end-of-text token where the vocabulary has one, and begins with the beginning-of-text token
    where the files put it before a text. Raises `DataError` where there is no tokenizer that can be read.
    """
    if (folder / OWN).is_dir():
        return saved.load(folder / OWN)
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    bos, eos = _text(settings, "bos_token"), _text(settings, "eos_token")
    if (path := folder / "tokenizer.json").is_file():
        content = path.read_bytes()
        codec = libraries.from_json(content, bos, eos, str(path))
        around = library.Tokenizer.from_str(content.decode()).encode("", add_special_tokens=True).ids
        return Tokenizer(codec, codec.bos is not None and around[:1] == [codec.bos], codec.eos is not None, 1)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        contents = [(folder / name).read_bytes() for name in ("vocab.json", "merges.txt")]
        plain = libraries.gpt2(contents[0], contents[1], str(folder))
        return Tokenizer(plain, False, plain.eos is not None, 1)
    if (path := folder / "tokenizer.model").is_file():
        pieces = sentencepieces.read(path.read_bytes(), lossless=False, origin=str(path))
        begins = pieces.bos is not None and settings.get("add_bos_token", True) is True
        return Tokenizer(pieces, begins, pieces.eos is not None, 1)
    raise DataError(f"{folder}: holds no tokenizer (tokenizer.json, vocab.json and merges.txt, or tokenizer.model)")


def special_id(folder: Path, tokenizer: Tokenizer, name: str, usual: str) -> int:
    """The id of a special token ("mask_token"), by its text in the settings or else the usual one.

    Raises `DataError` where the vocabulary does not have it.
    """
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    text = _text(settings, name) or usual
    codec = tokenizer.codec
    id = codec.library.token_to_id(text) if isinstance(codec, libraries.LibraryCodec) else None
    if id is None:
        raise DataError(f"{folder}: its tokenizer has no {text}, which is its {name}")
    return id


def _text(settings: dict[str, Any], name: str) -> str | None:
    """A special token's text: a string, or an object that holds one."""
    value = settings.get(name)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def files(tokenizer: Tokenizer, specials: tuple[str, ...], context: int) -> tuple[dict[str, bytes], str]:
    """(name -> content, what was made): the files that transformers reads, as far as there are any for this kind.

    `specials` are an objective's own tokens, whose ids follow the tokenizer's.
    """
    kind = tokenizer.codec.kind
    made = _library(tokenizer)
    if made is None and kind.startswith("sentencepiece"):
        model = tokenizer.codec.files()["sentencepiece.model"]
        return {"tokenizer.model": model}, "tokenizer.model alone: no tokenizer.json can be made of this model"
    texts = None if made is None else _added(made, tokenizer, specials)
    if made is None or texts is None:
        return {}, f"no tokenizer.json can be made of this tokenizer (kind {kind}); {OWN}/ holds it for gptjax"
    if tokenizer.bos_id in texts and kind != "tokenizer.json":
        first = texts[tokenizer.bos_id]
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, tokenizer.bos_id)]
        )
    ends = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **{name: texts[id] for name, id in ends.items() if id is not None},
    }
    contents = {"tokenizer.json": made.to_str(), SETTINGS: json.dumps(settings, indent=2)}
    return {name: content.encode() for name, content in contents.items()}, "tokenizer.json"


def _library(tokenizer: Tokenizer) -> library.Tokenizer | None:
    """A tokenizer of the library that gives the same ids; None for kinds that it has no like of."""
    codec = tokenizer.codec
    if codec.kind == "tokenizer.json":
        return library.Tokenizer.from_str(codec.files()["tokenizer.json"].decode())
    if isinstance(codec, libraries.LibraryCodec):
        return library.Tokenizer.from_str(codec.library.to_str())
    if isinstance(codec, sentencepieces.SentencePieceCodec):
        return converted(codec)
    if codec.kind == "bytes":
        made = library.Tokenizer(models.BPE(vocab=_byte_letters(), merges=[]))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.decoder = decoders.ByteLevel()
        return made
    if isinstance(codec, CharacterCodec):
        letters = {letter: id for id, letter in enumerate(codec.pieces(np.arange(codec.size)))}
        made = library.Tokenizer(models.WordLevel(letters, unk_token="<unk>"))  # absent: other letters are refused
        made.pre_tokenizer = pre_tokenizers.Split(library.Regex(r"[\s\S]"), "isolated")
        made.decoder = decoders.Fuse()
        return made
    return None


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level vocabularies write for each byte: itself where it prints, else one from U+0100 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _added(made: library.Tokenizer, tokenizer: Tokenizer, specials: tuple[str, ...]) -> dict[int, str] | None:
    """The special tokens' texts by id, added behind the vocabulary in order of id; None where one is taken."""
    ends = {tokenizer.bos_id: "<bos>", tokenizer.eos_id: "<eos>"}
    wanted = {id: made.id_to_token(id) or name for id, name in ends.items() if id is not None}
    wanted |= {tokenizer.vocab_size + n: f"<{name}>" for n, name in enumerate(specials)}
    made.add_special_tokens([AddedToken(wanted[id], special=True, normalized=False) for id in sorted(wanted)])
    return wanted if all(made.token_to_id(text) == id for id, text in wanted.items()) else None
