"""Claims about beam search, held against every sequence there is."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.infer import beam
from gptjax.infer.beam import Beam, continuations, search, translations
from gptjax.infer.sample import Decoding, generate
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent

V, BOS, EOS, MAX = 4, 0, 3, 3
EVERYTHING = V**MAX
WHOLE_NT = np.array(list(itertools.product(range(V), repeat=MAX)), np.int32)
TRANSLATORS = {
    "recurrent": RecurrentTranslator(width=12, context=6),
    "transformer": TransformerTranslator(layers=1, width=12, heads=2, mlp_width=16, context=6),
}
SOURCES = [np.array(ids, np.int32) for ids in ((1, 2, 1, 3), (2, 3), (1, 1, 2, 2, 1, 3))]
PROMPTS = [np.array(ids, np.int32) for ids in ((1,), (2, 1, 0), (1, 1, 2, 2))]
GPT_CONFIG = GPT(layers=1, width=12, heads=2, mlp_width=16, context=10, init_std=0.5)


def parameters(model, seed=0):
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.7 * draw.standard_normal(x.shape, np.float32)), shapes)


class Searched:
    """A model with its search, and its log-probabilities of any continuation by one plain pass."""

    def __init__(self, name):
        self.name = name
        config = GPT_CONFIG if name == "gpt" else TRANSLATORS[name]
        self.model = config.build(V, V)
        self.params = parameters(self.model)
        self.given = PROMPTS if name == "gpt" else SOURCES
        self._logp, self._read = jax.jit(self._compute), {}

    def search(self, how, eos_id=EOS, max_tokens=MAX, given=None, params=None):
        given, params = given or self.given, params or self.params
        if self.name == "gpt":
            return continuations(self.model, params, given, max_tokens, how, eos_id)
        return translations(self.model, params, given, max_tokens, how, BOS, eos_id)

    def _compute(self, given, length, inputs_BT):
        if self.name == "gpt":
            rows = jnp.concatenate([jnp.broadcast_to(given, (len(inputs_BT), len(given))), inputs_BT[:, 1:]], axis=1)
            return jax.nn.log_softmax(self.model.apply(self.params, rows)[:, len(given) - 1 :], axis=-1)
        source = jnp.broadcast_to(given, (len(inputs_BT), len(given)))
        memory = self.model.encode(self.params, source, jnp.full(len(inputs_BT), length))
        logits = self.model.head(self.params, self.model.decode(self.params, memory, inputs_BT))
        return jax.nn.log_softmax(logits, axis=-1)

    def read(self, row):
        """Every sequence of MAX tokens, and the log-probabilities at each of its places."""
        if row not in self._read:
            given = self.given[row]
            filled = given if self.name == "gpt" else np.pad(given, (0, 6 - len(given)))
            inputs_NT = np.concatenate([np.full((len(WHOLE_NT), 1), BOS), WHOLE_NT[:, :-1]], axis=1)
            self._read[row] = np.asarray(self._logp(filled, len(given), inputs_NT), np.float64)
        return self._read[row]

    def everything(self, row):
        """{tokens, end-of-text included where it is reached: total log-probability} of all there is."""
        logp_NTV, found = self.read(row), {}
        for n, tokens in enumerate(WHOLE_NT.tolist()):
            end = tokens.index(EOS) + 1 if EOS in tokens else MAX
            found[tuple(tokens[:end])] = sum(logp_NTV[n, t, tokens[t]] for t in range(end))
        return found

    def greedy(self, row):
        tokens, total = [], 0.0
        while len(tokens) < MAX and EOS not in tokens:
            n = int(np.flatnonzero((WHOLE_NT[:, : len(tokens)] == tokens).all(1))[0])
            logp_V = self.read(row)[n, len(tokens)]
            tokens.append(int(logp_V.argmax()))
            total += logp_V.max()
        return tuple(tokens), total


SEARCHED = {}


@pytest.fixture(params=["gpt", "transformer"])
def searched(request):
    if request.param not in SEARCHED:
        SEARCHED[request.param] = Searched(request.param)
    return SEARCHED[request.param]


def whole(hypothesis):
    return (*hypothesis.tokens.tolist(), *[EOS] * hypothesis.ended)


def test_one_beam_is_greedy_whatever_length_counts(searched):
    for power in (0.0, 1.5):
        for row, hypotheses in enumerate(searched.search(Beam(1, power))):
            tokens, total = searched.greedy(row)
            assert [whole(h) for h in hypotheses] == [tokens]
            assert hypotheses[0].log_probability == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("power", [0.0, 0.7])
def test_room_for_everything_finds_everything_in_order(searched, power):
    for row, hypotheses in enumerate(searched.search(Beam(EVERYTHING, power))):
        every = searched.everything(row)
        found = {whole(h): h.log_probability for h in hypotheses if h.log_probability > -np.inf}
        assert found.keys() == every.keys()
        for tokens, total in found.items():
            assert total == pytest.approx(every[tokens], abs=1e-4)
        scores = [every[whole(h)] / len(whole(h)) ** power for h in hypotheses[: len(every)]]
        assert scores == pytest.approx(sorted(scores, reverse=True), abs=1e-4)
        assert whole(hypotheses[0]) == max(every, key=lambda tokens: every[tokens] / len(tokens) ** power)


def test_an_exact_search_is_never_below_greedy_and_three_beams_are_different_and_sorted(searched):
    exact, three = (searched.search(Beam(beams, 0.0)) for beams in (EVERYTHING, 3))
    for row in range(3):
        assert exact[row][0].log_probability >= searched.greedy(row)[1] - 1e-5
        totals = [h.log_probability for h in three[row]]
        assert totals == sorted(totals, reverse=True)
        assert len({whole(h) for h in three[row]}) == 3
        every = searched.everything(row)
        for h in three[row]:
            assert h.log_probability == pytest.approx(every[whole(h)], abs=1e-4)


def test_a_search_wins_where_greedy_is_led_astray():
    """The likeliest first token leads to nothing: 0.6 * 0.4 against 0.4 * 1."""
    table_VV = np.log(np.array([[1e-9, 0.6, 0.4, 1e-9], [0.4, 0.3, 0.2, 0.1], [1e-9, 1e-9, 1e-9, 1], [1, 1, 1, 1]]))

    def speak(tokens_N, state):
        return jnp.asarray(table_VV, jnp.float32)[tokens_N], state

    def found(beams):
        return jax.jit(lambda: search(speak, jnp.array([0]), jnp.zeros(beams), beams, 0.0, 2, EOS))()

    greedy, two = found(1), found(2)
    assert np.asarray(greedy.tokens_BWT)[0, 0].tolist() == [1, 0]
    assert np.asarray(two.tokens_BWT)[0, 0].tolist() == [2, 3]
    assert float(two.totals_BW[0, 0]) == pytest.approx(np.log(0.4), abs=1e-4)


def test_a_power_of_the_length_prefers_longer_ones():
    searched = SEARCHED.setdefault("gpt", Searched("gpt"))
    lengths = [[len(whole(h)) for h, *_ in searched.search(Beam(EVERYTHING, power))] for power in (0.0, 5.0)]
    assert sum(lengths[1]) > sum(lengths[0])


def test_a_row_does_not_depend_on_the_rows_beside_it(searched):
    together, alone = searched.search(Beam(3)), searched.search(Beam(3), given=[searched.given[1]])[0]
    assert [whole(h) for h in alone] == [whole(h) for h in together[1]]


def test_without_an_end_every_hypothesis_is_as_long_as_allowed():
    searched = SEARCHED.setdefault("gpt", Searched("gpt"))
    for hypotheses in searched.search(Beam(3), eos_id=None):
        assert all(len(h.tokens) == MAX and not h.ended for h in hypotheses)


def test_a_recurrent_model_goes_on_beyond_the_rows_it_was_trained_on():
    model = Recurrent(cell="gru", layers=1, width=8, embed_width=8, context=2).build(V, V)
    params = parameters(model)
    [[found]] = continuations(model, params, [np.array([1, 2], np.int32)], 4, Beam(1))
    [drawn] = generate(model, params, [np.array([1, 2], np.int32)], 4, Decoding(0.0), jax.random.key(0))
    assert found.tokens.tolist() == drawn.tolist()
    assert len(found.tokens) == 4


def test_what_cannot_be_searched_is_refused():
    gpt, recurrent = (SEARCHED.setdefault(name, Searched(name)) for name in ("gpt", "recurrent"))
    for make, error, message in (
        (lambda: Beam(beams=0), ConfigError, "beams=0 must be positive"),
        (lambda: Beam(length_power=-1.0), ConfigError, "length_power=-1.0"),
        (lambda: gpt.search(Beam(), max_tokens=0), ConfigError, "max_tokens=0 must be positive"),
        (lambda: gpt.search(Beam(), max_tokens=7), DataError, "prompt 2 has 4 tokens; there is room for 1 to 3"),
        (lambda: gpt.search(Beam(), max_tokens=10), ConfigError, "max_tokens=10: .* share a context of 10 tokens"),
        (lambda: gpt.search(Beam(), given=[np.array([4])]), DataError, "prompt 0 has id 4"),
        (lambda: recurrent.search(Beam(), given=[np.arange(7) % V]), DataError, "source 0 has 7 tokens"),
        (lambda: recurrent.search(Beam(), max_tokens=7), ConfigError, "max_tokens=7 is longer than context=6"),
    ):
        with pytest.raises(error, match=message):
            make()
    broken = jax.tree.map(lambda x: x * jnp.nan, recurrent.params)
    with pytest.raises(FloatingPointError, match="not numbers"):
        recurrent.search(Beam(3), params=broken)
    assert continuations(gpt.model, gpt.params, [], 3, Beam()) == []


# --- last, for what follows would be optimised too ---


@pytest.mark.usefixtures("optimised")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it reads what a CPU's compiler made")
def test_no_step_of_a_search_lays_out_anew_what_is_remembered_of_the_source():
    model = TransformerTranslator(layers=1, width=20, heads=4, mlp_width=24, context=9).build(V, V)
    params, source_BS = jax.eval_shape(model.init, jax.random.key(0)), np.ones((1, 7), np.int32)
    arguments = params, source_BS, np.array([7], np.int32), np.float32(1)
    made = beam._translations.lower(model, 3, 9, EOS, *arguments, bos_id=BOS).compile()
    loop = max((text for text in made.as_text().split("\n\n") if "ENTRY" not in text), key=len)
    remembered = re.findall(r" = f32\[3,(?:4,7|7,4),5\]\S* ([\w-]+)\(", loop)
    assert remembered == ["get-tuple-element"] * 2
