"""Claims about a text as a run reads it."""

import numpy as np
import pytest
from untrained import write

from gptjax.config import Data, Evaluation
from gptjax.data.tokenizers import Bytes
from gptjax.judging import judge, scored
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent

NETWORK = Recurrent(cell="tanh", layers=1, width=8, embed_width=8, context=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A recurrent run that is judged with its state carried."""
    folder = tmp_path_factory.mktemp("carried") / "run"
    return write(folder, NETWORK, evaluation=Evaluation(rows=3, state="carried"), data=Data(order="running"))


def test_a_run_judged_with_its_state_carried_is_scored_with_its_state_carried(reader, text, cache):
    found = scored.read(reader, str(text), None, cache, print)
    judged = judge.held_out(reader, str(text), None, cache, print)
    assert found.summary["nats_per_token"] == pytest.approx(judged["nats_per_token"], rel=1e-6)
    assert (found.summary["parts"], judged["parts"]) == (3, 3)
    assert found.before_N is None
    assert sum(found.bits()) * np.log(2) == pytest.approx(judged["nats_per_token"] * judged["tokens"], rel=1e-5)


def test_a_stride_makes_it_windows_that_begin_anew(reader, text, cache):
    carried, fresh = (scored.read(reader, str(text), stride, cache, print) for stride in (None, 8))
    judged = judge.held_out(reader, str(text), 8, cache, print)
    assert fresh.summary["nats_per_token"] == pytest.approx(judged["nats_per_token"], rel=1e-6)
    assert fresh.summary["stride"] == 8
    assert abs(fresh.summary["nats_per_token"] - carried.summary["nats_per_token"]) > 1e-3
    assert fresh.before_N is not None
    assert fresh.before_N.max() == 8


def test_a_given_beginning_of_text_costs_nothing(tmp_path, text, cache):
    for name, model, fields in (
        ("gpt", GPT(layers=1, width=8, heads=2, mlp_width=8, context=8), {"evaluation": Evaluation(rows=4)}),
        ("network", NETWORK, {"evaluation": Evaluation(rows=2, state="carried"), "data": Data(order="running")}),
    ):
        folder = write(tmp_path / name, model, tokenizer=Bytes(bos=True), **fields)
        found = scored.read(folder, str(text), None, cache, print)
        judged = judge.held_out(folder, str(text), None, cache, print)
        assert found.given.tolist() == [0]
        assert found.nats_N[0] == 0
        assert found.summary["tokens"] == judged["tokens"] == len(found.nats_N) - 1
        assert found.summary["nats_per_token"] == pytest.approx(judged["nats_per_token"], rel=1e-6)
