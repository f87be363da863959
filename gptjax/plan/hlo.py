"""Reading a compiled program: which collectives it runs, how often, and how many bytes it moves through memory."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

BYTES = {"pred": 1, "bf16": 2, "c64": 8, "c128": 16, "s4": 0.5, "u4": 0.5, "token": 0, "opaque": 0}
"""Bytes of one element of a type whose name does not end in its bits, or not in all of them."""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "iota", "opt-barrier", "async",
}  # fmt: skip
"""Operations that move no bytes themselves."""
PRODUCTS = re.compile(r"cublas|cudnn|gemm|tpu_custom_call|triton|dot|conv")
"""Custom calls and fusions that multiply matrices."""


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
    root: str = ""

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Who reads each instruction."""
        found = defaultdict(list)
        for instruction in self.instructions.values():
            for operand in instruction.operands:
                found[operand].append(instruction)
        return found


@dataclass(frozen=True)
class Collective:
    """Collectives of one kind and group, all of one update together, on each device."""

    kind: str
    count: int
    bytes: float
    """The whole array's, of each: what every device ends with, or begins with where it keeps a part."""
    group: int
    """Devices that take part in one."""


class Traffic(NamedTuple):
    """Bytes that one device reads and writes in an update, as far as the program's own lines tell."""

    products: float
    """By operations that multiply matrices."""
    others: float
    """By all others."""


