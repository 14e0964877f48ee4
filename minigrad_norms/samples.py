"""Samples for the primitives of `minigrad_norms.standardize`: every form, and the data that hides faults elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad import Sample
from minigrad.errors import DTypeError, ShapeError
from minigrad_norms import formulas
from minigrad_norms.standardize import moments_p, normalize_p, normalize_vjp_p, standardize_p, standardize_vjp_p

#: shape, axes, parameter_axes
FORMS = {
    "batch norm (N, C)": ((5, 3), (0,), (1,)),
    "batch norm NHWC": ((3, 2, 4), (0, 1), (2,)),
    "batch norm NCHW": ((2, 4, 3), (0, 2), (1,)),
    "layer norm": ((2, 5), (1,), (1,)),
    "instance norm NHWC": ((2, 4, 3), (1,), (2,)),
    "group norm NCHW": ((2, 3, 2, 4), (2, 3), (1, 2)),
    "group norm NHWC": ((2, 3, 2, 4), (1, 3), (2, 3)),
    "axes that need a permutation": ((2, 3, 4, 2), (0, 2), (1, 3)),
    "a parameter for each position": ((3, 2, 4), (0, 2), (1, 2)),
    "everything": ((2, 3), (0, 1), ()),
    "nothing": ((2, 3), (), (1,)),
    "one element": ((1, 1), (0,), (1,)),
    "no dimensions": ((), (), ()),
    "an empty batch": ((0, 3), (0,), (1,)),
    "no channels": ((3, 0), (0,), (1,)),
}
_CONSTANT = "constant groups without epsilon"
_WIDE = ("mean", "var", "dmean", "dvar")


def _hard(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, float]]:
    """Data on which statistics go wrong elsewhere, for values alone."""
    plain = rng.standard_normal((64, 3))
    yield "mean 1e6, spread 1", 1e6 + plain, 1e-3
    yield "heavy tails", rng.standard_cauchy((64, 3)), 1e-3
    yield "scale 1e30", 1e30 * plain, 1e-3
    yield "scale 1e-30 without epsilon", 1e-30 * plain, 0.0
    yield "constant groups", np.full((64, 3), 7.7), 1e-3
    spike = np.zeros((64, 3))
    spike[17] = 1e4
    yield "a spike", spike, 1e-3
    spoilt = plain.copy()
    spoilt[3, 1], spoilt[5, 2] = np.nan, np.inf
    yield "NaN and infinity in two groups", spoilt, 1e-3


def _cases(rng: np.random.Generator) -> Iterator[tuple[Any, Any, Any, dict, str, bool]]:
    """x, γ, β, params, note, and whether derivatives can be checked there by differences."""
    for note, (shape, axes, parameter_axes) in FORMS.items():
        x = np.asarray(rng.standard_normal(shape))
        gamma, beta = (np.asarray(rng.standard_normal([shape[a] for a in parameter_axes])) for _ in range(2))
        yield x, gamma, beta, {"axes": axes, "parameter_axes": parameter_axes, "epsilon": 0.1}, note, True
    params = {"axes": (0,), "parameter_axes": (1,), "epsilon": 0.05}
    x, gamma, beta = rng.standard_normal((4, 3)), rng.standard_normal(3), rng.standard_normal(3)
    gamma[1] = 0.0
    yield x, gamma, None, params, "one γ is 0, no β", True
    yield x, None, beta, params, "no γ", True
    yield x, None, None, params, "neither", True
    for note, values, epsilon in _hard(rng):
        yield values, gamma, beta, {**params, "epsilon": epsilon}, note, False
    yield np.full((8, 3), 0.1), gamma, beta, {**params, "epsilon": 0.0}, _CONSTANT, False
    big = rng.standard_normal((3, 1025, 33))
    yield big, None, None, {"axes": (0, 1), "parameter_axes": (2,), "epsilon": 1e-3}, "several chunks", False
    yield big, None, None, {"axes": (2,), "parameter_axes": (2,), "epsilon": 1e-3}, "several chunks of rows", False


def _exact(note: str, smooth: bool) -> tuple[str, ...]:
    return () if smooth else ("float32", "float64") if note == _CONSTANT else ("float32",)


def _moments_of(x: np.ndarray, params: dict) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        mean, var = formulas.moments(np, x, params["axes"])
    return np.asarray(mean), np.asarray(var)


@standardize_p.samples
def _(rng):
    for x, gamma, beta, params, note, smooth in _cases(rng):
        yield Sample((x, gamma, beta), params, note=note, differentiable=smooth, exact=_exact(note, smooth))
    params = {"axes": (0,), "parameter_axes": (1,), "epsilon": 1e-3}
    yield Sample((np.ones((4, 3)), np.ones(4), None), params, error=ShapeError, match=r"gamma has shape \(4,\)")
    yield Sample((np.ones((4, 3)), None, np.ones(3, "f4")), params, error=DTypeError, match="beta has dtype float32")
    yield Sample((np.ones((4, 3), int), None, None), params, error=DTypeError, match="x has dtype int64")


@moments_p.samples
def _(rng):
    for x, gamma, _beta, params, note, smooth in _cases(rng):
        if gamma is not None:
            yield Sample((x,), {"axes": params["axes"]}, note=note, differentiable=smooth, exact=_exact(note, smooth))


@normalize_p.samples
def _(rng):
    for x, gamma, beta, params, note, smooth in _cases(rng):
        statistics = _moments_of(x, params)
        yield Sample(
            (x, gamma, beta, *statistics),
            params,
            note=note,
            differentiable=smooth,
            exact=_exact(note, smooth),
            wide=_WIDE,
        )
    params = {"axes": (0,), "parameter_axes": (1,), "epsilon": 1e-3}
    bad = (np.ones((4, 3)), None, None, np.ones(2), np.ones(3))
    yield Sample(bad, params, error=ShapeError, match=r"mean has shape \(2,\), expected \(3,\)")


@standardize_vjp_p.samples
def _(rng):
    for i, (x, gamma, _beta, params, note, smooth) in enumerate(_cases(rng)):
        dy = np.asarray(rng.standard_normal(x.shape))
        mean, var = _moments_of(x, params)
        cotangents = [np.asarray(rng.standard_normal(mean.shape)) if i % 3 else None for _ in range(2)]
        wants = ((True, True, True), (True, False, False), (False, True, True))[i % 3 if i > 4 else 0]
        inputs = (dy, x, gamma, mean, var, *cotangents)
        yield Sample(
            inputs, {**params, "wants": wants}, note=note, differentiable=smooth, exact=_exact(note, smooth), wide=_WIDE
        )


@normalize_vjp_p.samples
def _(rng):
    for i, (x, gamma, _beta, params, note, smooth) in enumerate(_cases(rng)):
        dy = np.asarray(rng.standard_normal(x.shape))
        wants = ((True,) * 5, (True, False, False, True, True), (False, True, True, False, False))[
            i % 3 if i > 4 else 0
        ]
        inputs = (dy, x, gamma, *_moments_of(x, params))
        yield Sample(
            inputs, {**params, "wants": wants}, note=note, differentiable=smooth, exact=_exact(note, smooth), wide=_WIDE
        )
