"""Claims about a vocabulary that nobody has built: its size is known, given, or asked for."""

from dataclasses import replace

import pytest
from targets import small

from gptjax.config import ConfigError
from gptjax.data.tokenizers import GPT2BPE, Bytes, Characters, SentencePiece
from gptjax.plan import vocabulary


def sized(config, size=None):
    tokenizer, said = vocabulary.tokenizer(replace(small(), tokenizer=config), size)
    return tokenizer.vocab_size, tokenizer.padded(tokenizer.vocab_size), said


def test_a_vocabulary_is_as_large_as_its_tokenizer_will_be(tmp_path):
    assert sized(Bytes(bos=True, eos=True))[:2] == (258, 258)
    assert sized(SentencePiece(vocab_size=1000, pad_vocab_multiple=128))[:2] == (1000, 1024)
    assert sized(GPT2BPE(folder=str(tmp_path / "none"), pad_vocab_multiple=128))[:2] == (50_257, 50_304)
    assert "published" in sized(GPT2BPE(folder=str(tmp_path / "none")))[2]
    assert sized(Characters(), size=65)[::2] == (65, "--vocab-size")


def test_a_vocabulary_that_only_the_text_knows_must_be_given():
    with pytest.raises(ConfigError, match="--vocab-size"):
        sized(Characters())
