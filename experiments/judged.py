"""What a language model is asked: tasks for `gptjax eval`, with 95% intervals, and for the evaluations of a run.

Commands     gptjax eval RUN --tasks experiments/judged.py:lambada --data lambada_test.jsonl [--limit N] [--json]
             gptjax eval RUN --tasks experiments/judged.py:sst2 experiments/judged.py:sst2_shots --data SST-2
             gptjax train experiments/judged.py:pretraining --data train.txt --data.validation valid.txt --out RUN
             --evaluation.tasks.0.data lambada_test.jsonl --evaluation.tasks.1.data ARC-Easy-Test.jsonl
Data         --data takes a file of records, or for cola and sst2 the folder of a GLUE task (train.tsv and dev.tsv); on
             the Hugging Face hub: EleutherAI/lambada_openai, allenai/ai2_arc (its files ARC-Easy-Test.jsonl, ...),
             nyu-mll/glue (cola, sst2), allenai/winogrande, nyu-mll/blimp, Salesforce/wikitext
Cost         on one CPU core for a model of 0.92 million parameters, all records: cola and sst2 17 s, wikitext 21 s,
             lambada 35 s, arc_challenge 78 s, arc_easy 95 s, and with three shots three times over 149 s
Expected     of the run that `pretraining` makes of WikiText-2's word-level train.txt (with --model.context 256
             --tokenizer.vocab-size 4096 --steps 500, which is four minutes of pretraining): next to chance, and known
             to be so. ARC-Easy, sum 0.270 [0.252, 0.288], mean 0.261 [0.243, 0.278], bytes 0.258 [0.242, 0.277], chance
             0.250; with three shots 0.270, 0.264, 0.264. ARC-Challenge 0.212 [0.189, 0.237], 0.224, 0.245. LAMBADA
             accuracy 0.000, 6.28 [6.23, 6.32] nats per token of the last word. CoLA, Matthews 0.063 [0.006, 0.120].
             SST-2 0.509 [0.477, 0.541], always "positive", with four shots always "great". WikiText-2's valid.txt,
             article by article, 455.5 [422.7, 489.2] a word, 1.684 [1.652, 1.714] bits per byte.
             In training, LAMBADA's first 500 passages: 6.726, 6.600, 6.523, 6.346, 6.310 nats per token at the
             evaluations; its last checkpoint is the best by them

`gptjax eval` of a fine-tuned run has intervals too: `finetune.py:stsb` after 60 updates of rate 1e-3 from that run,
Pearson 0.079 [0.025, 0.132].

A task is a value: `replace(lambada(), data=..., limit=500)` in a run's `evaluation.tasks` puts lambada/accuracy and the
others into the rows of metrics.jsonl, and checkpoints.keep_best="lambada/accuracy" keeps the best checkpoint by it.
"""

from dataclasses import replace

from pretrain import tiny

from gptjax.config import Checkpoints, Evaluation, Run
from gptjax.evals.acceptability import Acceptable
from gptjax.evals.choices import MinimalPairs, MultipleChoice, Referents, Verbalized
from gptjax.evals.documents import Documents
from gptjax.evals.lastword import LastWord
from gptjax.evals.shots import Shots
from gptjax.evals.writing import Writing


def lambada() -> LastWord:
    """The last word of a passage of a novel."""
    return LastWord(name="lambada", data="lambada_test.jsonl", text="{text}")


def arc_easy() -> MultipleChoice:
    """Science questions with four answers, those that simple methods answer too."""
    return MultipleChoice(name="arc_easy", data="ARC-Easy-Test.jsonl")


def arc_challenge() -> MultipleChoice:
    """Science questions with four answers, those that simple methods get wrong."""
    return MultipleChoice(name="arc_challenge", data="ARC-Challenge-Test.jsonl")


def arc_easy_shots() -> MultipleChoice:
    """The same with three solved questions before each, from ARC-Easy-Dev.jsonl in the directory of the command."""
    shots = Shots(count=3, data="ARC-Easy-Dev.jsonl")
    return MultipleChoice(name="arc_easy_3_shot", data="ARC-Easy-Test.jsonl", shots=shots)


def cola() -> Acceptable:
    """GPT-1's rule for CoLA: a threshold on the mean log-probability, chosen on train.tsv."""
    return Acceptable(name="cola", data="CoLA", columns=("source", "label", "mark", "sentence"))


def sst2() -> Verbalized:
    """GPT-1's rule for SST-2: "very" behind the sentence, and "positive" or "negative" behind that."""
    return Verbalized(name="sst2", data="SST-2", prompt="{sentence} very", words=(" negative", " positive"))


def sst2_shots() -> Verbalized:
    """SST-2 with four solved examples before each sentence, three draws of them."""
    return Verbalized(
        name="sst2_4_shot",
        data="SST-2",
        prompt="{sentence} It is",
        words=(" terrible", " great"),
        shots=Shots(count=4, seeds=(0, 1, 2), separator=" .\n"),
    )


def winogrande() -> Referents:
    """GPT-1's rule for pronouns: each of two referents in its place, and the rest judged behind it."""
    return Referents(name="winogrande", data="winogrande_dev.jsonl")


def blimp() -> MinimalPairs:
    """Minimal pairs of grammatical and ungrammatical sentences."""
    return MinimalPairs(name="blimp", data="blimp.jsonl")


def wikitext() -> Documents:
    """WikiText by its articles, which begin with a title between single equals signs: perplexity of words."""
    return Documents(name="wikitext", data="valid.txt", begins=r"^ = [^=\n]+ = $")


def instructions() -> Writing:
    """Answers to instructions (Dolly's fields), against the written ones."""
    return Writing(
        name="instructions",
        data="dolly.json",
        prompt="{instruction}\n{input}\n",
        references=("{output}",),
        stop=("\n\n",),
        limit=200,
    )


def pretraining() -> Run:
    """`pretrain.py:tiny`, asked 500 passages and 400 questions at every evaluation."""
    tasks = (replace(lambada(), limit=500), replace(arc_easy(), limit=400))
    return replace(
        tiny(),
        evaluation=Evaluation(every_steps=100, max_tokens=100_000, tasks=tasks),
        checkpoints=Checkpoints(every_steps=100, keep_best="lambada/nats_per_token"),
    )
