"""Forward mode against reverse mode: the identity ⟨Jv, w⟩ = ⟨v, Jᵀw⟩, and entries of J by both."""

from __future__ import annotations

import numpy as np

from minigrad import dtypes
from minigrad.gradcheck import kinks
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, PASSED, Result, compare
from minigrad.gradcheck.subject import EPS, Subject

_ENTRIES = 6  # rows and columns of J that are compared, at most


def adjoint(subject: Subject) -> Result:
    """⟨Jv, w⟩ = ⟨v, Jᵀw⟩, to the rounding of the two sums and the noise of what was differentiated."""
    gradients, pushed = subject.gradients, subject.pushed
    if not any(g.size for g in gradients):
        return Result("adjoint", PASSED, detail="nothing to compare", seed=subject.seed)
    with np.errstate(all="ignore"):
        products = [a * b for a, b in zip(pushed, subject.cotangents)]
        others = [a * b for a, b in zip(subject.tangents, gradients)]
        left = np.array(sum(float(np.sum(p)) for p in products))
        right = np.array(sum(float(np.sum(p)) for p in others))
        terms = sum(float(np.sum(np.abs(p))) for p in [*products, *others])
    bound = np.array(4096 * EPS * terms + 64 * subject.phi.noise)
    result = compare("adjoint", ["⟨Jv, w⟩"], [left], [right], [bound], scale=1.0, seed=subject.seed)
    return result.of(detail=result.detail if np.isfinite(terms) else "the derivative is not finite here")


def forward_against_reverse(subject: Subject) -> Result:
    """Entries of the Jacobian, drawn at random: by columns from forward mode, by rows from reverse mode."""
    rng = np.random.default_rng((subject.seed, 5))
    shapes = [o.shape for o in subject.outputs]
    rows = _drawn(rng, [o.size if dtypes.kind(o.dtype) == "f" else 0 for o in subject.outputs])
    columns = _drawn(rng, [subject.values[i].size for i in subject.wrt])
    if not (rows and columns):
        return Result("forward against reverse", PASSED, detail="nothing to compare", seed=subject.seed)
    by_rows, by_columns = (np.zeros((len(rows), len(columns))) for _ in range(2))
    for r, (k, place) in enumerate(rows):
        pulled = subject.pull([_unit(s, place if j == k else None) for j, s in enumerate(shapes)])
        by_rows[r] = [pulled[n].reshape(-1)[c] for n, c in columns]
    inputs = [subject.values[i].shape for i in subject.wrt]
    for c, (n, place) in enumerate(columns):
        pushed = subject.push([_unit(s, place if j == n else None) for j, s in enumerate(inputs)])
        by_columns[:, c] = [pushed[k].reshape(-1)[r] for k, r in rows]
    size = float(np.max(np.abs(by_columns), initial=0.0))
    bound = np.full(by_rows.shape, 4096 * EPS * max(size, EPS))
    result = compare("forward against reverse", ["J"], [by_rows], [by_columns], [bound], scale=1.0, seed=subject.seed)
    at = np.unravel_index(int(np.argmax(np.abs(by_rows - by_columns))), by_rows.shape)
    (k, row), (n, column) = rows[at[0]], columns[at[1]]
    result = result.of(where=f"∂result {k}[flat {row}]/∂{subject.names[n]}[flat {column}]")
    if result.verdict == FAILED and not np.isfinite([by_rows[at], by_columns[at]]).all():
        step = _unit(inputs[n], column)
        if kinks.at_zero(subject.phi.along({subject.wrt[n]: step}), subject.phi.noise):
            words = f"{result.where} is not finite: the point is on a kink or an edge"
            return result.of(verdict=INCONCLUSIVE, detail=words, reason=words)
    return result


def _drawn(rng: np.random.Generator, sizes: list[int]) -> list[tuple[int, int]]:
    """Some places, of all the arrays of these sizes laid end to end: which array, and where in it."""
    ends = np.cumsum(sizes)
    places = np.sort(rng.permutation(int(ends[-1]))[:_ENTRIES])
    which = [int(np.searchsorted(ends, p, side="right")) for p in places]
    return [(k, int(p - (ends[k] - sizes[k]))) for k, p in zip(which, places)]


def _unit(shape: tuple[int, ...], place: int | None) -> np.ndarray:
    """Zeros, with a 1 in one place."""
    unit = np.zeros(shape)
    if place is not None:
        unit.reshape(-1)[place] = 1.0
    return unit
