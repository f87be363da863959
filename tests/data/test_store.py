"""The store: every token of every document once, the same bytes however often its build is killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gptjax.config import Corpus, Data
from gptjax.data import shards, store
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes

DOCUMENTS = [f"Document {i}: " + "äbc \n" * (i % 37) for i in range(400)]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(corpora=(Corpus(str(jsonl(tmp_path / "corpus.jsonl", DOCUMENTS))),), split="document")


@pytest.fixture
def tokenizer():
    return Bytes(bos=True, eos=True).build(lambda: iter(()))


def jsonl(path: Path, documents: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return path


def texts(split, tokenizer) -> list[str]:
    bounds = zip(split.starts[:-1].tolist(), split.starts[1:].tolist(), strict=True)
    documents = [np.asarray(split.tokens[a:b]) for a, b in bounds]
    ends = [tokenizer.bos_id, tokenizer.eos_id]
    assert all(d[0] == ends[0] and d[-1] == ends[1] and not np.isin(d[1:-1], ends).any() for d in documents)
    return [tokenizer.decode(d[1:-1]) for d in documents]


def test_every_document_is_stored_once_between_bos_and_eos(data, tokenizer, tmp_path):
    built = store.build(data, tokenizer, tmp_path)
    train, validation = (built.splits[name][0] for name in ("train", "validation"))
    assert sorted(texts(train, tokenizer) + texts(validation, tokenizer)) == sorted(DOCUMENTS)
    assert train.bytes + validation.bytes == sum(len(text.encode()) for text in DOCUMENTS)
    assert 0 < len(validation.starts) < len(train.starts)
    assert isinstance(train.tokens, np.memmap)
    assert train.tokens.dtype == np.uint16


def test_a_document_that_comes_in_pieces_is_one_document(tokenizer, tmp_path):
    text = "".join(f"line {i}\n" for i in range(400_000))
    (tmp_path / "long.txt").write_text(text)
    data = Data(corpora=(Corpus(str(tmp_path / "long.txt")),), split="position")
    built = store.build(data, tokenizer, tmp_path)
    train, validation = (texts(built.splits[name][0], tokenizer) for name in ("train", "validation"))
    assert train == [text[: int(0.9 * len(text))]]
    assert validation == [text[int(0.9 * len(text)) :]]


def test_each_corpus_of_a_mixture_has_its_own_split(tokenizer, tmp_path):
    paths = [jsonl(tmp_path / f"{k}.jsonl", [f"{k} {i}" for i in range(200)]) for k in range(2)]
    data = Data(corpora=tuple(Corpus(str(path)) for path in paths), split="document")
    built = store.build(data, tokenizer, tmp_path)
    for k in range(2):
        found = [text for name in built.splits for text in texts(built.splits[name][k], tokenizer)]
        assert sorted(found) == sorted(f"{k} {i}" for i in range(200))


def test_validation_may_be_a_source_of_its_own(data, tokenizer, tmp_path):
    own = jsonl(tmp_path / "own.jsonl", ["held out"])
    built = store.build(dataclasses.replace(data, validation=str(own)), tokenizer, tmp_path)
    assert texts(built.splits["validation"][0], tokenizer) == ["held out"]
    assert texts(built.splits["train"][0], tokenizer) == DOCUMENTS


def test_the_identity_is_that_of_the_content(data, tokenizer, tmp_path):
    one = store.build(data, tokenizer, tmp_path / "one")
    again = store.build(data, tokenizer, tmp_path / "two")
    assert one.identity == again.identity
    Path(data.corpora[0].source).touch()
    assert store.build(data, tokenizer, tmp_path / "two").identity == one.identity
    jsonl(Path(data.corpora[0].source), [*DOCUMENTS[:-1], "another last document"])
    assert store.build(data, tokenizer, tmp_path / "two").identity != one.identity
    no_bos = Bytes(bos=False).build(lambda: iter(()))
    assert store.build(data, no_bos, tmp_path / "two").identity != one.identity


def test_a_built_store_is_not_built_again(data, tokenizer, tmp_path):
    calls = []
    store.build(data, tokenizer, tmp_path, lambda *done: calls.append(done))
    assert [split for split, _, _ in calls] == ["train", "validation"]
    store.build(data, tokenizer, tmp_path, lambda *done: calls.append(done))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"split": "position"}, "split"),
        ({"validation_fraction": 0.2}, "validation_fraction"),
        ({"corpora": (Corpus("stdlib"),)}, "corpora"),
    ],
)
def test_another_split_or_text_is_refused_by_name(change, name, data, tokenizer, tmp_path):
    folder = store.build(data, tokenizer, tmp_path).folder
    with pytest.raises(DataError, match=rf"{folder.name}: {name} of this store is"):
        store.open(folder, tokenizer, dataclasses.replace(data, **change))


def test_another_tokenizer_policy_or_vocabulary_is_refused_by_name(data, tokenizer, tmp_path):
    folder = store.build(data, tokenizer, tmp_path).folder
    other = Bytes(bos=False, eos=True).build(lambda: iter(()))
    with pytest.raises(DataError, match=rf"{folder.name}: tokenizer of this store is '{tokenizer.hash}'"):
        store.open(folder, other, data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["origin"]["vocab_size"] = 50257
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="vocab_size of this store is 50257"):
        store.open(folder, tokenizer, data)


@pytest.mark.parametrize("name", ["train-0.tokens", "validation-0.starts"])
def test_one_flipped_bit_is_detected(name, data, tokenizer, tmp_path):
    path = store.build(data, tokenizer, tmp_path).folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: not the file that was written"):
        store.build(data, tokenizer, tmp_path)


def test_an_id_outside_the_vocabulary_is_refused(data, tmp_path):
    class Broken:
        vocab_size, bos_id, eos_id, hash = 300, None, None, "broken"

        def encode_batch(self, batch):
            return [np.array([7, 300 if "Document 12:" in text else 8], np.int32) for text in batch]

    with pytest.raises(DataError, match=r"token id 300 is outside the vocabulary of 300 ids"):
        store.build(data, Broken(), tmp_path)


def test_a_vocabulary_beyond_sixteen_bits_is_stored_in_thirty_two():
    assert shards.token_dtype(65536) == np.uint16
    assert shards.token_dtype(65537) == np.uint32


BUILD = """
import sys, time
from pathlib import Path
from gptjax.config import Corpus, Data
from gptjax.data import shards, store
from gptjax.data.tokenizers import Bytes
shards.BATCH_BYTES = 500
write = shards._put
def slow(*args):
    time.sleep(0.004)
    write(*args)
