"""What goes through a tokenizer comes back, and a saved tokenizer is itself or refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.config import ConfigError
from gptjax.data import cuts, libraries, sentencepieces, tokenizers
from gptjax.data.errors import DataError

DATA = Path(__file__).parents[2].parent / "shared/data"
HOSTILE = "\ue0001▁\ue000 ▁▁ \0\r\n\t<s></s><unk><0x0A>\u2585\ufeff\u200b e\u0301 \U0001f389  \n\n x\x85\u2028"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SPACED = st.text(st.sampled_from("ab1' .\n\t\r\xa0\x1c\x85\u3000▁é🎉s"), max_size=60)


def nothing():
    return iter(())


# --- round trips ---


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_comes_back_from_every_lossless_kind(text, bpe, unigram, gpt2):
    characters = tokenizers.Characters().build(lambda: iter([text, "x"]))
    for tokenizer in (tokenizers.Bytes().build(nothing), characters, bpe, unigram, gpt2):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert "".join(tokenizer.pieces(tokenizer.encode(text))).count("a") == text.count("a")


def test_reserved_and_invisible_characters_come_back(bpe, unigram, gpt2, json_file):
    file = tokenizers.TokenizerFile(path=str(json_file)).build(nothing)
    for tokenizer in (tokenizers.Bytes().build(nothing), bpe, unigram, gpt2, file):
        assert tokenizer.decode(tokenizer.encode(HOSTILE)) == HOSTILE


@settings(max_examples=300, deadline=None)
@given(text=SPACED)
def test_cutting_a_text_does_not_change_its_tokens(text, bpe, gpt2):
    assert "".join(cuts.cut(text, 1)) == text
    for tokenizer in (bpe, gpt2):
        whole = tokenizer.encode(text)
        np.testing.assert_array_equal(np.concatenate([whole[:0], *tokenizer.encode_batch(cuts.cut(text, 1))]), whole)


def test_long_texts_have_the_tokens_of_the_library_alone(bpe, gpt2, code, monkeypatch):
    text = code[:20_000]
    for size in (20, 5000):
        monkeypatch.setattr(sentencepieces, "CUT_CHARACTERS", size)
        monkeypatch.setattr(libraries, "CUT_CHARACTERS", size)
        assert bpe.encode(text).tolist() == bpe.codec.processor.encode(text)
        assert gpt2.encode(text).tolist() == gpt2.codec.library.encode(text).ids


def test_batch_equals_one_by_one_and_is_int32(bpe, gpt2, code):
    texts = ["", code[:9000], "a", HOSTILE]
    for tokenizer in (tokenizers.Bytes().build(nothing), bpe, gpt2):
        for ids, text in zip(tokenizer.encode_batch(texts), texts, strict=True):
            assert ids.dtype == np.int32
            np.testing.assert_array_equal(ids, tokenizer.encode(text))


def test_pieces_show_each_tokens_share_of_the_text(bpe, gpt2):
    for tokenizer in (tokenizers.Bytes().build(nothing), bpe, gpt2):
        ids = tokenizer.document(tokenizer.encode("the wörld 🎉"))
        pieces = tokenizer.pieces([*ids.tolist(), 100_000])
        assert len(pieces) == len(ids) + 1
        assert "".join(pieces) == "the wörld 🎉<eos><100000>"


# --- GPT-2 ---


def test_gpt2_files_give_merges_and_the_end_of_text(gpt2):
    assert gpt2.vocab_size == 256 + 7 + 1
    assert gpt2.eos_id == 263
    assert [gpt2.pieces(gpt2.encode(text)) for text in ("##", " he", "11a")] == [["##"], [" he"], ["11", "a"]]


@pytest.mark.skipif(not (DATA / "gpt2-bpe").exists(), reason="the published GPT-2 vocabulary is not on this machine")
def test_gpt2_ids_are_the_published_ones():
    gpt2 = tokenizers.GPT2BPE(folder=str(DATA / "gpt2-bpe")).build(nothing)
    assert gpt2.vocab_size == 50257
    assert gpt2.eos_id == 50256
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert gpt2.encode("Hello, world!").tolist() == [15496, 11, 995, 0]
    fox = "The quick brown fox jumps over the lazy dog"
    assert gpt2.encode(fox).tolist() == [464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290]


def test_text_that_spells_a_special_token_is_text(gpt2, json_file):
    file = tokenizers.TokenizerFile(path=str(json_file), bos=True, bos_token="<s>").build(nothing)
    assert file.bos_id == 264
    assert gpt2.eos_id not in gpt2.encode("a<|endoftext|>b")
    assert file.bos_id not in file.encode("a<s>b")


def test_tokenizer_file_neither_cuts_nor_pads_nor_adds(json_file, gpt2):
    file = tokenizers.TokenizerFile(path=str(json_file)).build(nothing)
    text = "he said: the 11 heads"
    np.testing.assert_array_equal(file.encode(text), gpt2.encode(text))
    np.testing.assert_array_equal(file.encode("a"), gpt2.encode("a"))


def test_hugging_face_names_of_the_two_files_are_read(gpt2_folder, tmp_path, gpt2):
    (tmp_path / "vocab.json").write_bytes((gpt2_folder / "encoder.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((gpt2_folder / "vocab.bpe").read_bytes())
    assert tokenizers.GPT2BPE(folder=str(tmp_path)).build(nothing).hash == gpt2.hash


# --- learning ---


def test_characters_are_sorted_by_code_point():
    tokenizer = tokenizers.Characters(eos=False).build(lambda: iter(["cab", "é\n"]))
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("\nabcé").tolist() == [0, 1, 2, 3, 4]


def test_unknown_character_is_named_with_its_offset():
    tokenizer = tokenizers.Characters().build(lambda: iter(["abc"]))
    with pytest.raises(DataError, match=r"'é' \(U\+00E9\) at offset 2 .* alphabet of 3; .* Bytes"):
        tokenizer.encode("abé")


def test_sentencepiece_learns_the_same_model_from_the_same_text(bpe, unigram, trained):
    assert trained().hash == bpe.hash
    assert trained(algorithm="unigram").hash == unigram.hash
    assert trained(max_training_bytes=20_000).hash != bpe.hash


def test_sentencepiece_vocabulary_is_what_was_asked_for(bpe, trained, code):
    assert (bpe.vocab_size, bpe.bos_id, bpe.eos_id) == (600, None, 1)
    both = trained(bos=True)
    assert (both.vocab_size, both.bos_id, both.eos_id) == (600, 1, 2)
    assert len(bpe.encode(code)) < 0.6 * len(code)


def test_training_sample_is_small_and_from_all_over_the_text():
    texts = [f"{i} " + "x" * 1000 for i in range(1000)]
    sample = sentencepieces.sample(iter(texts), 50_000)
    places = [int(part.split()[0]) for part in sample]
    assert 45_000 < sum(map(len, sample)) <= 50_000
    assert places == sorted(places)
    assert min(places) < 100
    assert max(places) > 900


def test_vocabulary_that_does_not_suit_the_text_is_refused():
    with pytest.raises(ConfigError, match=r"vocab_size=5000: Vocabulary size too high"):
        tokenizers.SentencePiece(vocab_size=5000).build(lambda: iter(["a few words"]))
    with pytest.raises(ConfigError, match="vocab_size=256 has no room"):
        tokenizers.SentencePiece(vocab_size=256)
    for kind in (tokenizers.SentencePiece(), tokenizers.Characters()):
        with pytest.raises(DataError, match="no text"):
            kind.build(nothing)


def test_wrong_files_are_refused_by_name(tmp_path, json_file):
    wrong = tmp_path / "wrong.model"
    wrong.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"wrong.model: not a sentencepiece model"):
        tokenizers.SentencePieceFile(path=str(wrong)).build(nothing)
    with pytest.raises(DataError, match=r"wrong.model: not a tokenizer.json"):
        tokenizers.TokenizerFile(path=str(wrong)).build(nothing)
    with pytest.raises(DataError, match="no such file"):
        tokenizers.GPT2BPE(folder=str(tmp_path / "nowhere")).build(nothing)
    with pytest.raises(ConfigError, match="eos_token='</s>' is not in the vocabulary"):
        tokenizers.TokenizerFile(path=str(json_file), eos_token="</s>").build(nothing)
    (tmp_path / "encoder.json").write_text('{"a": 0}')
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n")
    with pytest.raises(DataError, match="255 of the 256 bytes are not in the vocabulary"):
        tokenizers.GPT2BPE(folder=str(tmp_path)).build(nothing)


def test_half_a_surrogate_pair_is_refused(bpe):
    with pytest.raises(DataError, match=r"character 1 is U\+D800"):
        bpe.encode("a\ud800")
