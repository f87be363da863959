"""Claims about classifiers written for transformers."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers as library
from interop.families import GPT1, GPT2, LLAMA, MODELS, made

from gptjax import trained
from gptjax.config import ConfigError
from gptjax.interop import classifier, safe
from gptjax.objectives import task_text
from gptjax.objectives.task_text import TaskBatch
from gptjax.objectives.tasks import Classification, Entailment, Similarity
from gptjax.types import Place

TEXTS = ["a b", "it is no more.", "so", "x y z"]


def quiet(line):
    pass


def tuned(model, folder, task=None, bias=True):
    """A checkpoint of a task, every parameter drawn."""
    base = made(model, folder)
    run = replace(base.run, objective=task or Classification(labels=("bad", "good", "fair"), lm_weight=0.0))
    built, objective = trained.build(run, base.tokenizer, Place("cpu"))
    draws = np.random.default_rng(4)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * draws.standard_normal(x.shape), jnp.float32), shapes)
    if not bias:
        params["head"]["bias"] = jnp.zeros_like(params["head"]["bias"])
    return base._replace(run=run, model=built, objective=objective, params=params)


def batch(found):
    """The texts as the task lays them, each a row."""
    marks = task_text.specials(found.tokenizer)
    ways = [task_text.classification([found.tokenizer.encode(text)], marks) for text in TEXTS]
    source = task_text.row_source(ways, np.zeros(len(ways), np.int32), 1, 16)
    return source.take(np.arange(len(ways)), 0)


def scores(found, params):
    rows: TaskBatch = batch(found)
    return np.asarray(jax.jit(found.run.objective.predictor(found.model))(params, rows))


@pytest.mark.parametrize("model", [GPT1, GPT2], ids=["openai-gpt", "gpt2"])
def test_the_bias_of_the_head_lies_in_the_last_norm_and_scores_stay(model, tmp_path):
    found = tuned(model, tmp_path / "run")
    head = {name: np.asarray(x) for name, x in found.params["head"].items()}
    moved = classifier.without_bias(jax.tree.map(np.asarray, found.params["model"]), head["kernel"], head["bias"])
    alone = {"model": moved, "head": {"kernel": head["kernel"], "bias": np.zeros(3, np.float32)}}
    np.testing.assert_allclose(scores(found, alone), scores(found, found.params), atol=1e-5)
    forgotten = {**alone, "model": found.params["model"]}
    assert np.max(np.abs(scores(found, forgotten) - scores(found, found.params))) > 0.01


def test_the_folder_holds_the_body_the_read_out_and_the_labels(tmp_path):
    found = tuned(replace(GPT2, tied=False), tmp_path / "run")
    classifier.write(found, tmp_path / "out", quiet)
    settings = json.loads((tmp_path / "out/config.json").read_text())
    assert settings["architectures"] == ["GPT2ForSequenceClassification"]
    assert settings["id2label"] == {"0": "bad", "1": "good", "2": "fair"}
    assert settings["pad_token_id"] == found.tokenizer.vocab_size + 1
    with safe.opened(tmp_path / "out") as weights:
        np.testing.assert_array_equal(weights.read("score.weight"), np.asarray(found.params["head"]["kernel"]).T)
        assert "lm_head.weight" not in weights.names
    assert "AutoModelForSequenceClassification" in (tmp_path / "out/README.md").read_text()


def test_the_written_tokenizer_puts_the_marks_where_the_task_does(tmp_path):
    found = tuned(GPT2, tmp_path / "run")
    classifier.write(found, tmp_path / "out", quiet)
    made_of = library.Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    rows, marks = batch(found), task_text.specials(found.tokenizer)
    for text, tokens_WT, lengths_W in zip(TEXTS, rows.tokens, rows.lengths, strict=True):
        assert made_of.encode(text).ids == tokens_WT[0, : lengths_W[0]].tolist()
    longest = json.loads((tmp_path / "out/tokenizer_config.json").read_text())["model_max_length"]
    assert longest == found.run.objective.longest(found.model.context) + 2  # where the task cuts, with its marks
    first, second = (found.tokenizer.encode(text) for text in TEXTS[:2])
    assert made_of.encode(*TEXTS[:2]).ids == task_text.entailment((first, second), marks)[0].tolist()


REFUSED = [
    (GPT2, Classification(pool="mean"), "this is Classification with pool='mean'"),
    (GPT2, Similarity(), "this is Similarity"),
    (LLAMA, Classification(), "neither the class there nor the last norm has one"),
    (MODELS["bert"], Classification(lm_weight=0.0), "no class of transformers reads a bert's last token"),
]


@pytest.mark.parametrize(("model", "task", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_what_no_class_there_computes_is_refused(model, task, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        classifier.write(tuned(model, tmp_path / "run", task), tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()


def test_classes_that_are_alike_cannot_hold_a_bias():
    kernel_DC = np.ones((4, 2), np.float32)
    model = {"final_norm": {"bias": np.zeros(4, np.float32)}}
    with pytest.raises(ConfigError, match="classes are alike"):
        classifier.without_bias(model, kernel_DC, np.array([0.0, 1.0], np.float32))


@pytest.mark.parametrize("name", ["openai-gpt", "gpt2", "llama"])
def test_transformers_itself_scores_texts_as_the_task_does(name, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed; the tests above stand for it")
    transformers = pytest.importorskip("transformers")
    found = tuned(MODELS[name], tmp_path / "run", bias=name != "llama")
    classifier.write(found, tmp_path / "out", quiet)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(logits, scores(found, found.params), rtol=0, atol=1e-4)


def test_a_pair_of_texts_is_written_too(tmp_path):
    task = Entailment(lm_weight=0.0)
    classifier.write(tuned(GPT2, tmp_path / "run", task), tmp_path / "out", quiet)
    assert json.loads((tmp_path / "out/config.json").read_text())["label2id"] == {"entailment": 0, "not_entailment": 1}
