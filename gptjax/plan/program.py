"""What a compiled program does: which collectives it runs, how often, and how many bytes it moves through memory."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gptjax.plan.hlo import Computation, Instruction, attribute, group, read, size

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "iota", "opt-barrier", "async",
}  # fmt: skip
"""Operations that move no bytes themselves."""
PRODUCTS = re.compile(r"cublas|cudnn|gemm|tpu_custom_call|triton|dot|conv")
"""Targets of custom calls that multiply matrices."""


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
        self._computations, self._entry = read(text)
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
        """(computation, how often) of all that an instruction runs; of a condition every branch."""
        text = instruction.attributes
        if instruction.opcode == "while":
            yield attribute(text, "body"), self._trips(instruction)
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
        condition = self._computations[attribute(loop.attributes, "condition")]
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
                members = group(instruction.attributes, self._devices)
                read = sum(size(self._result(name, operand), anywhere=True) for operand in instruction.operands)
                if "all-reduce-scatter" in name:  # so a TPU's compiler writes it: added up, and a part of it kept
                    kind = "reduce-scatter"
                sums = found[kind, members]
                sums[0] += times
                sums[1] += times * read * (members if kind == "all-gather" else 1)
        listed = [Collective(kind, round(n), total, among) for (kind, among), (n, total) in found.items() if among > 1]
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
            return bool(PRODUCTS.search(attribute(instruction.attributes, "custom_call_target")))
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
            total += sum(size(computation.instructions[u.operands[1]].result) for u in users)
            in_place = True
        else:
            total += size(parameter.result)
    return total if in_place else total + size(result)


def _slices(instruction: Instruction, name: str) -> bool:
    return instruction.opcode in ("dynamic-slice", "gather", "slice") and instruction.operands[0] == name


def _updates(instruction: Instruction, name: str) -> bool:
    return instruction.opcode == "dynamic-update-slice" and instruction.operands[0] == name
