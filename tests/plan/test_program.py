"""Claims about reading a compiled program: collectives are counted as often as they run, with their bytes."""

import json
import os
import subprocess
import sys

import pytest

from gptjax.plan.program import Collective, Program, Traffic

pytestmark = pytest.mark.usefixtures("optimised")

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp
from functools import partial
from dataclasses import asdict
from jax.sharding import PartitionSpec as P, NamedSharding
from gptjax.plan.program import Program
mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

@jax.jit
@partial(jax.shard_map, mesh=mesh, in_specs=P("b"), out_specs=P(), check_vma=False)
def work(x):
    def turn(total, _):
        whole = jax.lax.all_gather(jnp.sin(total), "b", tiled=True)
        return jax.lax.psum(whole[:2] * total, ("a", "b")), None
    total, _ = jax.lax.scan(turn, x, None, length=5)
    return jax.lax.psum(total, "a")

compiled = work.lower(jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=NamedSharding(mesh, P("b")))).compile()
program = Program(compiled.as_text(), 8)
print(json.dumps([[asdict(c) for c in program.collectives()], program.unknown_loops]))
"""


def test_collectives_in_a_loop_count_as_often_as_it_turns():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    found, unknown = json.loads(run.stdout)
    part = 2 * 16 * 4  # bytes of a device's share
    assert {(c["kind"], c["group"]): (c["count"], c["bytes"]) for c in found} == {
        ("all-gather", 4): (5, 5 * 4 * part),
        ("all-reduce", 8): (5, 5 * part),
        ("all-reduce", 2): (1, part),
    }
    assert unknown == 0


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[4,2]T(1,0)", 2),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", 4),
        ("replica_groups=mesh['a'=2,'b'=2,'c'=2], device_ids=([2,4]T(1,0)) {'a','b'}", 4),
        ("replica_groups={}", 8),
    ],
)
def test_every_spelling_of_a_group_is_read(groups, size):
    text = f"""HloModule m

ENTRY %main (x: f32[16]) -> f32[16] {{
  %x = f32[16]{{0:T(128)S(1)}} parameter(0)
  ROOT %r = f32[16]{{0}} all-reduce(%x), channel_id=1, {groups}, to_apply=%add
}}
"""
    assert Program(text, 8).collectives() == (Collective("all-reduce", 1, 64.0, size),)


LOOP = """HloModule m

%body (p: (s32[], bf16[32,8])) -> (s32[], bf16[32,8]) {
  %p = (s32[], bf16[32,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = bf16[32,8]{1,0} get-tuple-element(%p), index=1
  %row = bf16[1,8]{1,0} fusion(%x, %i), kind=kLoop, calls=%slice
  ROOT %t = (s32[], bf16[32,8]{1,0}) tuple(%i, %x)
}

%slice (a: bf16[32,8], b: s32[]) -> bf16[1,8] {
  %a = bf16[32,8]{1,0} parameter(0)
  %b = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %d = bf16[1,8]{1,0} dynamic-slice(%a, %b, %zero), dynamic_slice_sizes={1,8}
}

%condition (p: (s32[], bf16[32,8])) -> pred[] {
  %p.1 = (s32[], bf16[32,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %n = s32[] constant(32)
  ROOT %less = pred[] compare(%i.1, %n), direction=LT
}

ENTRY %main (q: (s32[], bf16[32,8])) -> (s32[], bf16[32,8]) {
  %q = (s32[], bf16[32,8]{1,0}) parameter(0)
  ROOT %w = (s32[], bf16[32,8]{1,0}) while(%q), condition=%condition, body=%body
}
"""


def test_a_loop_that_reads_one_layer_a_turn_reads_every_layer_once():
    program = Program(LOOP, 1)
    assert program.unknown_loops == 0
    assert program.traffic() == Traffic(0.0, 32 * (16 + 4 + 16))


def test_what_a_loop_writes_into_a_stack_is_read_once_and_written_once():
    update = """%write (a: bf16[32,8], b: bf16[1,8], c: s32[]) -> bf16[32,8] {
  %a.1 = bf16[32,8]{1,0} parameter(0)
  %b.1 = bf16[1,8]{1,0} parameter(1)
  %c.1 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %u = bf16[32,8]{1,0} dynamic-update-slice(%a.1, %b.1, %c.1, %zero.1)
}

%condition"""
    text = LOOP.replace("%condition", update, 1).replace("tuple(%i, %x)", "tuple(%i, %stack)")
    text = text.replace(
        "  ROOT %t", "  %stack = bf16[32,8]{1,0} fusion(%x, %row, %i), kind=kLoop, calls=%write\n  ROOT %t"
    )
    reads, writes = 16 + 4 + 16, 16 + 4 + 16
    assert Program(text, 1).traffic() == Traffic(0.0, 32 * (reads + writes))


def test_a_collective_that_runs_beside_others_is_reached_through_its_call():
    text = """HloModule m

%called (a: f32[16]) -> f32[16] {
  %a = f32[16]{0} parameter(0)
  ROOT %r = f32[16]{0} all-reduce(%a), channel_id=1, replica_groups={{0,1}}, to_apply=%add
}, execution_thread="beside"

ENTRY %main (x: f32[16]) -> f32[16] {
  %x = f32[16]{0} parameter(0)
  %s = ((f32[16]{0}), f32[16]{0}) call-start(%x), async_execution_thread="beside", to_apply=%called
  ROOT %d = f32[16]{0} call-done(%s)
}
"""
    program = Program(text, 2)
    assert program.collectives() == (Collective("all-reduce", 1, 64.0, 2),)
    assert program.traffic() == Traffic(0.0, 0.0)
    assert program.uncounted() == ()
    assert Program(text.replace("call-start", "new-thing"), 2).uncounted() == (
        "1 collectives that nothing known calls are not counted",
    )


def test_a_loop_of_unknown_length_counts_once_and_is_told():
    program = Program(LOOP.replace("constant(32)", "parameter(1)"), 1)
    assert program.uncounted() == ("1 loops of unknown length are counted once",)
    assert program.traffic().others == 16 + 4 + 16
