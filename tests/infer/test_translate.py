"""From a file of pairs to translations: the whole way, on sentences that can be learnt by heart."""

import itertools
import json

import numpy as np
import pytest

from gptjax import launch, trained
from gptjax.config import Checkpoints, ConfigError, Corpus, Data, Evaluation, Run
from gptjax.data.errors import DataError
from gptjax.data.stream import fingerprint, stream
from gptjax.data.tokenizers import Bytes
from gptjax.evals.translation import Translated, summary
from gptjax.infer.beam import Beam
from gptjax.infer.sample import Decoding
from gptjax.infer.translate import as_source, looks, translate
from gptjax.judging import judge, scored
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.objectives.forcing import LinearDecay
from gptjax.objectives.seq2seq import Seq2Seq
from gptjax.train.optim import Adam
from gptjax.train.schedules import Linear

WHO = {"I": "je", "you": "tu", "he": "il", "she": "elle"}
WHAT = {"eat": "mange une pomme", "see": "vois le chat", "go": "vais au lit", "do": "fais ce que", "am": "suis ici et"}
PAIRS = {f"{who} {what}": f"{WHO[who]} {WHAT[what]}" for who, what in itertools.product(WHO, WHAT)}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A translator of twenty pairs, trained with scheduled sampling."""
    folder = tmp_path_factory.mktemp("translate")
    path = folder / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS.items()), encoding="utf-8")
    run = Run(
        model=RecurrentTranslator(width=48, context=24),
        tokenizer=Bytes(bos=True),
        objective=Seq2Seq(forcing=LinearDecay(steps=150, floor=0.5)),
        optimizer=Adam(learning_rate=1e-2),
        schedule=Linear(),
        data=Data(corpora=(Corpus(str(path)),), validation_fraction=0.0),
        steps=150,
        batch_rows=20,
        log_every_steps=75,
        evaluation=Evaluation(every_steps=150, rows=20),
        checkpoints=Checkpoints(every_steps=150),
    )
    launch.launch(run, folder / "run", folder / "cache", lambda line: None)
    return trained.load(folder / "run", lambda line: None)


def made(learnt, texts, beams):
    how = Beam(beams=beams)
    return translate(learnt.model, learnt.params["model"], learnt.tokenizer, texts, how, rows=8)


def test_an_update_sees_its_own_step_of_the_curriculum(learnt, tmp_path):
    run, objective = learnt.run, learnt.objective
    sources = run.objective.sources(run.data, learnt.tokenizer, learnt.model.context, run.seed, tmp_path)
    rows = stream(sources.train, sources.weights, run.seed, run.batch_rows)
    lines = map(json.loads, (learnt.folder / "metrics.jsonl").read_text().splitlines())
    logged = {line["step"]: line["batch"] for line in lines if "batch" in line}
    assert len(logged) == 3
    for step, told in logged.items():
        batch = objective.batch(rows(step - 1))
        assert told == fingerprint(objective.scheduled(batch, step - 1))
        assert step == 1 or told != fingerprint(batch)


@pytest.mark.parametrize("beams", [1, 3])
def test_twenty_pairs_are_learnt_by_heart(learnt, beams):
    found = zip(PAIRS, made(learnt, list(PAIRS), beams), strict=True)
    scores = summary([Translated(source, text, (PAIRS[source],)) for source, text in found])
    assert scores["all"]["bleu"] == pytest.approx(100)


def test_where_a_trained_translator_looks_is_a_row_for_each_target_token(learnt):
    weights_TS = looks(learnt.model, learnt.params["model"], learnt.tokenizer, "he eat", "il mange")
    assert weights_TS.shape == (len("il mange") + 1, len(as_source(learnt.tokenizer, "he eat"))) == (9, 7)
    np.testing.assert_allclose(weights_TS.sum(1), 1, rtol=1e-5)


def test_a_translator_is_asked_for_no_continuation_and_no_surprisal(learnt, tmp_path):
    folder = learnt.folder
    (tmp_path / "text.txt").write_text("one two")
    for asked in (
        lambda: judge.continued(folder, ["one"], 4, Decoding(), 0, print),
        lambda: judge.searched(folder, "one", 4, Beam(2), print),
        lambda: scored.read(folder, str(tmp_path / "text.txt"), None, tmp_path, print),
    ):
        with pytest.raises(ConfigError, match="RecurrentTranslator has no text to continue"):
            asked()


def test_a_text_beyond_the_context_is_refused(learnt):
    with pytest.raises(DataError, match="source 1 has 25 tokens; there is room for 1 to 24"):
        made(learnt, ["he eat", "x" * 24], 1)
    assert made(learnt, [], 1) == []
