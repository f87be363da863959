"""The families before the transformer on Tiny Shakespeare by characters, near 0.8M parameters each.

Commands     gptjax train experiments/lineage_rows.py:NAME --out RUN --data input.txt [--steps 300]
Cost         1 to 2 minutes on one CPU core: an update takes 42 ms (mlp), 52 (cnn), 58 (rnn), 66 (gru), 73 (lstm)
Expected     with --steps 300, nats per character of the whole held-out split: mlp 2.042, cnn 1.945, rnn 2.329, gru
             1.921, lstm 2.044; after all 1,000 updates see `lineage.py`

Learning rates are the best of two to four for each row at 300 updates. With Muon (0.02; 0.005 for a simple recurrent
network of 2 x 480) in AdamW's place 300 updates gave mlp 2.085, cnn 1.811, rnn 2.215, gru 1.966, lstm 2.027 at two to
four times the time: these matrices are wide, and an update of 768 characters is short.
"""

from gptjax.config import Checkpoints, Evaluation, ModelConfig, Run
from gptjax.data.tokenizers import Characters
from gptjax.models.convolution import Convolution
from gptjax.models.feedforward import FeedForward
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.causal import Causal
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Linear


def _run(model: ModelConfig, learning_rate: float, clip_norm: float = 1.0) -> Run:
    """The text, the budget and the judging that all rows share."""
    return Run(
        model=model,
        tokenizer=Characters(eos=False),
        objective=Causal(),
        optimizer=AdamW(learning_rate=learning_rate, beta2=0.95),
        clip_norm=clip_norm,
        schedule=Linear(),
        steps=1000,
        batch_rows=12,
        evaluation=Evaluation(every_steps=500, rows=64),
        checkpoints=Checkpoints(every_steps=500),
    )


def mlp() -> Run:
    """A feed-forward network over the last 16 characters (Bengio et al. 2003)."""
    return _run(FeedForward(window=16, embed_width=32, layers=2, width=640, activation="gelu"), learning_rate=6e-3)


def cnn() -> Run:
    """Gated convolutions that see the last 64 characters (WaveNet)."""
    return _run(Convolution(layers=6, width=160, channels=160, taps=2, cycle=6, gate="tanh"), learning_rate=6e-3)


def rnn() -> Run:
    """A simple recurrent network, its gradient clipped hard."""
    model = Recurrent(cell="tanh", layers=1, width=800, embed_width=128, tied=False)
    return _run(model, learning_rate=1e-3, clip_norm=0.25)


def gru() -> Run:
    """A GRU network."""
    return _run(Recurrent(cell="gru", layers=1, width=448, embed_width=128, tied=False), learning_rate=6e-3)


def lstm() -> Run:
    """An LSTM network."""
    return _run(Recurrent(cell="lstm", layers=1, width=384, embed_width=128, tied=False), learning_rate=1e-2)
