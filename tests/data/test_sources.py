"""A source names its files in one order, and its fingerprint follows them."""

import os

import pytest

from gptjax.data import corpora, sources
from gptjax.data.errors import DataError


def texts(source) -> list[str]:
    return [piece.text for piece in corpora.pieces(str(source))]


def test_folder_and_glob_are_read_in_sorted_order(tmp_path):
    for name, text in (("b.txt", "B"), ("a/z.md", "Z"), ("a/y.txt", "Y"), (".hidden/x.txt", "X"), ("empty.txt", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "c.jsonl").write_text('{"text": "C1"}\n{"text": "C2"}\n')
    assert texts(tmp_path) == ["Y", "Z", "B", "C1", "C2"]
    assert texts(tmp_path / "**/*.txt") == ["Y", "B"]
    assert texts(tmp_path / "[a]") == ["Y", "Z"]


def test_missing_or_empty_sources_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("nowhere.txt", "no such file or folder; a source is"),
        ("*.nothing", "no file there"),
        ("folder", "no file there"),
        ("empty.txt", "the corpus is empty"),
    ):
        with pytest.raises(DataError, match=message):
            list(corpora.pieces(str(tmp_path / name)))


def test_hub_set_is_streamed_from_a_local_folder(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "test.jsonl").write_text('{"text": "three"}\n')
    source = f"hf://{tmp_path}"
    assert texts(source) == ["one", "two"]
    assert texts(f"{source}:test") == ["three"]
    before = corpora.fingerprint(source)
    assert corpora.fingerprint(f"{source}:test") != before == corpora.fingerprint(source)
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": "two!"}\n')
    assert corpora.fingerprint(source) != before
    (tmp_path / "dev.jsonl").write_text('{"text": "one"\n{"text" "two"}\n')
    for wrong, message in (
        (f"{source}:validation", "validation"),
        (f"{source}:nope", "Bad split: nope"),
        (f"{source}/nowhere", "nowhere: "),
        ("hf://", "not of the form"),
        ("hf://a/b/c/d", "not of the form"),
    ):
        with pytest.raises(DataError, match=message) as error:
            list(corpora.pieces(wrong))
        assert "\n" not in str(error.value)


def test_standard_library_is_code_without_tests():
    files = sources.files("stdlib")
    names = {"/".join(path.parts[-2:]) for path in files}
    assert "json/decoder.py" in names
    assert not [path for path in files if {"test", "tests", "site-packages"} & set(path.parts[-3:-1])]
    assert 8e6 < sum(path.stat().st_size for path in files) < 16e6
    assert files == sorted(files, key=lambda path: path.as_posix())


def test_fingerprint_follows_every_file(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    seen = {corpora.fingerprint(str(tmp_path))}
    (tmp_path / "b.txt").write_text("b")
    seen.add(corpora.fingerprint(str(tmp_path)))
    os.utime(tmp_path / "a.txt", ns=(0, 0))
    seen.add(corpora.fingerprint(str(tmp_path)))
    (tmp_path / "b.txt").write_text("bb")
    seen.add(corpora.fingerprint(str(tmp_path)))
    assert len(seen) == 4
    assert corpora.fingerprint(str(tmp_path)) in seen
    with pytest.raises(DataError, match="no such file"):
        corpora.fingerprint(str(tmp_path / "nowhere"))
