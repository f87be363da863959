"""Claims about the translation experiment."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from gptjax import arguments, config
from gptjax.data.tokenizers import SentencePiece
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "translation.py"


@pytest.fixture(scope="module")
def experiment():
    return arguments.load_file(EXPERIMENT)


def test_every_row_is_a_target_that_survives_json(experiment):
    for name, run in experiment.ROWS.items():
        assert arguments.target(f"{EXPERIMENT}:{name}") == run
        assert config.from_json(config.to_json(run)) == run


def test_rows_differ_in_model_and_forcing_alone_and_have_as_many_parameters(experiment):
    runs = list(experiment.ROWS.values())
    assert len({replace(run, model=runs[0].model, objective=runs[0].objective) for run in runs}) == 1
    counts = [run.model.parameter_count(run.tokenizer.vocab_size) for run in runs]
    assert max(counts) / min(counts) < 1.01


def test_short_and_long_sentences_are_divided_and_none_is_lost(experiment, tmp_path):
    short, long = "I see.\tJe vois.", "I do not know what you want me to do now.\tJe ne sais pas."
    (tmp_path / "pairs.tsv").write_text(f"{long}\n{short}\n", encoding="utf-8")
    data = experiment.divided(tmp_path / "pairs.tsv", tmp_path)
    texts = [Path(corpus.source).read_text(encoding="utf-8") for corpus in data.corpora]
    assert texts == [f"{short}\n", f"{long}\n"]


@pytest.mark.parametrize("length", [3, 40])
def test_a_picture_is_drawn_of_a_translation_that_fills_its_row_or_does_not(experiment, tmp_path, length):
    tokenizer = SentencePiece(vocab_size=270, bos=True).build(lambda: iter(["I see.", "x y z"] * 9))
    translator = RecurrentTranslator(width=8, context=24, attention="additive").build(
        tokenizer.vocab_size, tokenizer.vocab_size
    )
    params = {"model": translator.init(jax.random.key(0))}
    found = SimpleNamespace(model=translator, params=params, tokenizer=tokenizer)
    experiment.draw(found, {"I see.": "x" * length}, tmp_path / "pictures")
    drawn = (tmp_path / "pictures" / "attention-1.svg").read_text(encoding="utf-8")
    assert drawn.count('text-anchor="end"') == min(len(tokenizer.encode("x" * length)) + 1, 24)
