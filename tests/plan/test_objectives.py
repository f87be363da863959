"""Claims about plans of tasks, of BERT, of translators and word vectors: they are the step that training compiles."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from runs import TARGETS, compiles_for_a_gpu
from targets import bert, lora

from gptjax import trained
from gptjax.cli import run_verb
from gptjax.config import Corpus, Data, Mesh
from gptjax.data.tokenizers import Bytes
from gptjax.models.bert import Bert
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.models.gpt import GPT
from gptjax.objectives.masked import Masked
from gptjax.objectives.seq2seq import Seq2Seq
from gptjax.plan import compiled, devices, estimate, machines, vocabulary
from gptjax.train import sharding
from gptjax.train.optim import SGD
from gptjax.train.state import init_state, loss_of
from gptjax.train.step import jitted, make_step

FINETUNE = TARGETS.parents[1] / "experiments" / "finetune.py"
LONG = "".join(map(chr, range(40, 110)))
"""Longer than the context, and no letter twice."""


def plain(run, **changes):
    """The run without what takes time to compile and is not asked about here."""
    model = changes.pop("model", run.model)
    model = replace(model, dropout=0.0) if hasattr(model, "dropout") else model
    return replace(run, model=model, optimizer=SGD(), ema_decay=None, mesh=Mesh(data=1), **changes)


def translation():
    model = TransformerTranslator(layers=1, width=16, heads=2, mlp_width=32, context=16)
    return plain(bert(), model=model, objective=Seq2Seq(), tokenizer=Bytes(bos=True))


def planned(run, topology="cpu:1", **options):
    """The run's update as planned."""
    chosen = machines.parse(topology)
    made = compiled.update(run, vocabulary.tokenizer(run, None)[0], devices.of(chosen), **options)
    return made, estimate.estimate("", run, chosen, made, "", None)


def trained_on(run, records, folder):
    """The run's update as training compiles it for the rows of these records."""
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    data, tokenizer = Data(corpora=(Corpus(str(path)),), validation_fraction=0.0), run.tokenizer.build(lambda: None)
    mesh = sharding.make_mesh(run.mesh, jax.devices()[:1])
    model, objective = trained.build(run, tokenizer, sharding.place(mesh))
    rows = run.objective.sources(data, tokenizer, model.context, 0, folder).train[0]
    batch = sharding.placer(mesh)(objective.batch(rows.take(np.zeros(run.batch_rows, np.int64), 0)))
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    state = jax.eval_shape(lambda key: init_state(run, objective, optimizer, key), jax.random.key(0))
    step = make_step(run, loss_of(run, objective), optimizer, sharding.layout(mesh))
    shardings, _ = sharding.state_shardings(state, mesh)
    return jitted(step, shardings).lower(state, batch).compile().memory_analysis()


REAL = {
    "adapters": (plain(lora()), [{"sentence": LONG, "label": 0}], 8),
    "bert": (plain(bert()), [{"text": LONG}, {"text": LONG}], 16),
    "translation": (translation(), [{"source": LONG[:15], "target": LONG[:15]}], 16),
}


@pytest.mark.parametrize("name", REAL)
def test_a_plan_is_of_the_step_that_training_compiles_for_rows_that_are_full(name, tmp_path):
    run, records, tokens = REAL[name]
    _, found = planned(run)
    real = trained_on(run, records, tmp_path)
    assert found.memory.temporaries == real.temp_size_in_bytes
    assert found.memory.needed - found.memory.code == (
        real.argument_size_in_bytes + real.output_size_in_bytes - real.alias_size_in_bytes + found.memory.temporaries
    )
    assert found.tokens == run.batch_rows * tokens
    assert found.memory.fits


def test_a_plan_says_how_wide_its_rows_are_and_counts_every_way_of_an_example(capfd):
    sizes = {"layers": 1, "width": 16, "heads": 2, "mlp-width": 32, "context": 32, "dropout": 0}
    words = [word for name, value in sizes.items() for word in (f"--model.{name}", str(value))]
    words += ["--batch-rows", "2", "--tokenizer.vocab-size", "300", "--topology", "cpu:1", "--json"]
    assert run_verb(["plan", f"{FINETUNE}:multiple_choice", *words]) == 0
    (found,) = json.loads(capfd.readouterr().out)["plans"]
    assert found["tokens"] == 2 * 8 * 32  # rows, choices, tokens
    assert found["notes"][0].startswith("rows of 8 x 32 tokens: every text as long as texts are cut to, 14")
    assert found["notes"][1].startswith("8 choices, one for each label of objective.answers")
    model = GPT(layers=1, width=16, heads=2, mlp_width=32, context=32)
    assert found["parameters"] == model.parameter_count(300 + 3) + 16 + 1  # three marks, and a head


def test_of_bert_the_whole_square_counts_and_the_logits_of_hidden_tokens_alone():
    model = Bert(layers=2, width=32, heads=2, mlp_width=64, context=16, attention="dense")
    run = plain(bert(), model=model, objective=Masked(next_sentence_weight=0.0, tile_tokens="all"))
    layers = model.flops_per_token(260, 16)[0] * 8 * 16
    head = 6.0 * 8 * 3 * (32 * 32 + 32 * 260)  # 3 of 16 tokens of a row are hidden
    assert planned(run)[1].flops.all == layers + head


@compiles_for_a_gpu
def test_every_key_is_seen_by_fused_attention_that_reads_both_sides():
    model = Bert(layers=1, width=64, heads=2, mlp_width=64, context=128)
    made, found = planned(plain(bert(), model=model, precision="bfloat16"), "h200:1")
    assert any("attention: pallas" in note for note in made.notes)
    assert found.flops.kernels == (2 + 3 + 4) * 2 * 8 * 128 * 64 * 128
