"""Words are what stands between white space, and what the vocabulary does not have is one word, counted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.config import ConfigError
from gptjax.data import cuts, tokenizers
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Words

WIKITEXT = Path(__file__).parents[2].parent / "shared/data/wikitext-2"
TEXT = "the cat saw the dog \n the dog ran \n"


def learnt(text=TEXT, **fields):
    return Words(**{"eos": False, **fields}).build(lambda: iter([text]))


def test_words_are_ordered_by_count_then_by_spelling():
    assert learnt().codec.words == ("<unk>", "<eos>", "the", "dog", "cat", "ran", "saw")
    assert learnt(line_ends=False).codec.words == ("<unk>", "the", "dog", "cat", "ran", "saw")


def test_line_ends_are_words_or_white_space():
    assert learnt().encode("the dog\nran\r\n").tolist() == [2, 3, 1, 5, 1]
    assert learnt(line_ends=False).encode("the dog\nran\r\n").tolist() == [1, 2, 4]


def test_rare_words_and_those_behind_the_limit_are_unknown():
    assert learnt(min_count=2).encode("the cat saw dog fish").tolist() == [2, 0, 0, 3, 0]
    limited = learnt(vocab_size=4)
    assert (limited.vocab_size, limited.unknown_id) == (4, 0)
    assert limited.encode("the dog ran").tolist() == [2, 3, 0]
    assert limited.decode(np.array([2, 0])) == "the <unk>"


def test_unk_of_the_text_is_the_unknown_word_and_takes_no_place_of_its_own():
    tokenizer = learnt("a <unk> <unk> <unk> b\n")
    assert tokenizer.codec.words == ("<unk>", "<eos>", "a", "b")
    assert tokenizer.encode("a <unk> c").tolist() == [2, 0, 0]


def test_lower_case_reads_all_text_so():
    assert learnt("The the\n", lowercase=True).encode("THE").tolist() == [2]
    assert learnt("The the\n").encode("THE").tolist() == [0]


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(st.lists(st.sampled_from(["the", "cat", "ran", "saw"]), max_size=4), max_size=4))
def test_words_and_line_ends_come_back_with_single_spaces(lines):
    spelled = "".join(" ".join(line) + "\n" for line in lines)
    spaced = "".join("  " + " \t ".join(line) + " \n" for line in lines)
    for tokenizer in (learnt(), learnt(eos=True, bos=True)):
        assert tokenizer.decode(tokenizer.document(tokenizer.encode(spaced))) == spelled
        assert "".join(tokenizer.pieces(tokenizer.encode(spaced))) == spelled


def test_words_of_a_text_are_those_of_its_parts():
    parts = cuts.cut(TEXT * 20, 7)
    assert len(parts) > 20
    whole = learnt().encode(TEXT * 20)
    np.testing.assert_array_equal(np.concatenate(learnt().encode_batch(parts)), whole)
    assert Words(eos=False).build(lambda: iter(parts)).hash == learnt(TEXT * 20).hash


def test_saved_words_are_the_same_words(tmp_path):
    for number, tokenizer in enumerate((learnt(), learnt(lowercase=True, line_ends=False, bos=True), learnt("é 戦\n"))):
        tokenizer.save(tmp_path / str(number))
        again = tokenizers.load(tmp_path / str(number))
        assert (again.hash, again.vocab_size, again.unknown_id) == (tokenizer.hash, tokenizer.vocab_size, 0)
        np.testing.assert_array_equal(again.encode("the CAT\n é"), tokenizer.encode("the CAT\n é"))
    assert learnt().hash != learnt(lowercase=True).hash


def test_what_cannot_be_a_vocabulary_is_refused():
    with pytest.raises(DataError, match="no text to learn words from"):
        learnt(" \n")
    with pytest.raises(ConfigError, match="min_count=9: no word is so frequent, the most frequent has 3"):
        learnt(min_count=9)
    with pytest.raises(ConfigError, match="vocab_size=2 has no room"):
        Words(vocab_size=2)


def test_only_vocabularies_that_cannot_spell_all_text_have_an_unknown_id(bpe, gpt2, tmp_path):
    (tmp_path / "m.model").write_bytes(bpe.codec.model)
    file = tokenizers.SentencePieceFile(path=str(tmp_path / "m.model")).build(lambda: iter(()))
    characters = tokenizers.Characters().build(lambda: iter(["abc"]))
    assert [t.unknown_id for t in (bpe, gpt2, characters, file)] == [None, None, None, bpe.codec.processor.unk_id()]


@pytest.mark.skipif(not WIKITEXT.exists(), reason="WikiText-2 is not on this machine")
def test_wikitext_2_has_its_published_vocabulary_and_counts():
    texts = {name: (WIKITEXT / f"{name}.txt").read_text(encoding="utf-8") for name in ("train", "valid", "test")}
    tokenizer = learnt(texts["train"])
    assert tokenizer.vocab_size == 33_278
    counts = {name: Counter(tokenizer.encode(text).tolist()) for name, text in texts.items()}
    assert {name: c.total() for name, c in counts.items()} == {"train": 2_088_628, "valid": 217_646, "test": 245_569}
    assert all(c[0] == texts[name].count("<unk>") for name, c in counts.items())
