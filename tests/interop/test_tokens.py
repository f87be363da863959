"""Claims about tokenizers that travel with a model."""

import json

import numpy as np
import pytest
import tokenizers as library

from gptjax.data.errors import DataError
from gptjax.data.tokenizers import GPT2BPE, Bytes, Characters, SentencePiece, Words
from gptjax.interop import tokens
from gptjax.interop.tokens import FolderTokenizer

TEXT = "First Citizen:\nBefore we proceed, hear me   speak… naïve\t🙂 ▁ \ue000\n" * 3


def learnt(config):
    return config.build(lambda: iter([TEXT]))


def gpt2_files(folder):
    letters = library.pre_tokenizers.ByteLevel.alphabet()
    words = [*sorted(letters), "he", "Ġhe", "<|endoftext|>"]
    vocabulary = json.dumps({word: id for id, word in enumerate(words)})
    (folder / "vocab.json").write_text(vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nĠ he\n")
    return folder


@pytest.fixture
def tokenizer(request, tmp_path):
    if request.param == "gpt2":
        return learnt(GPT2BPE(folder=str(gpt2_files(tmp_path))))
    kinds = {"bytes": Bytes(), "bytes with bos": Bytes(bos=True), "characters": Characters()}
    return learnt(kinds.get(request.param) or SentencePiece(vocab_size=300, bos=True))


@pytest.mark.parametrize("tokenizer", ["bytes", "bytes with bos", "characters", "gpt2", "sentencepiece"], indirect=True)
def test_tokenizer_json_gives_the_same_ids_and_the_same_text(tokenizer):
    files, note = tokens.files(tokenizer, ("start", "mask"), context=64)
    assert note == "tokenizer.json"
    made = library.Tokenizer.from_str(files["tokenizer.json"].decode())
    ids = tokenizer.encode(TEXT)
    np.testing.assert_array_equal(made.encode(TEXT, add_special_tokens=False).ids, ids)
    assert made.decode(ids.tolist(), skip_special_tokens=False) == TEXT
    settings = json.loads(files["tokenizer_config.json"])
    for name, id in (("bos_token", tokenizer.bos_id), ("eos_token", tokenizer.eos_id)):
        assert (made.token_to_id(settings[name]) if name in settings else None) == id
    assert [made.token_to_id(f"<{name}>") for name in ("start", "mask")] == [
        tokenizer.vocab_size, tokenizer.vocab_size + 1,
    ]  # fmt: skip
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    np.testing.assert_array_equal(made.encode(TEXT).ids, [*begin, *ids])


@pytest.mark.parametrize("tokenizer", ["bytes with bos", "characters", "gpt2", "sentencepiece"], indirect=True)
def test_a_tokenizer_json_reads_back_as_the_same_ids_and_ends(tokenizer, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in tokens.files(tokenizer, (), context=64)[0].items():
        (folder / name).write_bytes(content)
    read = tokens.read(folder)
    np.testing.assert_array_equal(read.encode(TEXT), tokenizer.encode(TEXT))
    assert (read.bos_id, read.eos_id) == (tokenizer.bos_id, tokenizer.eos_id)
    config = FolderTokenizer(folder=str(folder), bos=read.bos, eos=read.eos)
    assert config.build(lambda: iter(())).hash == read.hash


@pytest.mark.parametrize("tokenizer", ["bytes with bos", "characters", "sentencepiece"], indirect=True)
def test_transformers_itself_reads_the_tokenizer(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    for name, content in tokens.files(tokenizer, (), context=64)[0].items():
        (tmp_path / name).write_bytes(content)
    made = transformers.AutoTokenizer.from_pretrained(tmp_path)
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    assert made(TEXT)["input_ids"] == [*begin, *tokenizer.encode(TEXT).tolist()]
    assert made.decode(made(TEXT)["input_ids"], skip_special_tokens=True) == TEXT
    assert (made.bos_token_id, made.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)


def test_unknown_characters_are_refused_by_the_written_tokenizer_too():
    made = library.Tokenizer.from_str(tokens.files(learnt(Characters()), (), 64)[0]["tokenizer.json"].decode())
    with pytest.raises(Exception, match="UNK"):
        made.encode("Z")


def test_a_kind_without_a_like_is_said():
    files, note = tokens.files(learnt(Words()), (), context=64)
    assert files == {}
    assert "no tokenizer.json can be made" in note
    files, note = tokens.files(learnt(SentencePiece(vocab_size=291, algorithm="unigram")), (), context=64)
    assert files.keys() == {"tokenizer.model"}
    assert "no tokenizer.json can be made" in note


def test_gpt2_files_are_read_with_their_end_of_text(tmp_path):
    read = tokens.read(gpt2_files(tmp_path))
    assert read.codec.kind == "gpt2"
    assert (read.bos_id, read.eos_id) == (None, 258)


def test_a_folder_without_a_tokenizer_says_what_one_is(tmp_path):
    with pytest.raises(DataError, match=r"holds no tokenizer \(tokenizer\.json"):
        tokens.read(tmp_path)


def test_a_damaged_tokenizer_is_refused_by_name(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer\.json"):
        tokens.read(tmp_path)
