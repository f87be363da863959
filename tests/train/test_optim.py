"""Claims about update rules: what each does to which parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gptjax.config import ConfigError, from_json, to_json
from gptjax.train.optim import LARGEST_BETA, LARGEST_RATE, SGD, SMALLEST_EPS, Adam, AdamW, Lion, Muon, decayed, roles

LAYERS, WIDTH, MLP, VOCAB = 3, 16, 48, 11


def params(fill=None):
    rng = np.random.default_rng(0)

    def leaf(*shape):
        return jnp.asarray(rng.normal(size=shape) if fill is None else np.full(shape, fill), jnp.float32)

    model = {
        "embed": {"tokens": leaf(VOCAB, WIDTH), "positions": leaf(8, WIDTH)},
        "blocks": {
            "attn": {"q": {"kernel": leaf(LAYERS, WIDTH, WIDTH), "bias": leaf(LAYERS, WIDTH)}},
            "mlp": {"up": {"kernel": leaf(LAYERS, WIDTH, MLP)}, "down": {"kernel": leaf(LAYERS, MLP, WIDTH)}},
            "attn_norm": {"scale": leaf(LAYERS, WIDTH)},
        },
        "head": {"kernel": leaf(WIDTH, VOCAB)},
    }
    return {"model": model, "head": {"kernel": leaf(WIDTH, 2), "bias": leaf(2)}}


LIMITS = {"learning_rate": LARGEST_RATE, "eps": SMALLEST_EPS}
SLOW_TO_FORGET = {"beta1": LARGEST_BETA, "beta2": 1e-30}  # the first moment stays when the second is gone


class BuiltOtherwise(AdamW):
    """Of what a user makes of a rule nothing is known."""


@pytest.mark.parametrize(
    "rule", [Adam(**LIMITS, **SLOW_TO_FORGET), AdamW(**LIMITS, **SLOW_TO_FORGET, weight_decay=1 / LARGEST_RATE)]
)
@pytest.mark.parametrize("after", [0.0, 1e-30, 1.0, -1e17])
def test_the_largest_gradients_of_finite_norm_leave_parameters_of_a_bounded_rule_finite(rule, after):
    assert rule.bounded()
    start = params()
    largest = jax.tree.map(jnp.zeros_like, start)
    largest["head"]["kernel"] = largest["head"]["kernel"].at[0, 0].set(1.84e19)
    assert jnp.isfinite(optax.tree.norm(largest))
    assert not jnp.isfinite(optax.tree.norm(jax.tree.map(lambda g: 1.01 * g, largest)))
    built = rule.build(constant)
    state = built.init(start)
    for gradient in [largest] * 3 + [jax.tree.map(lambda x: jnp.full_like(x, after), start)] * 20:
        updates, state = jax.jit(built.update)(gradient, state, start)
        start = optax.apply_updates(start, updates)
        assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((start, state)))


@pytest.mark.parametrize(
    "rule",
    [
        Adam(learning_rate=1.1e3),
        AdamW(eps=1e-11),
        AdamW(learning_rate=10.0, weight_decay=0.11),
        AdamW(learning_rate=1e-30, weight_decay=1e30),
        AdamW(beta1=1 - 1e-8),
        AdamW(beta2=1 - 1e-8),
        AdamW(beta2=0.0),
        BuiltOtherwise(),
        SGD(),
        Lion(),
        Muon(),
    ],
)
def test_rules_are_not_bounded_beyond_their_limits_nor_where_nothing_is_known(rule):
    assert not rule.bounded()


def constant(_):
    return 1.0


def change(optimizer, gradient, start, schedule=constant):
    """What the first update adds to each parameter."""
    rule = optimizer.build(schedule)
    return jax.jit(lambda g, p: rule.update(g, rule.init(p), p)[0])(gradient, start)


def by_role(tree):
    pairs = zip(jax.tree.leaves(roles(tree)), jax.tree.leaves(tree), strict=True)
    grouped = {}
    for role, leaf in pairs:
        grouped.setdefault(role, []).append(np.asarray(leaf))
    return grouped


def test_roles_are_read_from_names_not_from_ranks():
    tree = roles(params())
    assert tree["model"]["embed"] == {"tokens": "embedding", "positions": "embedding"}
    assert tree["model"]["blocks"]["attn"]["q"] == {"kernel": "matrix", "bias": "gain"}
    assert tree["model"]["blocks"]["attn_norm"]["scale"] == "gain"
    assert tree["model"]["head"]["kernel"] == tree["head"]["kernel"] == "head"


def test_muon_brings_the_singular_values_of_every_layer_of_every_stack_near_one():
    gradient = params()
    # Layers of very different size: orthogonalised together, the small ones would vanish.
    sizes_L11 = 10.0 ** np.arange(LAYERS).reshape(-1, 1, 1)
    gradient = jax.tree.map(lambda g: jnp.asarray(g * sizes_L11, jnp.float32) if g.ndim == 3 else g, gradient)
    blocks = change(Muon(learning_rate=1.0), gradient, params(fill=0.0))["model"]["blocks"]
    for name, widening in (("up", (MLP / WIDTH) ** 0.5), ("down", 1.0)):
        kernel_LIO = np.asarray(blocks["mlp"][name]["kernel"])
        for layer_IO in kernel_LIO:
            values = np.linalg.svd(layer_IO, compute_uv=False) / widening
            assert values.min() > 0.6
            assert values.max() < 1.3
    assert all(np.linalg.svd(layer, compute_uv=False).max() < 1.3 for layer in blocks["attn"]["q"]["kernel"])


def test_muon_points_a_layer_where_the_singular_vectors_of_its_own_gradient_point():
    def down(tree):
        return np.asarray(tree["model"]["blocks"]["mlp"]["down"]["kernel"])

    update_LIO = down(change(Muon(learning_rate=1.0), params(), params(fill=0.0)))
    for update_IO, gradient_IO in zip(update_LIO, down(params()), strict=True):
        left, _, right = np.linalg.svd(gradient_IO, full_matrices=False)
        cosine = -np.sum(update_IO * (left @ right)) / np.linalg.norm(update_IO) / np.linalg.norm(left @ right)
        assert cosine > 0.97


def test_muon_leaves_embeddings_heads_and_gains_to_adam_at_their_own_rates():
    optimizer = Muon(adam_learning_rate=0.1, embedding_learning_rate=0.2, head_learning_rate=0.3)
    groups = by_role(change(optimizer, params(), params(fill=0.0)))
    # Adam's first update is the sign of the gradient times the rate.
    for role, rate in (("gain", 0.1), ("embedding", 0.2), ("head", 0.3)):
        for leaf in groups[role]:
            np.testing.assert_allclose(np.abs(leaf), rate, rtol=1e-4)


def test_muon_survives_a_gradient_of_zero():
    groups = by_role(change(Muon(), params(fill=0.0), params()))
    assert all((leaf == 0).all() for leaves in groups.values() for leaf in leaves)


@pytest.mark.parametrize("optimizer", [AdamW(weight_decay=0.5), Lion(weight_decay=0.5), Muon(weight_decay=0.5)])
@pytest.mark.parametrize(
    ("decay", "shrinking"),
    [
        ("matrices", {"matrix", "head"}),
        ("all_but_gains", {"matrix", "head", "embedding"}),
        ("everything", {"matrix", "head", "embedding", "gain"}),
    ],
)
def test_decay_shrinks_what_it_names_by_the_learning_rate_and_nothing_else(optimizer, decay, shrinking):
    optimizer = type(optimizer)(weight_decay=0.5, decay=decay)
    start = params(fill=2.0)
    for role, leaves in by_role(change(optimizer, params(fill=0.0), start)).items():
        peak = optimizer.learning_rate
        if isinstance(optimizer, Muon) and role != "matrix":
            peak = optimizer.adam_learning_rate
        for leaf in leaves:
            np.testing.assert_allclose(leaf, -peak * 0.5 * 2.0 if role in shrinking else 0.0, rtol=1e-5)
    assert {role for role, mask in by_role(decayed(decay)(start)).items() if mask[0]} == shrinking


def test_adamw_is_the_published_update():
    optimizer = AdamW(learning_rate=0.1, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.5, decay="everything")
    rule = optimizer.build(lambda step: 1.0 / (1.0 + step))
    value, state = jnp.array([1.0, -2.0]), None
    mean, square, expected = np.zeros(2), np.zeros(2), np.array([1.0, -2.0])
    state = rule.init(value)
    for step, gradient in enumerate(np.array([[0.3, -1.0], [0.1, 2.0], [-0.5, 0.2]])):
        updates, state = rule.update(jnp.asarray(gradient, jnp.float32), state, value)
        value = optax.apply_updates(value, updates)
        mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
        corrected, root = mean / (1 - 0.8 ** (step + 1)), np.sqrt(square / (1 - 0.9 ** (step + 1)))
        expected = expected - 0.1 / (1 + step) * (corrected / (root + 1e-3) + 0.5 * expected)
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_adam_has_no_decay_and_lion_moves_by_the_sign():
    moved = by_role(change(Adam(learning_rate=0.1), params(fill=0.0), params()))
    assert all((leaf == 0).all() for leaves in moved.values() for leaf in leaves)
    signs = change(Lion(learning_rate=0.1, weight_decay=0.0), params(), params())
    jax.tree.map(lambda s, g: np.testing.assert_allclose(s, -0.1 * np.sign(g), rtol=1e-6), signs, params())


def test_sgd_adds_up_its_momentum():
    rule = SGD(learning_rate=0.5, momentum=0.5).build(constant)
    value = jnp.ones(1)
    state = rule.init(value)
    moves = []
    for _ in range(3):
        move, state = rule.update(jnp.ones(1), state, value)
        moves.append(float(move[0]))
    assert moves == [-0.5, -0.75, -0.875]


@pytest.mark.parametrize("optimizer", [AdamW(), Adam(), SGD(), Lion(), Muon()], ids=lambda o: type(o).__name__)
def test_every_rule_follows_the_schedule_and_survives_json(optimizer):
    full = change(optimizer, params(), params(fill=0.0))
    half = change(optimizer, params(), params(fill=0.0), lambda step: 0.5)
    jax.tree.map(lambda f, h: np.testing.assert_allclose(h, 0.5 * f, rtol=1e-5), full, half)
    assert from_json(to_json(optimizer)) == optimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamW(learning_rate=0.0), "learning_rate=0.0 must be positive"),
        (lambda: Adam(beta2=1.0), r"beta2=1.0 is not in \[0, 1\)"),
        (lambda: AdamW(eps=0.0), "eps=0.0 must be positive"),
        (lambda: Lion(weight_decay=-1.0), "weight_decay=-1.0 must not be negative"),
        (lambda: Muon(newton_schulz_steps=0), "newton_schulz_steps=0 must be positive"),
        (lambda: Muon(head_learning_rate=-1.0), "head_learning_rate=-1.0 must be positive"),
    ],
)
def test_impossible_rules_are_refused_at_birth(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
