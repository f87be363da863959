"""Claims about folders that became runs."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import tokenizers as library
from interop.families import GPT2, MODELS, made

from gptjax import trained
from gptjax.config import ConfigError, Corpus, Data, Evaluation
from gptjax.data.errors import DataError
from gptjax.infer.sample import Decoding
from gptjax.interop import folder as folders
from gptjax.interop import tokens
from gptjax.interop.adopt import adopt, rows
from gptjax.judging import judge
from gptjax.launch import launch
from gptjax.models.gpt import GPT
from gptjax.train.folder import FolderError


def quiet(line):
    pass


@pytest.fixture
def exported(tmp_path):
    found = made(GPT2, tmp_path / "run", pad=100)
    folders.write(found, tmp_path / "folder", quiet)
    return found


def test_an_imported_run_is_the_one_that_was_exported(exported, tmp_path):
    adopt(tmp_path / "folder", tmp_path / "again", quiet)
    found = trained.load(tmp_path / "again", quiet)
    assert (found.step, found.tokenizer.hash) == (0, exported.tokenizer.hash)
    size = exported.model.vocab_size
    before, after = exported.params["model"], found.params["model"]
    assert after["embed"]["tokens"].shape == before["embed"]["tokens"].shape
    np.testing.assert_array_equal(after["embed"]["tokens"][:size], before["embed"]["tokens"][:size])
    assert not np.any(after["embed"]["tokens"][size:])
    for x, y in zip(jax.tree.leaves(before["blocks"]), jax.tree.leaves(after["blocks"]), strict=True):
        np.testing.assert_array_equal(x, y)


def test_an_imported_run_is_judged_sampled_and_fine_tuned(exported, tmp_path, text):
    again = tmp_path / "again"
    run = adopt(tmp_path / "folder", again, quiet)
    judged = judge.held_out(again, str(text), None, tmp_path / "cache", quiet)
    assert judged["bytes"] == text.stat().st_size
    assert np.isfinite(judged["nats_per_token"])
    [sample] = judge.continued(again, ["line"], 4, Decoding(temperature=0.0), 0, quiet)["samples"]
    assert sample["tokens"] <= 4
    data, evaluation = Data(corpora=(Corpus(str(text)),)), Evaluation(rows=2, max_tokens=64)
    tuned = replace(run, init=str(again), data=data, steps=1, batch_rows=2, evaluation=evaluation)
    launch(replace(tuned, optimizer=replace(run.optimizer, learning_rate=1e-9)), tmp_path / "tuned", tmp_path, quiet)
    after = trained.load(tmp_path / "tuned", quiet).params["model"]["blocks"]
    for x, y in zip(jax.tree.leaves(exported.params["model"]["blocks"]), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_a_second_import_into_a_run_is_refused(exported, tmp_path):
    adopt(tmp_path / "folder", tmp_path / "again", quiet)
    with pytest.raises(FolderError, match="holds this import already"):
        adopt(tmp_path / "folder", tmp_path / "again", quiet)


def test_a_verb_for_runs_names_the_way_in(exported, tmp_path):
    with pytest.raises(ConfigError, match=r"gptjax import .* --out RUN makes it a run"):
        trained.load(tmp_path / "folder", quiet)


def wordpiece(folder):
    """A foreign tokenizer: no gptjax files, special tokens inside the vocabulary."""
    shutil.rmtree(folder / tokens.OWN)
    words = {word: id for id, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"])}
    made = library.Tokenizer(library.models.WordPiece(words, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    (folder / tokens.SETTINGS).write_text("{}")
    return folder


def test_a_foreign_bert_gets_the_marks_of_its_own_tokenizer(tmp_path):
    found = made(MODELS["bert"], tmp_path / "run")
    folders.write(found, tmp_path / "folder", quiet)
    said = []
    adopt(wordpiece(tmp_path / "folder"), tmp_path / "again", said.append)
    again = trained.load(tmp_path / "again", quiet)
    table = np.asarray(found.params["model"]["embed"]["tokens"])
    np.testing.assert_array_equal(again.params["model"]["embed"]["tokens"], table[[*range(7), 2, 3, 3, 4]])
    assert again.run.objective.next_sentence_weight == 1.0
    assert any("start: [CLS]" in line for line in said)
    assert any("stand for no token and are left out" in line for line in said)


def test_more_ids_than_rows_are_refused(exported, tmp_path):
    with pytest.raises(DataError, match=r"its tokenizer has 257 ids, and config\.json names vocab_size=256"):
        rows(tmp_path / "folder", 256, exported.tokenizer, ())


def test_a_model_that_reads_one_side_learns_the_next_token(exported, tmp_path):
    run = adopt(tmp_path / "folder", tmp_path / "again", quiet)
    assert isinstance(run.model, GPT)
    assert type(run.objective).__name__ == "Causal"
