"""An experiment small enough to run in a test: two trained rows and a counted one."""

from dataclasses import replace

from targets import small

from gptjax.ablate.budget import Tokens
from gptjax.config import Checkpoints, Evaluation
from gptjax.counted import Counting
from gptjax.data.tokenizers import Bytes

base = replace(
    small(),
    batch_rows=4,
    log_every_steps=2,
    ema_decay=None,
    evaluation=Evaluation(every_steps=8, rows=8, max_tokens=200),
    checkpoints=Checkpoints(every_steps=8),
)
wide = replace(base, model=replace(base.model, width=32), batch_rows=8)

ROWS = {"base": base, "wide": wide, "trigram": Counting(Bytes(eos=False), order=3)}
BUDGET = Tokens(16 * 4 * 16)
