"""Small tokenizers of every kind that learns or reads files, shared by the tests of the data room."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tokenizers as library

from gptjax.data import tokenizers
from gptjax.data.tokenizer import Tokenizer


def nothing() -> Iterator[str]:
    return iter(())


@pytest.fixture(scope="session")
def code() -> str:
    return Path(argparse.__file__).read_text()


@pytest.fixture(scope="session")
def trained(code) -> Callable[..., Tokenizer]:
    """A sentencepiece model of 600 ids learnt from the code."""
    return lambda **fields: tokenizers.SentencePiece(vocab_size=600, **fields).build(lambda: iter([code]))


@pytest.fixture(scope="session")
def bpe(trained) -> Tokenizer:
    return trained()


@pytest.fixture(scope="session")
def unigram(trained) -> Tokenizer:
    return trained(algorithm="unigram")


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory) -> Path:
    """A small vocabulary in GPT-2's two files; "# #" is a merge, as it is in GPT-2's own."""
    folder = tmp_path_factory.mktemp("gpt2")
    merges = [("h", "e"), ("#", "#"), ("Ġ", "he"), ("Ġ", "Ġ"), ("Ċ", "Ċ"), ("a", "b"), ("1", "1")]
    words = sorted(library.pre_tokenizers.ByteLevel.alphabet()) + [a + b for a, b in merges] + ["<|endoftext|>"]
    (folder / "encoder.json").write_text(json.dumps({word: id for id, word in enumerate(words)}))
    (folder / "vocab.bpe").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return folder


@pytest.fixture(scope="session")
def gpt2(gpt2_folder) -> Tokenizer:
    return tokenizers.GPT2BPE(folder=str(gpt2_folder)).build(nothing)


@pytest.fixture
def json_file(gpt2, tmp_path) -> Path:
    """A tokenizer.json that would cut texts short, pad them, and put special tokens around and into them."""
    full = library.Tokenizer.from_str(gpt2.codec.library.to_str())
    full.add_special_tokens(["<s>"])
    full.post_processor = library.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 264)])
    full.enable_truncation(4)
    full.enable_padding(length=9)
    full.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"
