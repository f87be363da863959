"""Claims about the update that a TPU is given: what it moves between devices, and what it writes to memory."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from runs import TARGETS, compiles_for_a_tpu

pytestmark = compiles_for_a_tpu

PROGRAM = Path(__file__).with_name("update_program.py")
MESHES = {
    "data": [4, 1, 1, "update", "dense"],
    "fsdp": [1, 4, 1, "update", "dense"],
    "layer": [1, 4, 1, "layer", "dense"],
    "splash": [4, 1, 1, "update", "auto"],
}
LAYERS, WIDTH, HEADS, TOKENS, VOCABULARY = 4, 256, 4, 384, 2048
MATRIX = WIDTH * WIDTH


@pytest.fixture(scope="module")
def updates():
    """What the update on each mesh does: [(what, [(dtype, shape) of its results])]."""
    sizes = {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "tokens": TOKENS, "vocabulary": VOCABULARY}
    command = [sys.executable, str(PROGRAM), json.dumps(sizes), json.dumps(list(MESHES.values()))]
    environment = os.environ | {"PYTHONPATH": str(TARGETS.parent)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, env=environment)
    found = ([(does, arrays(result)) for does, result in update] for update in json.loads(done.stdout))
    return dict(zip(MESHES, found, strict=True))


def arrays(result):
    found = re.findall(r"(\w+)\[([\d,]*)\]", result)
    return [(dtype, tuple(map(int, filter(None, axes.split(","))))) for dtype, axes in found]


def results(update, kind=None):
    return [found for does, results in update for found in results if kind in (None, does)]


def total(found):
    return sum(math.prod(shape) for _, shape in found)


def test_parameters_are_gathered_in_the_dtype_of_the_computation(updates):
    gathered = results(updates["fsdp"], "all-gather")
    tokens = [found for found in gathered if found[0] == "s32"]
    assert {dtype for dtype, _ in gathered if dtype != "s32"} == {"bf16"}
    assert total(gathered) - total(tokens) == (VOCABULARY + TOKENS) * WIDTH + LAYERS * 8 * MATRIX  # all but norms, once


@pytest.mark.parametrize("mesh", ["data", "fsdp"])
def test_logits_are_written_in_the_dtype_of_the_computation(updates, mesh):
    dtypes = {dtype for dtype, shape in results(updates[mesh]) if shape[-1:] == (VOCABULARY,) and len(shape) > 1}
    assert dtypes == {"bf16"}


def test_muon_moves_every_matrix_twice_where_fsdp_splits_them_and_once_where_all_have_it(updates):
    moved = [found for found in results(updates["fsdp"], "all-to-all") if found[0] == "bf16"]
    assert total(moved) == 2 * LAYERS * 8 * MATRIX // 4  # of each device
    assert not results(updates["data"], "all-to-all")
    gathered = results(updates["data"], "all-gather")
    assert {dtype for dtype, _ in gathered} == {"bf16"}
    assert total(gathered) == LAYERS * 8 * MATRIX


def test_layers_that_are_gathered_singly_are_never_all_there(updates):
    whole, layer = (math.prod((n, WIDTH, 2 * WIDTH)) for n in (LAYERS, 1))
    assert max(total([found]) for found in results(updates["fsdp"], "all-gather")) == whole
    gathered = [found for found in results(updates["layer"], "all-gather") if found[1][:1] != (VOCABULARY,)]
    assert max(total([found]) for found in gathered) == layer
    of_layers = [found for found in gathered if len(found[1]) == 3 and found[0] == "bf16"]
    assert total(of_layers) == 2 * 8 * MATRIX  # forward and backward


def test_attention_copies_what_its_kernels_make_and_nothing_that_they_read(updates):
    activations = 16 // 4 * TOKENS * WIDTH  # of each device
    copied = [shape for dtype, shape in results(updates["splash"], "copy") if math.prod(shape) == activations]
    assert len(copied) == LAYERS * len(("out", "dq", "dk", "dv")), copied
