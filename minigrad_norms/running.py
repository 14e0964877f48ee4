"""Running statistics: the in-place primitives that move them, each by one rule and in one call.

    average ← value + keep·(average − value)

A value that is not finite leaves its average as it is: a batch with a NaN or an infinity spoils nothing that lasts.
Where several averages of a channel move together, either all of them do or none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample
from minigrad.devices import cpu
from minigrad.errors import DTypeError, ShapeError

update_statistics_p = Primitive("norms::update_statistics", mutates=("moving_mean", "moving_var"))
update_debiased_p = Primitive("norms::update_debiased", mutates=("moving_mean", "biased", "local_step"))
update_renorm_p = Primitive(
    "norms::update_renorm",
    mutates=("moving_mean", "moving_var", "renorm_mean", "renorm_stddev", "renorm_weight"),
)
move_averages_p = Primitive("norms::move_averages", mutates=("pairs",))  # of averages and values: one call for all


def _require(operation: str, like: Abstract, **others: Abstract) -> None:
    """Raise unless all are float64, the dtype of statistics, and have the shape of the first."""
    for name, got in others.items():
        if got.shape != like.shape:
            raise ShapeError(f"{operation}: {name} has shape {got.shape}, expected {like.shape}")
        if got.dtype != mg.dtypes.float64:
            raise DTypeError(f"{operation}: {name} has dtype {got.dtype}, expected float64")


def _flat(a: np.ndarray) -> np.ndarray:
    if a.ndim == 1 and a.flags.c_contiguous:
        return a
    return cpu.contiguous(a).reshape(-1)


# Mean and variance of plain batch norm. `correction` is n/(n − 1) where the running variance is to be unbiased.


@update_statistics_p.infer
def _(moving_mean, moving_var, mean, var, *, momentum, correction):
    _require("update_statistics", moving_mean, moving_mean=moving_mean, moving_var=moving_var, mean=mean, var=var)


@cpu.chunked
def _update(chunk, moving_mean, moving_var, mean, var, keep, correction):
    for i in range(moving_mean.size):
        if np.isfinite(mean[i]) and np.isfinite(var[i]):
            moving_mean[i] = mean[i] + keep * (moving_mean[i] - mean[i])
            moving_var[i] = correction * var[i] + keep * (moving_var[i] - correction * var[i])


@update_statistics_p.kernel("cpu", planned=True)
def _(moving_mean, moving_var, mean, var, *, momentum, correction):
    flat = mean.ndim == 1

    def fill(out, moving_mean, moving_var, mean, var):
        if flat and mean.flags.c_contiguous and var.flags.c_contiguous:  # as in each step of a training
            _update(1, 0, moving_mean, moving_var, mean, var, momentum, correction)
        else:
            _update(1, 0, *map(_flat, (moving_mean, moving_var, mean, var)), momentum, correction)

    return fill


@update_statistics_p.kernel("reference")
def _(moving_mean, moving_var, mean, var, *, momentum, correction):
    finite = np.isfinite(mean) & np.isfinite(var)
    with np.errstate(all="ignore"):
        return (
            np.where(finite, momentum * moving_mean + (1 - momentum) * mean, moving_mean),
            np.where(finite, momentum * moving_var + (1 - momentum) * correction * var, moving_var),
        )


_STATE = ("moving_mean", "moving_var", "biased", "local_step", "renorm_mean", "renorm_stddev", "renorm_weight")
_WIDE = (*_STATE, "mean", "var")
_SPOILT = (np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, 2.0, np.inf, 0.5]))


@update_statistics_p.samples
def _(rng):
    for shape in [(3,), (), (2, 5), (0,)]:
        state = (rng.standard_normal(shape), 1 + rng.random(shape))
        batch = (np.asarray(rng.standard_normal(shape)), np.asarray(rng.random(shape)))
        yield Sample((*state, *batch), {"momentum": 0.9, "correction": 1.5}, wide=_WIDE)
    params = {"momentum": 0.9, "correction": 1.0}
    yield Sample((np.zeros(4), np.ones(4), *_SPOILT), params, note="NaN and Inf keep the averages", wide=_WIDE)
    bad = (np.zeros(3), np.ones(3), np.zeros(2), np.ones(3))
    yield Sample(bad, params, error=ShapeError, match=r"mean has shape \(2,\)")
    narrow = (np.zeros(3), np.ones(3), np.zeros(3), np.ones(3, np.float32))
    yield Sample(narrow, params, error=DTypeError, match="var has dtype float32")


# A mean that starts at 0 without the bias of it: moving_mean = biased/(1 − momentumᵗ), t the number of steps.


@update_debiased_p.infer
def _(moving_mean, biased, local_step, mean, *, momentum):
    _require("update_debiased", moving_mean, moving_mean=moving_mean, biased=biased, mean=mean)
    _require("update_debiased", Abstract((), local_step.dtype), local_step=local_step)


@cpu.chunked
def _debias(chunk, moving_mean, biased, local_step, mean, keep):
    any_finite = False
    for i in range(mean.size):
        any_finite |= np.isfinite(mean[i])
    if any_finite:
        local_step[0] += 1.0
        whole = 1.0 - keep ** local_step[0]
        for i in range(mean.size):
            value = mean[i] if np.isfinite(mean[i]) else moving_mean[i]
            biased[i] = value + keep * (biased[i] - value)
            if whole > 0.0:
                moving_mean[i] = biased[i] / whole


@update_debiased_p.kernel("cpu", planned=True)
def _(moving_mean, biased, local_step, mean, *, momentum):
    return lambda out, *arrays: _debias(1, 0, *map(_flat, arrays), momentum)


@update_debiased_p.kernel("reference")
def _(moving_mean, biased, local_step, mean, *, momentum):
    finite = np.isfinite(mean)
    if not finite.any():
        return moving_mean.copy(), biased.copy(), local_step.copy()
    # A channel whose value is not finite takes its average instead, and so keeps it to rounding.
    value = np.where(finite, mean, moving_mean)
    biased = momentum * biased + (1 - momentum) * value
    whole = 1 - momentum ** (local_step + 1)
    return (biased / whole if whole > 0 else moving_mean.copy()), biased, local_step + 1


@update_debiased_p.samples
def _(rng):
    for shape in [(3,), (), (2, 5), (0,)]:
        state = (rng.standard_normal(shape), rng.standard_normal(shape), np.asarray(4.0))
        yield Sample((*state, np.asarray(rng.standard_normal(shape))), {"momentum": 0.9}, wide=_WIDE)
    start = (np.zeros(4), np.zeros(4), np.asarray(0.0))
    yield Sample((*start, np.arange(4.0)), {"momentum": 0.999}, note="the first step", wide=_WIDE)
    yield Sample((*start, _SPOILT[0]), {"momentum": 0.9}, note="a NaN", wide=_WIDE)
    later = (np.arange(4.0), np.arange(4.0), np.asarray(2.0))
    yield Sample((*later, np.full(4, np.nan)), {"momentum": 0.9}, note="nothing finite: no step", wide=_WIDE)
    yield Sample((*start, np.ones(4)), {"momentum": 1.0}, note="a momentum that takes nothing in", wide=_WIDE)
    bad = (np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3))
    yield Sample(bad, {"momentum": 0.9}, error=ShapeError, match=r"local_step has shape \(3,\), expected \(\)")


# The averages of batch renorm, and from them those of inference (Ioffe 2017). With s = √(σ² + ε):
#   R_m and R_s take μ and s, w takes 1, all with renorm_momentum; the moving ones take R_m/w and (R_s/w)² − ε.
# w is one a channel, so that R/w stays an average where a channel missed a batch.


@update_renorm_p.infer
def _(
    moving_mean, moving_var, renorm_mean, renorm_stddev, renorm_weight, mean, var,
    *, momentum, renorm_momentum, epsilon,
):  # fmt: skip
    _require(
        "update_renorm", moving_mean,
        moving_mean=moving_mean, moving_var=moving_var, renorm_mean=renorm_mean, renorm_stddev=renorm_stddev,
        renorm_weight=renorm_weight, mean=mean, var=var,
    )  # fmt: skip


@cpu.chunked
def _renorm(chunk, moving_mean, moving_var, r_mean, r_stddev, weight, mean, var, keep, r_keep, epsilon):
    for i in range(mean.size):
        if np.isfinite(mean[i]) and np.isfinite(var[i]):
            s = np.sqrt(var[i] + epsilon)
            r_mean[i] = mean[i] + r_keep * (r_mean[i] - mean[i])
            r_stddev[i] = s + r_keep * (r_stddev[i] - s)
            weight[i] = 1.0 + r_keep * (weight[i] - 1.0)
            if weight[i] > 0.0:
                m, s = r_mean[i] / weight[i], r_stddev[i] / weight[i]
                v = max(0.0, s * s - epsilon)
                moving_mean[i] = m + keep * (moving_mean[i] - m)
                moving_var[i] = v + keep * (moving_var[i] - v)


@update_renorm_p.kernel("cpu", planned=True)
def _(
    moving_mean, moving_var, renorm_mean, renorm_stddev, renorm_weight, mean, var,
    *, momentum, renorm_momentum, epsilon,
):  # fmt: skip
    return lambda out, *arrays: _renorm(1, 0, *map(_flat, arrays), momentum, renorm_momentum, epsilon)


@update_renorm_p.kernel("reference")
def _(
    moving_mean, moving_var, renorm_mean, renorm_stddev, renorm_weight, mean, var,
    *, momentum, renorm_momentum, epsilon,
):  # fmt: skip
    before = (moving_mean, moving_var, renorm_mean, renorm_stddev, renorm_weight)
    with np.errstate(all="ignore"):
        r_mean, r_stddev, weight = (
            renorm_momentum * r + (1 - renorm_momentum) * value
            for r, value in ((renorm_mean, mean), (renorm_stddev, np.sqrt(var + epsilon)), (renorm_weight, 1.0))
        )
        m, v = r_mean / weight, np.maximum(0.0, np.square(r_stddev / weight) - epsilon)
        m, v = np.where(weight > 0, m, moving_mean), np.where(weight > 0, v, moving_var)
        moved = (momentum * moving_mean + (1 - momentum) * m, momentum * moving_var + (1 - momentum) * v)
        finite = np.isfinite(mean) & np.isfinite(var)
        return tuple(np.where(finite, new, old) for new, old in zip((*moved, r_mean, r_stddev, weight), before))


@update_renorm_p.samples
def _(rng):
    params = {"momentum": 0.9, "renorm_momentum": 0.7, "epsilon": 0.01}
    for shape in [(3,), (), (2, 5), (0,)]:
        state = [np.asarray(v) for v in 0.2 + rng.random((5, *shape))]
        batch = [np.asarray(v) for v in 0.1 + rng.random((2, *shape))]
        yield Sample((*state, *batch), params, wide=_WIDE)
    start = [np.zeros(4), np.ones(4), np.zeros(4), np.zeros(4), np.zeros(4)]
    yield Sample((*start, np.arange(4.0), np.arange(4.0)), params, note="the first step", wide=_WIDE)
    yield Sample((*start, *_SPOILT), params, note="NaN and Inf keep all averages of a channel", wide=_WIDE)
    still = {**params, "renorm_momentum": 1.0}
    yield Sample((*start, np.arange(4.0), np.arange(4.0)), still, note="a momentum that takes nothing in", wide=_WIDE)
    yield Sample((*start, np.zeros(3), np.ones(4)), params, error=ShapeError, match=r"mean has shape \(3,\)")


# Averages of anything, as ExponentialMovingAverage keeps them.


@move_averages_p.infer
def _(keep, *pairs):
    if keep.shape != () or keep.dtype != mg.dtypes.float64:
        raise ShapeError(f"move_averages: keep is {keep.dtype}{keep.shape}, expected a float64 scalar")
    for average, value in zip(pairs[::2], pairs[1::2], strict=True):
        mg.dtypes.require_floating("move_averages", "average", average.dtype)
        if (value.shape, value.dtype) != (average.shape, average.dtype):
            raise ShapeError(
                f"move_averages: value is {value.dtype}{value.shape}, expected {average.dtype}{average.shape}"
            )


@cpu.chunked
def _move(chunk, chunks, average, value, keep):
    low, high = chunk * average.size // chunks, (chunk + 1) * average.size // chunks
    a, v = average[low:high], value[low:high]
    for i in range(a.size):  # in float64: in float32 1 − .999 is off in the fifth digit
        new = np.float64(v[i])
        moved = new + keep * (a[i] - new)
        a[i] = moved if np.isfinite(new) else a[i]


@move_averages_p.kernel("cpu")
def _(out, keep, *pairs):
    for average, value in zip(out, pairs[1::2]):
        if mg.dtypes.has_kernels(average.dtype):
            chunks = cpu.chunks_of(average.size)
            _move(chunks, average.size, chunks, average.reshape(-1), _flat(value), float(keep))
        else:
            average[...] = _moved(keep, average, value)[0]


@move_averages_p.kernel("reference")
def _moved(keep: Any, *pairs: np.ndarray) -> tuple[np.ndarray, ...]:
    results = []
    with np.errstate(all="ignore"):
        for a, v in zip(pairs[::2], pairs[1::2]):
            new = v.astype(np.result_type(v, keep))
            results.append(np.where(np.isfinite(v), new + keep * (a - new), a).astype(a.dtype))
    return tuple(results)


@move_averages_p.samples
def _(rng):
    for shape in [(2, 3), (), (0,), (17, 1025)]:
        pair = (np.asarray(rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape)))
        yield Sample((np.asarray(0.9), *pair), wide=("keep",))
        yield Sample((np.asarray(0.9), *pair, np.zeros(4), np.array([1.0, np.nan, -np.inf, 3.0])), wide=("keep",))
    bad = (np.asarray(0.9), np.zeros(3), np.zeros(4))
    yield Sample(bad, error=ShapeError, match=r"value is float64\(4,\), expected float64\(3,\)")
    yield Sample((np.zeros(2), np.zeros(3), np.zeros(3)), error=ShapeError, match="expected a float64 scalar")
