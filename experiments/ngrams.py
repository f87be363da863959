"""N-grams: what counting alone knows of a text, the rows to print beside every neural model.

Command      gptjax train experiments/ngrams.py:kneser_ney --data input.txt --out RUN [--order 7]
             gptjax ablate experiments/ngrams.py --data input.txt --out DIR
Cost         seconds; all rows on Tiny Shakespeare half a minute on one CPU core
Expected     Tiny Shakespeare by characters, the last 10% held out, Kneser-Ney of orders 1 to 8, nats per character:
             3.347 2.484 2.038 1.719 1.561 1.523 1.5165 1.519
"""

from dataclasses import replace

from gptjax.counted import Counting
from gptjax.data.tokenizers import Characters


def kneser_ney() -> Counting:
    """The best of them: interpolated modified Kneser-Ney."""
    return Counting(tokenizer=Characters(eos=False), order=7)


def backoff() -> Counting:
    """Asks the shorter context only where the longer one was never followed by the token."""
    return replace(kneser_ney(), smoothing="backoff")


def add_k() -> Counting:
    """Adds a little to every count; no shorter contexts."""
    return replace(kneser_ney(), smoothing="add_k", add=0.01, order=4)


ROWS = {
    **{f"kneser_ney_{order}": replace(kneser_ney(), order=order) for order in range(1, 9)},
    **{f"backoff_{order}": replace(backoff(), order=order) for order in (3, 5, 7)},
    **{f"add_k_{order}": replace(add_k(), order=order) for order in (2, 3, 4, 5)},
}
BASE = "kneser_ney_7"
