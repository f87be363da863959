"""Claims about pairs: what is read, what is held out, and how rows are padded."""

import json
import zipfile

import numpy as np
import pytest

from gptjax.config import Corpus, Data
from gptjax.data.errors import DataError
from gptjax.objectives import pairs
from gptjax.objectives.pairs import Pair

LINES = "Go.\tVa !\nGo.\tPars !\n\nI see.\tJe vois.\tCC BY\n"
PAIRS = [Pair("Go.", "Va !"), Pair("Go.", "Pars !"), Pair("I see.", "Je vois.")]


def listed(path):
    return list(pairs.pairs(str(path), "en", "fr"))


def test_tables_archives_and_records_hold_the_same_pairs(tmp_path):
    for name in ("a.txt", "a.tsv"):
        (tmp_path / name).write_text(LINES, encoding="utf-8")
        assert listed(tmp_path / name) == PAIRS
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("fra.txt", LINES)
        archive.writestr("_about.txt", "no pairs here")
    assert listed(tmp_path / "a.zip") == PAIRS
    records = (json.dumps({"fr": target, "en": source}) + "\n" for source, target in PAIRS)
    (tmp_path / "a.jsonl").write_text("".join(records), encoding="utf-8")
    assert listed(tmp_path / "a.jsonl") == PAIRS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Go.\tVa !\nNo tab here\n", r"a.tsv:2: 0 TABs; a line is source, TAB, target"),
        ("a\tb\tc\td\n", r"a.tsv:1: 3 TABs"),
        ("Go.\tVa !\nGo.\t \n", r"a.tsv:2: the target is empty"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path, content, message):
    (tmp_path / "a.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        listed(tmp_path / "a.tsv")


def test_an_archive_without_one_table_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.txt", LINES)
        archive.writestr("b.tsv", LINES)
    (tmp_path / "none.zip").write_text("no archive")
    for name, message in (("two", "holds 2 tables"), ("none", "not a readable zip"), ("absent", "no such file")):
        with pytest.raises(DataError, match=message):
            listed(tmp_path / f"{name}.zip")


def many(tmp_path):
    lines = [f"{'Say' if i % 3 else 'say '} {i}.\t{j} dit.\n" for i in range(200) for j in range(1 + i % 3)]
    lines += [f"SAY  {i}.\tencore.\n" for i in range(0, 200, 7)]  # the same sentences in other letters and spaces
    path = tmp_path / "many.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return Data(corpora=(Corpus(str(path)),), validation_fraction=0.3), len(lines)


def test_no_source_is_trained_on_and_held_out_and_nothing_is_lost(tmp_path):
    data, lines = many(tmp_path)
    found, again = (pairs.read(data, "source", "target") for _ in range(2))
    assert found == again
    sides = [{pairs.plain(pair.source) for pair in part} for part in (found.train[0], found.validation)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 200
    assert 0.2 < len(sides[1]) / 200 < 0.4
    assert len(found.train[0]) + len(found.validation) == lines


def test_training_leaves_out_what_a_validation_file_asks_and_says_so(tmp_path):
    (tmp_path / "train.tsv").write_text(LINES, encoding="utf-8")
    (tmp_path / "held.tsv").write_text("GO.\tVas-y !\n", encoding="utf-8")
    data = Data(corpora=(Corpus(str(tmp_path / "train.tsv")),), validation=str(tmp_path / "held.tsv"))
    found = pairs.read(data, "source", "target")
    assert found.train == [[Pair("I see.", "Je vois.")]]
    assert found.validation == [Pair("GO.", "Vas-y !")]
    assert found.notes == (f"{tmp_path}/train.tsv: 2 pairs left out whose source is in {tmp_path}/held.tsv",)


def test_the_identity_knows_the_pairs_and_what_is_held_out(tmp_path):
    data, _ = many(tmp_path)
    path = tmp_path / "other.tsv"
    path.write_text((tmp_path / "many.tsv").read_text().replace("encore", "toujours", 1), encoding="utf-8")
    others = (
        Data(corpora=data.corpora, validation_fraction=0.2),
        Data(corpora=(Corpus(str(path)),), validation_fraction=0.3),
    )
    identities = {pairs.read(d, "source", "target").identity for d in (data, *others)}
    assert len(identities) == 3


def test_nothing_to_train_on_or_to_hold_out_is_refused(tmp_path):
    path = tmp_path / "one.tsv"
    path.write_text("Go.\tVa !\n", encoding="utf-8")
    held_out = pairs._drawn("go.")
    for fraction, message in ((held_out + 0.01, "no pair to train on"), (held_out - 0.01, "no pair to validate on")):
        with pytest.raises(DataError, match=message):
            pairs.read(Data(corpora=(Corpus(str(path)),), validation_fraction=fraction), "source", "target")


def test_rows_are_padded_copies_in_the_order_that_is_asked_for():
    sources = [np.arange(1, n + 1, dtype=np.int32) for n in (3, 1, 4)]
    targets = [np.arange(10, 10 + n, dtype=np.int32) for n in (2, 5, 3)]
    rows = pairs.row_source(sources, targets, 4, 6).take(np.array([2, 0, 1]), 0)
    np.testing.assert_array_equal(rows.source_BS, [[1, 2, 3, 4], [1, 2, 3, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(rows.source_lengths_B, [4, 3, 1])
    np.testing.assert_array_equal(
        rows.target_BU, [[10, 11, 12, 0, 0, 0], [10, 11, 0, 0, 0, 0], [10, 11, 12, 13, 14, 0]]
    )
    np.testing.assert_array_equal(rows.target_lengths_B, [3, 2, 5])
    assert {rows.source_BS.dtype, rows.target_BU.dtype} == {np.dtype(np.int32)}


def test_the_published_pairs_are_read_whole(shared):
    archive = shared / "tatoeba-fra-eng" / "fra-eng.zip"
    if not archive.exists():
        pytest.skip(f"{archive} is not on this machine")
    data = Data(corpora=(Corpus(str(archive)),), validation_fraction=0.05)
    found = pairs.read(data, "source", "target")
    assert len(found.train[0]) + len(found.validation) == 142_787
    assert found.train[0][0].target == "Va !" or found.validation[0].target == "Va !"
    assert not {p.source for p in found.train[0]} & {p.source for p in found.validation}
