"""A tokenizer is its codec with the ends of documents, and a saved one is itself or refused."""

import numpy as np
import pytest

from gptjax.data import tokenizers
from gptjax.data.errors import DataError


def nothing():
    return iter(())


def test_extra_ids_stand_behind_the_vocabulary():
    def build(**policy):
        return tokenizers.Bytes(**policy).build(nothing)

    assert [build(eos=False).vocab_size, build().vocab_size, build(bos=True).vocab_size] == [256, 257, 258]
    both = build(bos=True, pad_vocab_multiple=128)
    assert (both.bos_id, both.eos_id, both.padded(both.vocab_size)) == (256, 257, 384)
    assert both.document(both.encode("a")).tolist() == [256, 97, 257]
    assert both.decode(np.array([256, 97, 257, 300])) == "a"
    with pytest.raises(DataError, match="token id -1 is negative"):
        both.decode(np.array([97, -1]))


def test_saved_tokenizer_is_the_same_tokenizer(tmp_path, bpe, gpt2, json_file):
    (tmp_path / "m.model").write_bytes(bpe.codec.model)
    kinds = [
        tokenizers.Bytes(bos=True, pad_vocab_multiple=64).build(nothing),
        tokenizers.Characters().build(lambda: iter(["the héad"])),
        bpe,
        tokenizers.SentencePieceFile(path=str(tmp_path / "m.model")).build(nothing),
        gpt2,
        tokenizers.TokenizerFile(path=str(json_file), bos=True, bos_token="<s>").build(nothing),
    ]
    assert len({tokenizer.hash for tokenizer in kinds}) == len(kinds)
    for number, tokenizer in enumerate(kinds):
        folder = tmp_path / "saved" / str(number)
        tokenizer.save(folder)
        tokenizer.save(folder)  # again is harmless
        again = tokenizers.load(folder)
        assert (again.hash, again.vocab_size, again.bos_id) == (tokenizer.hash, tokenizer.vocab_size, tokenizer.bos_id)
        assert again.padded(1) == tokenizer.padded(1)
        np.testing.assert_array_equal(again.encode("the head"), tokenizer.encode("the head"))
    assert not [path for path in (tmp_path / "saved").iterdir() if path.name.startswith(".")]


def test_policy_and_padding_are_part_of_the_hash():
    fields = [{}, {"bos": True}, {"eos": False}, {"pad_vocab_multiple": 2}]
    assert len({tokenizers.Bytes(**given).build(nothing).hash for given in fields}) == 4


def test_damaged_or_missing_tokenizer_is_refused(tmp_path):
    alphabet = tokenizers.Characters().build(lambda: iter(["abc"]))
    alphabet.save(tmp_path / "t")
    with pytest.raises(DataError, match="holds something else"):
        tokenizers.Bytes().build(nothing).save(tmp_path / "t")
    file = tmp_path / "t" / "alphabet.json"
    file.write_text("[97, 98, 100]")
    with pytest.raises(DataError, match="not what its hash says"):
        tokenizers.load(tmp_path / "t")
    file.unlink()
    with pytest.raises(DataError, match="damaged"):
        tokenizers.load(tmp_path / "t")
    with pytest.raises(DataError, match="no tokenizer there"):
        tokenizers.load(tmp_path / "nowhere")