class Program:
    """A compiled program's text, read."""

    def __init__(self, text: str, devices: int) -> None:
        self._devices = devices
        self._computations, self._entry = _read(text)
        self.unknown_loops = 0
        """Loops whose length the text does not say; they count once."""
        self._runs: list[tuple[str, float, bool]] = []
        """(computation, how often it runs, whether it is part of a fusion)"""
        self._visit(self._entry, 1.0, False)

    def _visit(self, name: str, times: float, fused: bool) -> None:
        self._runs.append((name, times, fused))
        for instruction in self._computations[name].instructions.values():
            inner = fused or instruction.does == "fusion"
            for called, count in self._called(instruction):
                self._visit(called, times * count, inner)

    def _called(self, instruction: Instruction) -> Iterator[tuple[str, float]]:
        text = instruction.attributes
        if instruction.opcode == "while":
            yield _attribute(text, "body"), self._trips(instruction)
        elif instruction.does in ("fusion", "call", "async"):
            called = re.search(r"(?:calls|to_apply|called_computations)=\{?%?([\w.-]+)", text)
            if called:
                yield called[1], 1.0
        elif instruction.opcode == "conditional":
            names = re.search(r"branch_computations=\{([^}]*)\}", text)
            listed = names[1].split(",") if names else re.findall(r"(?:true|false)_computation=%?([\w.-]+)", text)
            yield from ((one.strip().lstrip("%"), 1.0) for one in listed)

    def _trips(self, loop: Instruction) -> float:
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if known:
            return float(known[1])
        condition = self._computations[_attribute(loop.attributes, "condition")]
        compared = [i for i in self._under(condition) if i.opcode == "compare" and "direction=LT" in i.attributes]
        constants = [
            int(found[1])
            for i in self._under(condition)
            if i.opcode == "constant" and (found := re.match(r"^(\d+)\)", i.attributes))
        ]
        if len(compared) == 1 and len(constants) == 1:
            return float(constants[0])
        self.unknown_loops += 1
        return 1.0

    def _under(self, computation: Computation) -> Iterator[Instruction]:
        for instruction in computation.instructions.values():
            yield instruction
            for called, _ in self._called(instruction):
                yield from self._under(self._computations[called])

    def collectives(self) -> tuple[Collective, ...]:
        """Every kind, group by group, the largest first; those of a single device are none."""
        found: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for name, times, _ in self._runs:
            for instruction in self._computations[name].instructions.values():
                kind = instruction.does
                if kind not in COLLECTIVES:
                    continue
                group = _group(instruction.attributes, self._devices)
                read = sum(size(self._result(name, operand), anywhere=True) for operand in instruction.operands)
                if "all-reduce-scatter" in name:  # so a TPU's compiler writes it: added up, and a part of it kept
                    kind = "reduce-scatter"
                sums = found[kind, group]
                sums[0] += times
                sums[1] += times * read * (group if kind == "all-gather" else 1)
        listed = [Collective(kind, round(n), total, group) for (kind, group), (n, total) in found.items() if group > 1]
        return tuple(sorted(listed, key=lambda one: -one.bytes))

    def uncounted(self) -> tuple[str, ...]:
        """What the text does not tell, in words."""
        said = []
        if self.unknown_loops:
            said.append(f"{self.unknown_loops} loops of unknown length are counted once")
        if self.overlooked:
            said.append(f"{self.overlooked} collectives that nothing known calls are not counted")
        return tuple(said)

    @property
    def overlooked(self) -> int:
        """Collectives in the text that nothing known calls; they are not counted."""
        reached = {name for name, _, _ in self._runs}
        beside = [c for name, c in self._computations.items() if name not in reached]
        return sum(instruction.does in COLLECTIVES for c in beside for instruction in c.instructions.values())

    def _result(self, computation: str, name: str) -> str:
        return self._computations[computation].instructions[name].result

    def traffic(self) -> Traffic:
        """Bytes through memory: operands and results of every operation that is run as one."""
        products = others = 0.0
        for name, times, fused in self._runs:
            if fused:
                continue
            for instruction in self._computations[name].instructions.values():
                moved = times * self._moved(self._computations[name], instruction)
                if self._multiplies(instruction):
                    products += moved
                else:
                    others += moved
        return Traffic(products, others)

    def _multiplies(self, instruction: Instruction) -> bool:
        if instruction.opcode in ("dot", "convolution"):
            return True
        if instruction.opcode == "custom-call":
            return bool(PRODUCTS.search(_attribute(instruction.attributes, "custom_call_target")))
        if instruction.does != "fusion":
            return False
        inside = [i for name, _ in self._called(instruction) for i in self._under(self._computations[name])]
        return any(i.opcode in ("dot", "convolution") for i in inside)

    def _moved(self, computation: Computation, instruction: Instruction) -> float:
        opcode = instruction.does
        if opcode in FREE or opcode in COLLECTIVES or opcode.endswith(("-done", "-update")):
            return 0.0
        shapes = [computation.instructions[o].result for o in instruction.operands if o in computation.instructions]
        if opcode in ("dynamic-slice", "gather", "slice"):
            return 2 * size(instruction.result)
        if opcode in ("dynamic-update-slice", "scatter"):
            return 2 * size(shapes[-1] if opcode == "scatter" else shapes[1])
        if opcode != "fusion":
            return size(instruction.result) + sum(map(size, shapes))
        (name, _), *_ = self._called(instruction)
        return _fused(self._computations[name], instruction.result, shapes)


def _fused(computation: Computation, result: str, operands: list[str]) -> float:
    """What a fusion reads and writes: of an array that it only slices or updates in place, the slice."""
    total, in_place = 0.0, False
    for parameter in (i for i in computation.instructions.values() if i.opcode == "parameter"):
        users = computation.users[parameter.name]
        if users and all(_slices(u, parameter.name) for u in users):
            total += sum(size(u.result) for u in users)
        elif users and all(_updates(u, parameter.name) for u in users):
            total += sum(2 * size(computation.instructions[u.operands[1]].result) for u in users)
            in_place = True
        else:
            total += size(parameter.result)
    return total if in_place else total + size(result)


def _slices(instruction: Instruction, name: str) -> bool:
    return instruction.opcode in ("dynamic-slice", "gather", "slice") and instruction.operands[0] == name


def _updates(instruction: Instruction, name: str) -> bool:
    return instruction.opcode == "dynamic-update-slice" and instruction.operands[0] == name


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


def _group(attributes: str, devices: int) -> int:
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


def _attribute(text: str, name: str) -> str:
    found = re.search(rf'\b{name}="?%?([\w.$-]+)', text)
    return found[1] if found else ""


def _read(text: str) -> tuple[dict[str, Computation], str]:
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
            current.root = instruction.name if line.lstrip().startswith("ROOT") else current.root
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