shards._put = slow
data = Data(corpora=(Corpus(sys.argv[1]),), split="document")
print("started", flush=True)
built = store.build(data, Bytes(bos=True, eos=True).build(lambda: iter(())), Path(sys.argv[2]))
print(built.identity, flush=True)
"""


def start(data: Data, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD, data.corpora[0].source, str(cache)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def progress_of(folder: Path) -> str:
    path = folder / "progress.json"
    return path.read_text() if path.exists() else ""


def test_a_build_killed_at_any_moment_ends_with_the_same_bytes(data, tokenizer, tmp_path):
    expected = store.build(data, tokenizer, tmp_path / "whole")
    folder = tmp_path / "killed/stores" / expected.folder.name
    for delay in (0.0, 0.123):
        process, before = start(data, tmp_path / "killed"), progress_of(folder)
        while progress_of(folder) == before:
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (folder / "manifest.json").exists()
    output, errors = start(data, tmp_path / "killed").communicate()
    assert output.strip() == expected.identity, errors
    for path in expected.folder.glob("*-0.*"):
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_what_was_written_after_the_last_commit_is_written_over(data, tokenizer, tmp_path, monkeypatch):
    expected = store.build(data, tokenizer, tmp_path / "whole")
    monkeypatch.setattr(shards, "BATCH_BYTES", 5000)
    commits, put = [], shards._put

    def stop_after_writing(path, start, values):
        put(path, start, values)
        commits.append(path)
        if len(commits) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_put", stop_after_writing)
    with pytest.raises(KeyboardInterrupt):
        store.build(data, tokenizer, tmp_path / "killed")
    monkeypatch.setattr(shards, "_put", put)
    for path in (tmp_path / "killed").rglob("*.tokens"):
        path.write_bytes(path.read_bytes() + bytes(1_000_000))
    monkeypatch.setattr(shards, "BATCH_BYTES", 3000)
    assert store.build(data, tokenizer, tmp_path / "killed").identity == expected.identity


def test_a_second_process_waits_for_the_first(data, tokenizer, tmp_path):
    expected = store.build(data, tokenizer, tmp_path / "one")
    folder = tmp_path / "two/stores" / expected.folder.name
    folder.mkdir(parents=True)
    with store._locked(folder):
        second = start(data, tmp_path / "two")
        assert second.stderr is not None
        assert "another process builds this store; waiting" in second.stderr.readline()
        time.sleep(0.1)
        assert [path.name for path in folder.iterdir()] == ["lock"]
    assert second.communicate()[0].strip() == expected.identity


def test_a_full_disk_is_one_clear_line(data, tokenizer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "_put", full)
    with pytest.raises(DataError, match="the disk is full; free some space and run again"):
        store.build(data, tokenizer, tmp_path)
