"""What reductions do with elements: sum, max and min, as functions and lines of generated loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.intrinsic import Intrinsic

ROWS = 8  # that are added at a time


@dataclass(frozen=True, eq=False)
class Operation:
    """How elements are reduced to one.

    Lines of loops have in them the number `k` of what is reduced, and the `value` of an element, of the loop's type F.

    Attributes:
        name: as that of the public function.
        start: what an accumulator holds at first.
        begin: the lines before a loop over a run of elements, each reduced at once.
        enter: those for each of its elements.
        found: what the run came to.
        join: of two accumulators, or an accumulator and an element.
        run: of the elements of an array.
        rows: see `_rows_into`.
        fold: see `_fold`.
        names: what else the lines name.
    """

    name: str
    start: str
    begin: str
    enter: tuple[str, ...]
    found: str
    join: cpu.Function
    run: cpu.Function
    rows: cpu.Function
    fold: cpu.Function
    names: dict[str, Any]


def _rows_into(join: cpu.Function, pair: cpu.Function, checked: cpu.Function) -> cpu.Function:
    """What takes rows of x into a row of accumulators, and `rest` elements of one more.

    Elements of `ROWS` rows are paired; what that comes to is `checked` beside the elements.
    """

    @cpu.jit
    def rows_into(acc, x, stride, rows, rest):
        n, at = acc.size, 0
        if rows == ROWS:
            a, b = x[:n], x[stride : stride + n]
            c, d = x[2 * stride : 2 * stride + n], x[3 * stride : 3 * stride + n]
            e, f = x[4 * stride : 4 * stride + n], x[5 * stride : 5 * stride + n]
            g, h = x[6 * stride : 6 * stride + n], x[7 * stride : 7 * stride + n]
            for j in range(n):
                left = pair(pair(a[j], b[j]), pair(c[j], d[j]))
                right = pair(pair(e[j], f[j]), pair(g[j], h[j]))
                found = checked(pair(left, right), a[j], b[j], c[j], d[j], e[j], f[j], g[j], h[j])
                acc[j] = join(acc[j], found)
            at = ROWS * stride
        else:
            for _ in range(rows):
                a = x[at : at + n]
                for j in range(n):
                    acc[j] = join(acc[j], a[j])
                at += stride
        a = x[at : at + rest]
        for j in range(rest):
            acc[j] = join(acc[j], a[j])

    return rows_into


def _fold(join: cpu.Function) -> cpu.Function:
    """What takes into the first part of a row the others."""

    @cpu.jit
    def fold(acc, width, fold):
        for t in range(1, fold):
            part = acc[t * width : (t + 1) * width]
            for j in range(width):
                acc[j] = join(acc[j], part[j])

    return fold


# The sum, carried in float64


@cpu.jit(inline=True)
def _plus(x, y):
    return np.float64(x) + np.float64(y)


@cpu.jit(inline=True)
def _unchecked(found, a, b, c, d, e, f, g, h):
    return found


@cpu.jit
def _total(x):
    found = 0.0
    for i in range(x.size):
        found += x[i]
    return found


SUM = Operation(
    name="sum",
    start="0.0",
    begin="run_{k} = 0.0",
    enter=("run_{k} += {value}",),
    found="run_{k}",
    join=_plus,
    run=_total,
    rows=_rows_into(_plus, _plus, _unchecked),
    fold=_fold(_plus),
    names={},
)


# Extremes. A reduction by comparisons is vectorized only where NaN need not be thought of, so that NaN is looked for
# beside it: what the comparisons found where there is one, which is anything, is not used.


def _extreme(name: str, start: float, order: str, pick: Callable, join: Callable) -> Operation:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        flags = ("nnan", "nsz")
        return builder.select(builder.fcmp_ordered(order, *values, flags=flags), *values, flags=flags)

    chosen = Intrinsic(pick, None, emit, [emit, order])
    joined, compared = cpu.jit(join, inline=True), cpu.jit(pick, inline=True)

    @cpu.jit(inline=True)
    def checked(found, a, b, c, d, e, f, g, h):
        is_nan = (a != a) | (b != b) | (c != c) | (d != d) | (e != e) | (f != f) | (g != g) | (h != h)
        return np.nan if is_nan else found

    @cpu.jit
    def run(x):
        found, is_nan = x.dtype.type(start), False
        for i in range(x.size):
            is_nan |= x[i] != x[i]
            found = chosen(found, x[i])
        return x.dtype.type(np.nan) if is_nan else found

    return Operation(
        name=name,
        start=f"{'-' if start < 0 else ''}np.inf",
        begin=f"run_{{k}}, is_nan_{{k}} = F({'-' if start < 0 else ''}np.inf), False",
        enter=("is_nan_{k} |= {value} != {value}", f"run_{{k}} = pick_{name}(run_{{k}}, {{value}})"),
        found="(F(np.nan) if is_nan_{k} else run_{k})",
        join=joined,
        run=run,
        rows=_rows_into(joined, compared, checked),
        fold=_fold(joined),
        names={f"pick_{name}": chosen},
    )


def _pick_larger(x, y):
    return x if x > y else y


def _pick_smaller(x, y):
    return x if x < y else y


def _larger(x, y):
    found = x if x > y else y  # NaN for y, and not for x
    return x if x != x else found


def _smaller(x, y):
    found = x if x < y else y  # NaN for y, and not for x
    return x if x != x else found


MAX = _extreme("max", -np.inf, ">", _pick_larger, _larger)
MIN = _extreme("min", np.inf, "<", _pick_smaller, _smaller)
