"""Every document arrives, once, whole, on its side of the split; what is wrong is named."""

import itertools
import json
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.config import Corpus, Data
from gptjax.data import corpora, cuts, utf8
from gptjax.data.errors import DataError

SHAKESPEARE = Path(__file__).parents[2].parent / "shared/data/tinyshakespeare/input.txt"


def data(*paths, **fields) -> Data:
    return Data(**{"corpora": tuple(Corpus(str(path)) for path in paths), "split": "document", **fields})


def documents(pieces) -> list[str]:
    """Whole texts, and a proof that starts and ends are where they belong."""
    texts, inside = [], False
    for piece in pieces:
        assert piece.text
        assert piece.starts is not inside
        texts.append(piece.text) if piece.starts else texts.append(texts.pop() + piece.text)
        inside = not piece.ends
    assert not inside
    return texts


def side(config: Data, name: str) -> list[str]:
    return documents(piece for _, piece in corpora.splits(config)[name]())


@pytest.fixture
def many(tmp_path) -> Path:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i % 900} is a document"}) + "\n" for i in range(1000)))
    return path


# --- sources ---


def test_text_file_comes_back_byte_for_byte_in_small_parts(tmp_path, monkeypatch):
    content = "\ufeffone two\r\n\n  thrée 🎉 four\tfive \u2028 six" * 50 + "\r"
    (tmp_path / "a.txt").write_bytes(content.encode())
    for size in (1, 7, 64, 1 << 20):
        monkeypatch.setattr(utf8, "PART_BYTES", size)
        found = list(corpora.pieces(str(tmp_path / "a.txt")))
        assert documents(found) == [content]
        assert len(found) > len(content.encode()) // size // 40


def test_parts_are_cut_where_tokens_cannot_cross(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("if x:\n    return  a + 'b c'\n\n" * 200)
    monkeypatch.setattr(utf8, "PART_BYTES", 100)
    parts = [piece.text for piece in corpora.pieces(str(tmp_path / "a.txt"))]
    assert len(parts) > 20
    for before, after in itertools.pairwise(parts):
        assert not before[-1].isspace()
        assert after[0] == " "


@settings(max_examples=100, deadline=None)
@given(text=st.text("ab \n", max_size=40))
def test_last_place_to_cut_is_a_good_place_or_the_end(text):
    place = cuts.last(text)
    assert place == len(text) or (text[place] == " " and not text[place - 1].isspace())
    assert cuts.last(text + "x y") == len(text) + 1


def test_invalid_utf8_is_named_by_file_and_byte(tmp_path, monkeypatch):
    for size in (3, 1 << 20):
        monkeypatch.setattr(utf8, "PART_BYTES", size)
        for content, place, byte in ((b"h\xc3\xa9llo \xff!", 7, "FF"), (b"ab\xc3", 2, "C3"), (b"abc\xe2\x28", 3, "E2")):
            (tmp_path / "bad.txt").write_bytes(content)
            with pytest.raises(DataError, match=rf"bad.txt: invalid UTF-8 at byte offset {place} \(0x{byte}\)"):
                list(corpora.pieces(str(tmp_path / "bad.txt")))
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "\xe9"}\n')
    with pytest.raises(DataError, match=r"bad.jsonl:2: invalid UTF-8 at byte offset 27 "):
        list(corpora.pieces(str(tmp_path / "bad.jsonl")))


def test_jsonl_line_is_a_document_and_its_faults_name_the_line(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('\ufeff{"text": "a\\nb"}\n\n{"text": ""}\r\n{"text": "c", "id": 3}')
    assert [(p.text, p.origin) for p in corpora.pieces(str(path))] == [("a\nb", f"{path}:1"), ("c", f"{path}:4")]
    faults = {
        '{"id": 1, "body": "x"}': r'c.jsonl:2: field "text" is missing; fields are id, body',
        '{"text": 17}': r'c.jsonl:2: field "text" is 17, not a string',
        '["x"]': r"c.jsonl:2: holds a list, not an object",
        '{"text": "x"': r"c.jsonl:2: not JSON \(.* at column \d+\)",
        '{"text": "x\\ud800"}': r'c.jsonl:2: field "text": character 1 is U\+D800',
    }
    for line, message in faults.items():
        path.write_text('{"text": "a"}\n' + line + "\n")
        with pytest.raises(DataError, match=message):
            list(corpora.pieces(str(path)))


def test_parquet_row_is_a_document(tmp_path):
    rows = [f"row {i} é" for i in range(3000)]
    pyarrow.parquet.write_table(pyarrow.table({"id": range(3000), "text": rows}), tmp_path / "c.parquet")
    found = list(corpora.pieces(str(tmp_path / "c.parquet")))
    assert documents(found) == rows
    assert found[2000].origin == f"{tmp_path}/c.parquet row 2000"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["x"]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r'd.parquet: field "text" is missing; fields are id, body'):
        list(corpora.pieces(str(tmp_path / "d.parquet")))
    (tmp_path / "e.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match=r"e.parquet: not a readable Parquet file"):
        list(corpora.pieces(str(tmp_path / "e.parquet")))


def test_long_document_of_a_row_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "PART_CHARACTERS", 10)
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "word " * 30}) + "\n" + json.dumps({"text": "b"}))
    found = list(corpora.pieces(str(tmp_path / "c.jsonl")))
    assert len(found) > 5
    assert documents(found) == ["word " * 30, "b"]


