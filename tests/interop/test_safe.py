"""Claims about reading weights that strangers wrote."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.interop import safe


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def put(path, header, body=b"", size=None):
    """A file of this header (an object, or bytes as they are) and this body."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content) if size is None else size) + content + body)


def all_of(folder):
    with safe.opened(folder) as weights:
        return {name: weights.read(name) for name in weights.names}


HOSTILE = {
    "header larger than any": ({}, b"", 2**62),
    "header larger than the file": ({}, b"", 1000),
    "no JSON": (b"hello", b"", None),
    "not UTF-8": (b"\xff\xfe", b"", None),
    "deep nesting": (b"[" * 100_000, b"", None),
    "overlap": ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12), None),
    "one place twice": ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4), None),
    "hole": ({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12), None),
    "bytes behind": ({"a": entry([1], 0, 4)}, bytes(12), None),
    "truncated": ({"a": entry([4], 0, 16)}, bytes(8), None),
    "shape against size": ({"a": entry([3], 0, 8)}, bytes(8), None),
    "negative shape": ({"a": entry([-2], 0, 8)}, bytes(8), None),
    "overflowing shape": ({"a": entry([2**62, 16], 0, 8)}, bytes(8), None),
    "unknown dtype": ({"a": entry([2], 0, 8, "OBJECT")}, bytes(8), None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name_in_one_line(name, tmp_path):
    header, body, size = HOSTILE[name]
    put(tmp_path / safe.SINGLE, header, body, size)
    with pytest.raises(DataError, match=r"model\.safetensors: not a whole safetensors file") as error:
        all_of(tmp_path)
    assert "\n" not in str(error.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / safe.SINGLE).touch()
    with pytest.raises(DataError, match="not a whole safetensors file"):
        all_of(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl", "model.ckpt", "tf_model.h5"])
def test_pickles_are_refused_with_the_way_out_and_never_opened(name, tmp_path):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(DataError, match=f"{name} is not read.*safetensors"):
        all_of(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/x.safetensors",
        "..\\x.safetensors",
        "x.bin",
        "",
        "..",
        "x\0.safetensors",
    ],
)
def test_an_index_leads_nowhere_but_into_its_folder(file, tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    for place in (tmp_path, folder):
        safe.write(place, {"a": np.zeros(1, np.float32)})
    (tmp_path / safe.SINGLE).rename(tmp_path / "x.safetensors")
    (folder / safe.SINGLE).unlink()
    (folder / safe.INDEX).write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(DataError, match=r"not the plain name of a \.safetensors file"):
        all_of(folder)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "{"]
)
def test_a_malformed_index_is_refused(content, tmp_path):
    (tmp_path / safe.INDEX).write_text(content)
    with pytest.raises(DataError, match=r"index\.json"):
        all_of(tmp_path)


TENSORS = {name: np.arange(6, dtype=np.float32).reshape(2, 3) + n for n, name in enumerate("abc")}


def sharded(folder):
    safe.write(folder, TENSORS, shard_bytes=50)
    return folder / safe.INDEX


def test_sharded_equals_single(tmp_path):
    folders = [tmp_path / name for name in ("single", "sharded")]
    for folder, most in zip(folders, (10**6, 50), strict=True):
        folder.mkdir()
        safe.write(folder, TENSORS, shard_bytes=most)
    single, several = map(all_of, folders)
    assert sorted(p.name for p in folders[1].iterdir()) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", safe.INDEX,
    ]  # fmt: skip
    assert single.keys() == several.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(single[name], tensor)
        np.testing.assert_array_equal(several[name], tensor)


def test_a_transposed_array_is_written_as_it_reads(tmp_path):
    safe.write(tmp_path, {"a": TENSORS["a"].T})
    np.testing.assert_array_equal(all_of(tmp_path)["a"], TENSORS["a"].T)


def test_a_missing_shard_is_named(tmp_path):
    sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match=r"names model-00002-of-00002\.safetensors, which is not there"):
        all_of(tmp_path)


def test_a_tensor_that_the_index_promises_must_be_there(tmp_path):
    index = sharded(tmp_path)
    saved = json.loads(index.read_text())
    saved["weight_map"]["d"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(saved))
    with pytest.raises(DataError, match="tensor d is missing from model-00001"):
        all_of(tmp_path)
    del saved["weight_map"]["d"], saved["weight_map"]["a"]
    index.write_text(json.dumps(saved))
    with pytest.raises(DataError, match="tensor a is in, against the index, model-00001"):
        all_of(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "infinite"), [(ml_dtypes.bfloat16, "BF16", 0x7F80), (np.float16, "F16", 0x7C00)]
)
def test_half_precision_is_read_exactly(kind, name, infinite, tmp_path):
    every = np.arange(2**16, dtype=np.uint16)
    bits = every[every & infinite != infinite]
    put(tmp_path / safe.SINGLE, {"a": entry([len(bits)], 0, bits.nbytes, name)}, bits.tobytes())
    found = all_of(tmp_path)["a"]
    assert found.dtype == kind
    np.testing.assert_array_equal(found.astype(np.float32).astype(kind).view(np.uint16), bits)


def test_other_numbers_and_other_shapes_are_refused_before_they_are_read(tmp_path):
    put(tmp_path / safe.SINGLE, {"a": entry([2], 0, 8, "I32"), "b": entry([2], 8, 16)}, bytes(16))
    with safe.opened(tmp_path) as weights:
        with pytest.raises(DataError, match="tensor a is I32; only F32, F16, BF16 are read"):
            weights.check("a", (2,))
        with pytest.raises(DataError, match=r"tensor b is \[2\], and not \[3\] as configured"):
            weights.check("b", (3,))
