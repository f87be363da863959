"""Does a translator learn? Copying, where the decoder must find each token of the source again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from objectives.copies import V, rows_of

from gptjax.data.tokenizers import Bytes
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.objectives.seq2seq import Seq2Seq, to_batch


@pytest.mark.parametrize(
    "config",
    [
        RecurrentTranslator(width=32, context=8),
        TransformerTranslator(layers=1, width=32, heads=2, mlp_width=64, context=8),
    ],
    ids=["additive", "transformer"],
)
def test_attention_learns_to_copy_strings_that_it_has_not_seen(config):
    model, steps = config.build(V, V), 300
    objective = Seq2Seq(tile_tokens="all").build(model, Bytes(bos=True).build(lambda: iter(())))
    optimizer = optax.adam(optax.linear_schedule(1.5e-2, 0.0, steps))
    generator = np.random.default_rng(1)
    batches = [to_batch(rows_of(generator, 48)) for _ in range(steps)]

    @jax.jit
    def learnt(key, batches):
        def update(carry, batch):
            def mean(params):
                total, count, _ = objective.loss(params, batch, key)
                return total / count

            updates, state = optimizer.update(jax.grad(mean)(carry[0]), carry[1])
            return (optax.apply_updates(carry[0], updates), state), None

        params = objective.init(key)
        return jax.lax.scan(update, (params, optimizer.init(params)), batches)[0][0]

    params = learnt(jax.random.key(0), jax.tree.map(lambda *leaves: np.stack(leaves), *batches))
    unseen, own = to_batch(rows_of(np.random.default_rng(2), 200)), params["model"]

    @jax.jit
    def predicted(own):
        memory = model.encode(own, unseen.source, unseen.source_lengths)
        return jnp.argmax(model.head(own, model.decode(own, memory, unseen.inputs)), axis=-1)

    right_BT = predicted(own) == unseen.targets
    assert (right_BT | (unseen.weights == 0)).all(1).mean() > 0.9