# --- splits ---


def test_documents_are_divided_by_what_they_say(many):
    config = data(many, validation_fraction=0.2)
    train, held_out = side(config, "train"), side(config, "validation")
    assert sorted(train + held_out) == sorted(documents(corpora.pieces(str(many))))
    assert not set(train) & set(held_out)  # also the hundred that come twice
    assert 140 < len(held_out) < 260
    assert side(config, "train") == train
    lines = many.read_text().splitlines()
    many.write_text("\n".join(reversed(lines)))
    assert sorted(side(config, "validation")) == sorted(held_out)


def test_long_document_is_on_one_side_whole(many, monkeypatch):
    config = data(many, validation_fraction=0.5)
    whole = len(side(config, "train")) + len(side(config, "validation"))
    monkeypatch.setattr(corpora, "PART_CHARACTERS", 2)
    assert len(side(config, "train")) + len(side(config, "validation")) == whole


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_position_split_cuts_every_character_to_one_side(tmp_path, monkeypatch, fraction):
    text = "zero one two thrée four 🎉 five six seven" * 3 + "!"
    (tmp_path / "a.txt").write_text(text)
    for size in (1, 8, 1 << 20):  # ends of parts fall on the boundary, too
        monkeypatch.setattr(utf8, "PART_BYTES", size)
        config = data(tmp_path / "a.txt", split="position", validation_fraction=fraction)
        train, held_out = side(config, "train"), side(config, "validation")
        assert len(train) == len(held_out) == 1
        assert train[0] + held_out[0] == text
        assert len(train[0]) == int((1 - fraction) * len(text))


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="tiny Shakespeare is not on this machine")
def test_position_split_of_shakespeare_is_nanogpts():
    config = data(SHAKESPEARE, split="position")
    assert [len(side(config, name)[0]) for name in ("train", "validation")] == [1_003_854, 111_540]


def test_mixture_keeps_the_number_of_each_corpus(many, tmp_path):
    (tmp_path / "a.txt").write_text("one two three four")
    config = data(many, tmp_path / "a.txt", split="position", validation_fraction=0.5)
    for name in ("train", "validation"):
        numbers = [number for number, _ in corpora.splits(config)[name]()]
        assert numbers == sorted(numbers)
        assert set(numbers) == {0, 1}


def test_validation_of_its_own_leaves_the_corpora_whole(many, tmp_path):
    (tmp_path / "a.txt").write_text("held out")
    config = data(many, validation=str(tmp_path / "a.txt"))
    assert len(side(config, "train")) == 1000
    assert side(config, "validation") == ["held out"]
    assert "validation" not in corpora.splits(data(many, validation_fraction=0.0))
    assert len(side(data(many, validation_fraction=0.0), "train")) == 1000


def test_side_without_text_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "a.txt").write_text("one document")
    readers = corpora.splits(data(tmp_path / "a.txt"))
    with pytest.raises(DataError, match=r"a.txt: split='document' .* hold out by position"):
        _ = [list(reader()) for reader in readers.values()]
    (tmp_path / "b.txt").write_text("b")
    with pytest.raises(DataError, match="leaves one side without text"):
        list(corpora.splits(data(tmp_path / "b.txt", split="position"))["train"]())


@pytest.mark.parametrize("line", [b"some words and a line end\n", b"nospacesatall" * 8])
def test_memory_does_not_grow_with_a_text_file(tmp_path, line):
    path = tmp_path / "large.txt"
    path.write_bytes(line * (24_000_000 // len(line)))
    readers = corpora.splits(data(path, split="position"))
    tracemalloc.start()
    total = sum(len(piece.text) for reader in readers.values() for _, piece in reader())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == path.stat().st_size
    assert peak < 12_000_000
