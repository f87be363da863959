"""The lineage: every kind of language model that the GPT came from, on the same characters, in one table.

Command      gptjax ablate experiments/lineage.py --data input.txt --seeds 3 --out DIR      (Tiny Shakespeare)
Cost         30 minutes on two CPU cores
Expected     see the README: n-grams of orders 2 to 7 between 2.48 and 1.52 nats per character; the neural rows after
             768,000 characters (three quarters of an epoch)

All neural rows see the same 1,000 batches of 12 x 64 characters and have 0.78 to 0.83 million parameters. Learning
rates were chosen on this same validation split with seed 0: gpt1 the best of 1e-3, 2e-3 and 4e-3 (which diverged), gpt2
of 1e-3, 3e-3 and 6e-3, the older families as `lineage_rows.py` says; modern has the recipe of `pretrain.py`, which had
more tuning. The windows in which they are judged start afresh every 64 characters.
"""

from dataclasses import replace

from lineage_rows import cnn, gru, lstm, mlp, rnn
from ngrams import kneser_ney
from pretrain import shakespeare_char

from gptjax.ablate.budget import Tokens
from gptjax.config import Checkpoints, Evaluation, Run
from gptjax.models.gpt import GPT
from gptjax.train.optim import AdamW

SHAPE = GPT(layers=4, width=128, heads=4, mlp_width=512, context=64)
EVALUATION = Evaluation(every_steps=125, rows=64)
CHECKPOINTS = Checkpoints(every_steps=1000, keep_last=1)


def modern() -> Run:
    """The recipe of `pretrain.py:shakespeare_char`: today's parts, and Muon."""
    return shakespeare_char()


def modern_adamw() -> Run:
    """Today's parts with the optimizer of the other rows, to tell the architecture from the optimizer."""
    return replace(modern(), optimizer=AdamW(learning_rate=3e-3, beta2=0.95), clip_norm=1.0)


def gpt2() -> Run:
    """GPT-2's parts: norms before the branches, learned positions, GELU."""
    return replace(modern_adamw(), model=SHAPE, optimizer=AdamW(learning_rate=1e-3, beta2=0.95))


def gpt1() -> Run:
    """GPT-1's parts: norms after the branches."""
    shape = replace(SHAPE, norm_place="post", residual_init="plain")
    return replace(gpt2(), model=shape, optimizer=AdamW(learning_rate=2e-3, beta2=0.95))


def _same(run: Run) -> Run:
    return replace(run, evaluation=EVALUATION, checkpoints=CHECKPOINTS)


ROWS = {
    **{f"{order}-gram": replace(kneser_ney(), order=order) for order in (2, 3, 5, 7)},
    **{row.__name__: _same(row()) for row in (mlp, cnn, rnn, gru, lstm, gpt1, gpt2, modern_adamw, modern)},
}
BASE = "gpt2"
BUDGET = Tokens(1000 * 12 * 64)
