"""Random programs with nested control flow, and three ways to run each of them.

A program is a list of statements on a few variables: vectors `u`, `v`, numbers `s`, `t`, a whole
number `k`. The same statements are

* run as they stand, with NumPy, which also tells which way every decision went;
* run with `tg.cond`, `tg.while_loop`, `tg.fori_loop` and `tg.scan`;
* printed as a Python function with `if`, `while`, `for`, `break`, for `python_control_flow=True`.

    ("if", "s > 0.2", [("set", "u", "np.sin(v)")], [])     ->     if s > 0.2:
                                                                      u = np.sin(v)
"""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tracegrad as tg

VECTORS, NUMBERS, SIZE = ("u", "v"), ("s", "t"), 3
NAMES = (*VECTORS, *NUMBERS, "k")
Statement = tuple[Any, ...]
Values = dict[str, Any]


class Break(Exception):
    """The innermost loop ends."""


@dataclass
class Flow:
    """A program; `decisions` are those of the latest plain run."""

    seed: int
    statements: list[Statement] = field(default_factory=list)
    jumps: bool = False
    """Whether it has a `break`, which only the printed program can do."""

    def plain(self, *args: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The results, and the decisions on the way."""
        decisions: list[Any] = []
        values = dict(zip(NAMES, map(np.copy, args), strict=True))
        _plain(self.statements, values, decisions)
        return results(values), tuple(decisions)

    def structured(self, *args: Any) -> tuple[Any, ...]:
        values = dict(zip(NAMES, args, strict=True))
        _structured(self.statements, values)
        return results(values)

    def printed(self) -> Callable[..., tuple[Any, ...]]:
        lines = [f"def flow{self.seed}({', '.join(NAMES)}):"]
        lines += [f"    {name} = {name} * 1.0" for name in VECTORS]
        lines += _printed(self.statements, 1)
        lines.append(f"    return {', '.join(NAMES[:-1])}")
        file, text = f"<flow {self.seed}>", "\n".join(lines) + "\n"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        space: dict[str, Any] = {"np": np, "tg": tg}
        exec(compile(text, file, "exec"), space)
        function = space[f"flow{self.seed}"]
        function.text = text
        return function

    def arguments(self) -> tuple[Any, ...]:
        rng = np.random.default_rng(self.seed)
        vectors = [rng.uniform(-1, 1, SIZE) for _ in VECTORS]
        return (*vectors, *rng.uniform(-1, 1, len(NUMBERS)), np.int64(rng.integers(0, 5)))


def results(values: Values) -> tuple[Any, ...]:
    return tuple(values[name] for name in NAMES[:-1])


def drawn(seed: int) -> Flow:
    flow = Flow(seed)
    flow.statements = Drawing(random.Random(seed), flow).block(0, ())
    return flow


@dataclass
class Drawing:
    """Draws statements: `loops` are the variables that count the loops around."""

    rng: random.Random
    flow: Flow
    counters: int = 0

    def block(self, depth: int, loops: tuple[str, ...]) -> list[Statement]:
        count = self.rng.randint(1, 3) if depth else self.rng.randint(3, 4)
        return [self.statement(depth, loops) for _ in range(count)]

    def statement(self, depth: int, loops: tuple[str, ...]) -> Statement:
        rng = self.rng
        kinds = ["set", "set", "add", "put"]
        if depth < 3:
            kinds += ["if", "if", "for", "for", "while"]
        if not depth:
            kinds = ["if", "for", "while", "set"]
        kind = rng.choice(kinds)
        match kind:
            case "set":
                name = rng.choice((*NAMES[:-1], *NAMES))
                return (kind, name, self.expression(name, loops))
            case "add":
                name = rng.choice(NAMES[:-1])
                return (kind, name, self.expression(name, loops))
            case "put":
                return (kind, rng.choice(VECTORS), self.index(loops), self.number(loops))
            case "if":
                test = self.test(loops)
                return (kind, test, self.block(depth + 1, loops), self.other(depth, loops))
            case "for":
                return self.counted(depth, loops)
        name = self.counter("w")
        block = self.block(depth + 1, (*loops, name)) + self.stop(loops)
        return (kind, name, rng.randint(1, 4), self.test((*loops, name)), block)

    def other(self, depth: int, loops: tuple[str, ...]) -> list[Statement]:
        return self.block(depth + 1, loops) if self.rng.random() < 0.7 else []

    def counted(self, depth: int, loops: tuple[str, ...]) -> Statement:
        name = self.counter("i")
        kind = self.rng.choice(["tg.range", "tg.range", "range"])
        long = kind == "range" and depth == 0
        count = str(self.rng.choice([0, 1, 2, 3, 9 if long else 2]))
        if kind == "tg.range" and self.rng.random() < 0.4:
            count = self.rng.choice(["k % 3", "k - 1"])
        inside = (*loops, name)
        block = self.block(depth + 1, inside)
        if kind == "tg.range":
            block += self.stop(inside)
        return ("for", name, kind, count, block)

    def stop(self, loops: tuple[str, ...]) -> list[Statement]:
        if self.rng.random() > 0.15:
            return []
        self.flow.jumps = True
        return [("break", self.test(loops))]

    def counter(self, letter: str) -> str:
        self.counters += 1
        return f"{letter}{self.counters}"

    def index(self, loops: tuple[str, ...]) -> str:
        return self.rng.choice(["0", "2", "-1", *(f"{name} % 3" for name in loops), "k % 3"])

    def test(self, loops: tuple[str, ...]) -> Any:
        rng = self.rng
        constant = round(rng.uniform(-0.8, 0.8), 3)
        simple = [
            f"{rng.choice(NUMBERS)} > {constant}",
            f"{rng.choice(VECTORS)}[{self.index(loops)}] < {constant}",
            "np.sum(u) < np.sum(v)",
            "k % 2 == 0",
            *(f"{name} < 2" for name in loops),
        ]
        kind = rng.choice(["", "", "and", "or", "not"])
        if kind in ("", "not"):
            return (kind, rng.choice(simple)) if kind else rng.choice(simple)
        return (kind, rng.choice(simple), rng.choice(simple))

    def number(self, loops: tuple[str, ...]) -> str:
        rng = self.rng
        a, b, x = rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice(VECTORS)
        return rng.choice(
            [
                f"np.sin({a} + {x}[{self.index(loops)}])",
                f"np.tanh({a} * {b} + 0.3)",
                f"0.3 * np.sum({x} * {rng.choice(VECTORS)})",
                f"{a} / (1 + {b} * {b})",
                f"np.where({a} > {b}, {a} * 0.5, {b} * {b})",
                *(f"np.cos({a} + 0.2 * {name})" for name in loops),
                f"np.exp(-{a} * {a}) - 0.1 * k",
                f"np.max({x}) * 0.5",
            ]
        )

    def expression(self, name: str, loops: tuple[str, ...]) -> str:
        if name == "k":
            return self.rng.choice(["(k + 1) % 5", "k // 2", "(3 * k + 1) % 7"])
        if name in NUMBERS:
            return self.number(loops)
        x, y, a = self.rng.choice(VECTORS), self.rng.choice(VECTORS), self.rng.choice(NUMBERS)
        return self.rng.choice(
            [
                f"np.sin({x} + {y})",
                f"{x}[::-1] * {a}",
                f"np.tanh({x} * {a} + 0.1)",
                f"0.5 * np.cumsum({x}) * {y}",
                f"np.where({x} > {y}, {x} * {a}, {y} * {y} * 0.5)",
                f"0.5 * {x} - 0.3 * {y} * {a}",
                f"np.outer({x}, {y}) @ np.tanh({x})",
                f"np.concatenate([{x}[1:], {y}[:1]]) * 0.9",
            ]
        )


SPACE = {"np": np, "tg": tg}


def evaluated(text: Any, values: Values) -> Any:
    if isinstance(text, str):
        return eval(text, SPACE, values)
    kind, *parts = text
    found = [evaluated(part, values) for part in parts]
    if kind == "not":
        return np.logical_not(*found)
    return {"and": np.logical_and, "or": np.logical_or}[kind](*found)


def _assign(statement: Statement, values: Values) -> None:
    kind, name, *rest = statement
    if kind == "put":
        copy = 1.0 * values[name]
        copy[evaluated(rest[0], values)] = evaluated(rest[1], values)
        values[name] = copy
        return
    new = evaluated(rest[0], values)
    values[name] = values[name] + new if kind == "add" else new


def _plain(block: list[Statement], values: Values, decisions: list[Any]) -> None:
    def decide(test: Any) -> bool:
        decisions.append(bool(evaluated(test, values)))
        return decisions[-1]

    for statement in block:
        match statement:
            case ("if", test, then, other):
                _plain(then if decide(test) else other, values, decisions)
            case ("break", test):
                if decide(test):
                    raise Break
            case ("for", name, _, count, body):
                try:
                    for step in range(int(evaluated(count, values))):
                        values[name] = step
                        _plain(body, values, decisions)
                except Break:
                    pass
            case ("while", name, most, test, body):
                values[name] = 0
                try:
                    while values[name] < most and decide(test):
                        values[name] += 1
                        _plain(body, values, decisions)
                except Break:
                    pass
            case _:
                _assign(statement, values)


def _structured(block: list[Statement], values: Values) -> None:
    for statement in block:
        match statement:
            case ("if", test, then, other):
                run = [_stepper(part, values) for part in (then, other)]
                state = tg.cond(evaluated(test, values), *run, state_of(values))
                values.update(state)
            case ("for", name, "range", count, body):
                for step in range(int(count)):
                    values[name] = step
                    _structured(body, values)
                values.pop(name, None)
            case ("for", name, _, count, body):
                values.update(_loop(name, count, body, values))
            case ("while", name, most, test, body):
                values[name] = 0

                def go(state: Values, name: str = name, most: int = most, test: Any = test) -> Any:
                    inside = {**values, **state}
                    return np.logical_and(inside[name] < most, evaluated(test, inside))

                def step(state: Values, name: str = name, body: Any = body) -> Values:
                    return _stepper(body, values)({**state, name: state[name] + 1})

                state = {**state_of(values), name: 0}
                found = tg.while_loop(go, step, state)
                values.update({key: found[key] for key in NAMES})
            case _:
                _assign(statement, values)


def _loop(name: str, count: str, body: list[Statement], values: Values) -> Values:
    """A counted loop by `fori_loop`; of a known even number of steps by `scan`."""
    run = _stepper(body, values)

    def step(i: Any, state: Values) -> Values:
        found = run({**state, name: i})
        return {key: found[key] for key in NAMES}

    if count.isdigit() and int(count) == 2:
        xs = np.arange(2)
        return tg.scan(lambda state, i: (step(i, state), None), state_of(values), xs)[0]
    return tg.fori_loop(0, evaluated(count, values), step, state_of(values))


def state_of(values: Values) -> Values:
    return {name: values[name] for name in NAMES}


def _stepper(body: list[Statement], outside: Values) -> Callable[[Values], Values]:
    """The statements as a function of the variables; counters of loops around are read."""

    def run(state: Values) -> Values:
        values = {**outside, **state}
        _structured(body, values)
        return {name: values[name] for name in state}

    return run


def _text(test: Any) -> str:
    if isinstance(test, str):
        return test
    kind, *parts = test
    return f"not {parts[0]}" if kind == "not" else f" {kind} ".join(parts)


def _printed(block: list[Statement], depth: int) -> list[str]:
    pad, lines = "    " * depth, []
    for statement in block:
        match statement:
            case ("if", test, then, other):
                lines += [f"{pad}if {_text(test)}:", *_printed(then, depth + 1)]
                if other:
                    lines += [f"{pad}else:", *_printed(other, depth + 1)]
            case ("break", test):
                lines += [f"{pad}if {_text(test)}:", f"{pad}    break"]
            case ("for", name, kind, count, body):
                lines += [f"{pad}for {name} in {kind}({count}):", *_printed(body, depth + 1)]
            case ("while", name, most, test, body):
                lines += [f"{pad}{name} = 0", f"{pad}while {name} < {most} and ({_text(test)}):"]
                lines += [f"{pad}    {name} += 1", *_printed(body, depth + 1)]
            case ("put", name, index, value):
                lines.append(f"{pad}{name}[{index}] = {value}")
            case (kind, name, value):
                lines.append(f"{pad}{name} {'+=' if kind == 'add' else '='} {value}")
    return lines
