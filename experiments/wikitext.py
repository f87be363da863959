"""WikiText-2, word by word: LSTM language models with a state carried through the text.

Commands     gptjax train experiments/wikitext.py:NAME --data train.txt --data.validation valid.txt --out RUN
             gptjax eval RUN --data test.txt
Cost         kneser_ney: seconds; lstm_small: 19 minutes on two CPU cores, and one for the test text; lstm: a GPU
Expected     perplexity per word, of validation and test text, line ends and <unk> counted as words:
             kneser_ney 232.5 and 217.8; lstm_small, after 12,000 updates (6.4 epochs), 137.7 and 128.9. Published:
             AWD-LSTM 68.6 and 65.8 after 750 epochs (Merity et al. 2017). `lstm` follows its recipe and was not run
Data         wikitext-2's word-level release: train.txt, valid.txt, test.txt (Hugging Face: Salesforce/wikitext,
             wikitext-2-v1); a vocabulary of 33,278

An update of lstm_small reads 1,120 words. On one CPU core it took 272 ms against 2,048 sampled words, 239 ms against
1,024, and 1,462 ms with the whole softmax: sampling learns from five times the text in the same time.
"""

from gptjax.config import Checkpoints, Data, Evaluation, Run
from gptjax.counted import Counting
from gptjax.data.words import Words
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.causal import Causal
from gptjax.objectives.sampled import SampledCausal
from gptjax.train.optim import SGD, AdamW
from gptjax.train.schedules import Linear


def kneser_ney() -> Counting:
    """What counting alone knows: an interpolated modified Kneser-Ney 5-gram."""
    return Counting(tokenizer=Words(eos=False), order=5)


def lstm() -> Run:
    """AWD-LSTM (Merity et al. 2017), 33.5M parameters: its sizes, dropout, learning rate and clipping.

    A running average of the parameters stands for its averaged SGD; rows are 70 words always, and nothing is added to
    the loss for large or changing states.
    """
    return Run(
        model=Recurrent(
            cell="lstm", layers=3, width=1150, embed_width=400, context=70, word_dropout=0.1, embed_dropout=0.65,
            layer_dropout=0.2, output_dropout=0.4, weight_dropout=0.5,
        ),
        tokenizer=Words(eos=False),
        objective=Causal(),
        optimizer=SGD(learning_rate=30.0, momentum=0.0),
        schedule=Linear(decay_fraction=0.2),
        data=Data(order="running"),
        steps=60_000,
        batch_rows=80,
        clip_norm=0.25,
        ema_decay=0.9998,
        evaluation=Evaluation(every_steps=1000, rows=10, state="carried"),
        checkpoints=Checkpoints(every_steps=1000, keep_best="nats_per_token"),
    )  # fmt: skip


def lstm_small() -> Run:
    """What two cores learn in 20 minutes: a small LSTM, trained against samples of the vocabulary."""
    return Run(
        model=Recurrent(
            cell="lstm", layers=1, width=256, embed_width=256, context=35, embed_dropout=0.2, output_dropout=0.3
        ),
        tokenizer=Words(eos=False),
        objective=SampledCausal(samples=2048),
        optimizer=AdamW(learning_rate=3e-3, beta2=0.99, weight_decay=0.0),
        schedule=Linear(warmup_steps=50),
        data=Data(order="running"),
        steps=12_000,
        batch_rows=32,
        clip_norm=0.5,
        evaluation=Evaluation(every_steps=12_000, rows=32, state="carried"),
        checkpoints=Checkpoints(every_steps=2000),
    )
