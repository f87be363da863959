"""Records come out of every format with their fields, and a fault names its line."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gptjax.data.errors import DataError
from gptjax.data.records import field, records, text

GLUE = Path(__file__).parents[2].parent / "shared/data/glue"
ROWS = [{"a": "one", "b": "é"}, {"a": "two\tx", "b": '"quoted" text'}]


def test_every_format_gives_the_same_records(tmp_path):
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "r.json").write_text(json.dumps(ROWS, indent=2))
    (tmp_path / "r.csv").write_text('a,b\none,é\n"two\tx","""quoted"" text"\n')
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "r.parquet")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for source in (*sorted(tmp_path.glob("r.*")), f"hf://{tmp_path}/hub"):
        assert [row for _, row in records(source)] == ROWS


def test_tsv_takes_quotes_as_they_are_and_names_for_a_missing_header(tmp_path):
    path = tmp_path / "r.tsv"
    path.write_bytes(b'a\tb\r\n"one\t two \r\n')
    assert list(records(path)) == [(f"{path}:2", {"a": '"one', "b": " two "})]
    assert [row["x"] for _, row in records(path, ("x", "y"))] == ["a", '"one']


def test_origin_is_the_line_a_record_starts_on(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text('a,b\n1,"x\ny"\n2,z\n')
    assert list(records(path)) == [(f"{path}:2", {"a": "1", "b": "x\ny"}), (f"{path}:4", {"a": "2", "b": "z"})]
    (tmp_path / "r.json").write_text('[{"a": 1}, {"a": 2}]')
    assert [origin for origin, _ in records(tmp_path / "r.json")] == [f"{tmp_path}/r.json[0]", f"{tmp_path}/r.json[1]"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.tsv", "a\tb\n1\t2\n3\n", r"r.tsv:3: 1 fields where there are 2 columns: a, b"),
        ("r.tsv", "a\ta\n", r"r.tsv:1: the header names a column twice"),
        ("r.csv", 'a,b\n1,"2\n', r"r.csv:2: not CSV"),
        ("r.json", '{"a": 1}', r"r.json: holds an object, not a list of objects"),
        ("r.json", '[{"a": 1},\n{"a" 2}]', r"r.json:2: not JSON"),
        ("r.json", '[{"a": 1}, true]', r"r.json\[1\]: holds true or false, not an object"),
        ("r.jsonl", '{"a": 1}\nnull\n', r"r.jsonl:2: holds null, not an object"),
        ("r.txt", "a", r"r.txt: records are read from .jsonl, .json, .parquet, .tsv, .csv and hf://"),
    ],
)
def test_fault_is_named_by_file_and_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(records(tmp_path / name))
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"no such file|records are read from"):
        list(records(tmp_path / name))


def test_missing_field_names_those_there_are():
    with pytest.raises(DataError, match=r'f.tsv:3: field "label" is missing; fields are a, b'):
        field({"a": 1, "b": 2}, "f.tsv:3", "label")
    with pytest.raises(DataError, match=r'f.tsv:3: field "a" is 1, not a string'):
        text({"a": 1}, "f.tsv:3", "a")
    assert text({"a": "é"}, "f.tsv:3", "a") == "é"


@pytest.mark.skipif(not GLUE.exists(), reason="GLUE is not on this machine")
def test_glue_files_have_their_published_sizes():
    cola = ("source", "label", "mark", "sentence")
    sizes = {"SST-2/train": None, "SST-2/dev": None, "RTE/train": None, "STS-B/dev": None, "CoLA/train": cola}
    found = [sum(1 for _ in records(GLUE / f"{name}.tsv", names)) for name, names in sizes.items()]
    assert found == [67_349, 872, 2_490, 1_500, 8_551]
