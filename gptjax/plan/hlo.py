"""The text of a compiled program (HLO), read line by line."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

BYTES = {"pred": 1, "bf16": 2, "c64": 8, "c128": 16, "s4": 0.5, "u4": 0.5, "token": 0, "opaque": 0}
"""Bytes of one element of a type whose name does not end in its bits, or not in all of them."""


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    opcode: str
    result: str
    """Its shape as text."""
    operands: tuple[str, ...]
    """Names."""
    attributes: str
    """All that follows the operands."""

    @property
    def does(self) -> str:
        """What is done; an operation that others run beside is written as its start and its end."""
        return self.opcode.removesuffix("-start")


@dataclass
class Computation:
    """Some lines that are run together."""

    instructions: dict[str, Instruction] = field(default_factory=dict)

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Who reads each instruction."""
        found = defaultdict(list)
        for instruction in self.instructions.values():
            for operand in instruction.operands:
                found[operand].append(instruction)
        return found


def size(shape: str, anywhere: bool = False) -> float:
    """Bytes of all arrays in a shape's text that lie in a device's main memory, or anywhere (a TPU's vector memory)."""
    return sum(
        _element(dtype) * _elements(axes)
        for dtype, axes, layout in re.findall(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?", shape)
        if anywhere or not re.search(r"S\([1-9]\)", layout)
    )


def _element(dtype: str) -> float:
    bits = re.match(r"[a-z]+(\d+)", dtype)
    return BYTES[dtype] if dtype in BYTES else int(bits[1]) / 8 if bits else 0.0


def _elements(axes: str) -> int:
    total = 1
    for axis in filter(None, axes.split(",")):
        total *= int(axis)
    return total


def group(attributes: str, devices: int) -> int:
    """Devices of one group: replica_groups as lists, as [groups,size]<=[...], or as named axes of a mesh."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return listed[1].count(",") + 1
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes):
        return int(iota[2])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\([^{]*\))?\s*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        group = 1
        for axis in re.findall(r"'([^']+)'", named[2]):
            group *= int(sizes[axis])
        return group
    return devices


def attribute(text: str, name: str) -> str:
    """The value of an attribute, a name or a word; empty where there is none."""
    found = re.search(rf'\b{name}="?%?([\w.$-]+)', text)
    return found[1] if found else ""


def read(text: str) -> tuple[dict[str, Computation], str]:
    """All computations by name, and the name of the first one run."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
        if header and not line.startswith("HloModule"):
            current = computations[header[2]] = Computation()
            entry = header[2] if header[1] else entry
        elif current is not None and (instruction := _instruction(line)):
            current.instructions[instruction.name] = instruction
    return computations, entry


def _instruction(line: str) -> Instruction | None:
    named = re.match(r"\s*(?:ROOT )?%?([\w.-]+) = ", line)
    if not named:
        return None
    end = _shape_end(line, named.end())
    result, rest = line[named.end() : end], line[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    close = _closing(rest)
    operands = tuple(re.findall(r"%([\w.-]+)", rest[:close]))
    attributes = rest if opcode == "constant" else rest[close + 1 :]
    return Instruction(named[1], opcode, result, operands, attributes)


def _shape_end(line: str, start: int) -> int:
    if line[start] != "(":
        return line.index(" ", start)
    return start + 1 + _closing(line[start + 1 :]) + 1


def _closing(text: str) -> int:
    """Where the bracket closes that was open before the text."""
    depth = 1
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return at
    return len(text)
