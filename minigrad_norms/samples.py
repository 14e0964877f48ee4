"""Samples for the primitives of `minigrad_norms.standardize`: every form, and the data that hides faults elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad import Invariance, Sample
from minigrad.errors import ArgumentError, DTypeError, ShapeError
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
#: Those that are tried with other statistics, and with activations.
_SQUARED = (
    "batch norm NHWC",
    "batch norm NCHW",
    "layer norm",
    "group norm NHWC",
    "a parameter for each position",
    "everything",
    "one element",
    "an empty batch",
)
_ACTIVATED = (
    "batch norm (N, C)",
    "batch norm NCHW",
    "layer norm",
    "group norm NCHW",
    "a parameter for each position",
    "axes that need a permutation",
    "an empty batch",
)
_CONSTANT = "constant groups without epsilon"
_WIDE = ("mean", "var", "dmean", "dvar")
#: Of standardizing without epsilon.
_KEPT = (
    Invariance("a shift of x", lambda x, g, b: (x + 3.0, g, b), lambda y, mean, var: (y, mean + 3.0, var)),
    Invariance("a scale of x", lambda x, g, b: (2.5 * x, g, b), lambda y, mean, var: (y, 2.5 * mean, 6.25 * var)),
    Invariance("another order", lambda x, g, b: (x[::-1], g, b), lambda y, mean, var: (y[::-1], mean, var)),
)


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
    for note in FORMS:
        yield *_of_form(rng, note), note, True
    params = {"axes": (0,), "parameter_axes": (1,), "epsilon": 0.05}
    x, gamma, beta = rng.standard_normal((4, 3)), rng.standard_normal(3), rng.standard_normal(3)
    gamma[1] = 0.0
    yield x, gamma, None, params, "one γ is 0, no β", True
    yield x, None, beta, params, "no γ", True
    yield x, None, None, params, "neither", True
    for note, values, epsilon in _hard(rng):
        yield values, gamma, beta, {**params, "epsilon": epsilon}, note, False
    yield np.full((8, 3), 0.1), gamma, beta, {**params, "epsilon": 0.0}, _CONSTANT, False
    for statistic in ("mean_square", "sum_square"):
        for note in _SQUARED:
            yield *_of_form(rng, note, statistic=statistic), f"{statistic}, {note}", True
        for note, values, epsilon in _hard(rng):
            yield (
                values,
                gamma,
                beta,
                {**params, "epsilon": epsilon, "statistic": statistic},
                f"{statistic}, {note}",
                False,
            )
    for activation in formulas.ACTIVATIONS:
        for note in _ACTIVATED:
            yield *_of_form(rng, note, activation=activation), f"{activation}, {note}", True
        yield x, np.array([1.0, 0.3, 4.0]), None, {**params, "activation": activation}, f"{activation}, no β", True
        at_kinks = {**params, "epsilon": 0.0, "activation": activation}
        yield np.zeros((4, 3)), None, np.array([0.0, 6.0, -1.0]), at_kinks, f"{activation}, at kinks", False
    big = rng.standard_normal((3, 1025, 33))
    several: tuple[tuple[str, str | None], ...]
    several = (("mean_square", "relu6"), ("sum_square", None), ("variance", "tanh"))
    for statistic, activated in several:
        options: dict[str, Any] = {
            "parameter_axes": (2,),
            "epsilon": 1e-3,
            "statistic": statistic,
            "activation": activated,
        }
        for axes in ((0, 1), (2,)):
            yield 3 * big, None, None, {"axes": axes, **options}, f"several chunks, {statistic}, {activated}", False
    yield big, None, None, {"axes": (0, 1), "parameter_axes": (2,), "epsilon": 1e-3}, "several chunks", False
    yield big, None, None, {"axes": (2,), "parameter_axes": (2,), "epsilon": 1e-3}, "several chunks of rows", False


def _of_form(rng: np.random.Generator, note: str, **options: Any) -> tuple[Any, Any, Any, dict]:
    shape, axes, parameter_axes = FORMS[note]
    params = {"axes": axes, "parameter_axes": parameter_axes, "epsilon": 0.1, **options}
    while True:
        x = np.asarray(rng.standard_normal(shape))
        gamma, beta = (np.asarray(rng.standard_normal([shape[a] for a in parameter_axes])) for _ in range(2))
        if "activation" not in options:
            return x, gamma, beta, params
        gamma, beta = 4 * gamma, 2 + beta  # y on both sides of both kinks, none of it where differences would see one
        z = formulas.standardize(np, x, gamma, beta, **{**params, "activation": None})[0]
        if (np.minimum(np.abs(z), np.abs(z - 6)) > 0.05).all():
            return x, gamma, beta, params


def _exact(note: str, smooth: bool) -> tuple[str, ...]:
    return () if smooth else ("float32", "float64") if note == _CONSTANT else ("float32",)


def _moments_of(x: np.ndarray, params: dict) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        mean, var = formulas.moments(np, x, params["axes"], params.get("statistic", "variance"))
    return np.asarray(mean), np.asarray(var)


@standardize_p.samples
def _(rng):
    for x, gamma, beta, params, note, smooth in _cases(rng):
        yield Sample((x, gamma, beta), params, note=note, differentiable=smooth, exact=_exact(note, smooth))
    params = {"axes": (0,), "parameter_axes": (1,), "epsilon": 0.0}
    inputs = rng.standard_normal((6, 3)), rng.standard_normal(3), rng.standard_normal(3)
    yield Sample(inputs, params, note="what is kept", invariances=_KEPT)
    params = {"axes": (0,), "parameter_axes": (1,), "epsilon": 1e-3}
    yield Sample((np.ones((4, 3)), np.ones(4), None), params, error=ShapeError, match=r"gamma has shape \(4,\)")
    yield Sample((np.ones((4, 3)), None, np.ones(3, "f4")), params, error=DTypeError, match="beta has dtype float32")
    yield Sample((np.ones((4, 3), int), None, None), params, error=DTypeError, match="x has dtype int64")
    for unknown in ({"statistic": "median"}, {"activation": "gelu"}):
        (name,) = unknown
        yield Sample((np.ones((4, 3)), None, None), {**params, **unknown}, error=ArgumentError, match=f"{name} is '")


@moments_p.samples
def _(rng):
    for x, gamma, _beta, params, note, smooth in _cases(rng):
        if gamma is not None and not {"statistic", "activation"} & set(params):
            yield Sample((x,), {"axes": params["axes"]}, note=note, differentiable=smooth, exact=_exact(note, smooth))


@normalize_p.samples
def _(rng):
    for x, gamma, beta, params, note, smooth in _cases(rng):
        statistics = _moments_of(x, params)
        params = {k: v for k, v in params.items() if k != "statistic"}
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
        beta = _beta if params.get("activation") else None
        inputs = (dy, x, gamma, beta, mean, var, *cotangents)
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
        beta = _beta if params.get("activation") else None
        inputs = (dy, x, gamma, beta, *_moments_of(x, params))
        params = {k: v for k, v in params.items() if k != "statistic"}
        yield Sample(
            inputs, {**params, "wants": wants}, note=note, differentiable=smooth, exact=_exact(note, smooth), wide=_WIDE
        )
