"""Softmax followed by cross-entropy, as one operation: exact for extreme logits, with a backward of one pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from minigrad.ops import cast, softmax_cpu
from minigrad.ops.reductions_sums import sum_p
from minigrad.ops.softmax import (
    flat,
    floating,
    last_axis,
    last_sum,
    log_softmax_p,
    require_rows,
    row_chunks,
    shifted,
    softmax_grad_p,
)
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor, as_tensor, full_like


def softmax_cross_entropy(logits: Any, labels: Any, axis: int = -1) -> Tensor:
    """The cross-entropy between labels and softmax(logits), one loss a row: −Σ label·log softmax(logits).

    For an integer label c that is log Σ exp(logits) − logits[c]. A −∞ among the logits is a class of probability 0: an
    infinite loss if it is the label, else nothing. Rows of −∞ alone, or with +∞ or NaN in them, give NaN.

    Args:
        logits: unnormalized log probabilities, shape (..., classes) or with the classes in another axis.
        labels: classes, as integers in the shape of logits without the axis; or probabilities (one-hot for one), in
            the shape of logits. Gradients flow to probabilities too.
        axis: the axis of the classes.

    Returns:
        The losses, in the shape of logits without the axis.

    Raises:
        IndexRangeError: if an integer label is not in [0, classes).
        ShapeError: if the shapes do not fit, or the axis is out of range.
        DTypeError: for float labels in the shape of integer ones.
        ArgumentError: if there are rows but no classes.

    Example:
        >>> import minigrad as mg
        >>> logits = mg.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> mg.softmax_cross_entropy(logits, mg.tensor([0, 1]))
        tensor([0.12692802, 0.6931472 ], dtype=float32)
        >>> mg.softmax_cross_entropy(logits, mg.tensor([0, 2]))
        Traceback (most recent call last):
        ...
        minigrad.errors.IndexRangeError: softmax_cross_entropy: labels[1] is 2, expected 0 to 1 for 2 classes
    """
    logits = floating("softmax_cross_entropy", logits)
    labels = as_tensor(labels, like=logits)
    order = None if axis == -1 and logits._data.ndim else last_axis("softmax_cross_entropy", axis, logits._data.ndim)
    if order is not None:
        logits = logits.transpose(order)
    if labels._data.ndim < logits._data.ndim:
        return softmax_cross_entropy_p(logits, labels)[0]
    if order is not None and labels.ndim == logits.ndim:
        labels = labels.transpose(order)
    return soft_cross_entropy_p(logits, cast.astype(labels, logits._data.dtype))[0]


# Primitives, over the last axis. The probabilities are an output that the backward passes use: they are exact where
# those recomputed from logits and a logarithm would carry the rounding of large logits.

softmax_cross_entropy_p = Primitive("mg::softmax_cross_entropy", outputs=("loss", "probabilities"))
softmax_cross_entropy_grad_p = Primitive("mg::softmax_cross_entropy_grad")
soft_cross_entropy_p = Primitive("mg::soft_cross_entropy", outputs=("loss", "probabilities"))
soft_cross_entropy_grad_p = Primitive("mg::soft_cross_entropy_grad")


def _require_classes(operation: str, logits: Abstract, argument: str = "logits") -> None:
    require_rows(operation, logits, argument)
    if not logits.shape[-1]:
        raise ArgumentError(f"{operation}: {argument} has shape {logits.shape}, expected at least one class")


def _require_labels(operation: str, logits: Abstract, labels: Abstract) -> None:
    rows = logits.shape[:-1]
    if labels.shape != rows:
        raise ShapeError(
            f"{operation}: labels has shape {labels.shape}, expected {rows}, or {logits.shape} for probabilities"
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"{operation}: labels has dtype {labels.dtype}, expected integers in the shape {rows}")


def _require_range(operation: str, labels: np.ndarray, bad: np.ndarray, classes: int) -> None:
    """Raise for the first label that a chunk reported; chunks report a row or -1, in order of rows."""
    if bad[0] < 0 and (len(bad) == 1 or bad.max() < 0):
        return
    row = int(bad[bad >= 0][0])
    at = tuple(int(i) for i in np.unravel_index(row, labels.shape))
    where = f"labels[{', '.join(map(str, at))}]" if at else "labels"
    raise IndexRangeError(
        f"{operation}: {where} is {labels[at]}, expected 0 to {classes - 1} for {classes} class{'es' * (classes != 1)}"
    )


def _find_bad(chunk, labels, bad, classes):
    for i in range(bad.size):
        if bad[i] >= 0:
            raise IndexError("a label is out of range")


_softmax_cross_entropy_range = cpu.Check(_find_bad, partial(_require_range, "softmax_cross_entropy"))
_softmax_cross_entropy_grad_range = cpu.Check(_find_bad, partial(_require_range, "softmax_cross_entropy_grad"))


def _checked(operation: str, labels: np.ndarray, classes: int) -> np.ndarray:
    """The labels with an axis for `take_along_axis`, once they are in range."""
    wrong = np.flatnonzero((labels.reshape(-1) < 0) | (labels.reshape(-1) >= classes))
    _require_range(operation, labels, wrong[:1] if wrong.size else np.array([-1]), classes)
    return labels[..., None].astype(np.intp)


def _label_workspace(shape: tuple[int, ...], labels: Abstract) -> tuple[Abstract, ...]:
    """A slot a chunk for a row with a bad label, and room for the labels as the one dtype that kernels take."""
    bad = Abstract((row_chunks(shape),), dtypes.int64)
    return (bad,) if labels.dtype == dtypes.int64 else (bad, Abstract(labels.shape, dtypes.int64))


def _as_int64(labels: np.ndarray, room: list[np.ndarray]) -> np.ndarray:
    if not room:
        return flat(labels)[0]
    room[0][...] = labels
    return room[0].reshape(-1)


@softmax_cross_entropy_p.infer
def _(logits, labels):
    _require_classes("softmax_cross_entropy", logits)
    _require_labels("softmax_cross_entropy", logits, labels)
    return Abstract(labels.shape, logits.dtype), Abstract(logits.shape, logits.dtype)


@softmax_cross_entropy_p.workspace
def _(logits, labels):
    return _label_workspace(logits.shape, labels)


@softmax_cross_entropy_p.kernel("reference")
def _(logits, labels):
    at = _checked("softmax_cross_entropy", labels, logits.shape[-1])
    x = shifted(logits)
    e = np.exp(x)
    total = np.sum(e, axis=-1, keepdims=True)
    return (np.log(total) - np.take_along_axis(x, at, -1))[..., 0], e / total


@softmax_cross_entropy_p.kernel("cpu")
def _(buffers, logits, labels):
    loss, probabilities, bad, *room = buffers
    if not dtypes.has_kernels(logits.dtype):
        loss[...], probabilities[...] = softmax_cross_entropy_p.reference(logits, labels)
        return
    chunks, n = len(bad), logits.shape[-1]
    outputs = loss.reshape(-1), probabilities.reshape(-1), bad
    x, classes = flat(logits)[0], _as_int64(labels, room)
    softmax_cpu.cross_entropy[logits.dtype](chunks, 4 * logits.size, chunks, n, *outputs, x, classes)
    _softmax_cross_entropy_range(1, 0, labels, bad, n)


@softmax_cross_entropy_p.vjp(saves=("labels", "probabilities"))
def _(cts, saved, needs):
    ct_loss, ct_probabilities = cts
    result = None
    if ct_loss is not None:
        result = softmax_cross_entropy_grad_p(ct_loss, saved.probabilities, saved.labels)
    if ct_probabilities is not None:
        through = softmax_grad_p(ct_probabilities, saved.probabilities)
        result = through if result is None else result + through
    return result, None


@softmax_cross_entropy_p.jvp
def _(tangents, primals, outputs):
    if tangents[0] is None:
        return None, None
    loss, probabilities = outputs
    slope = softmax_cross_entropy_grad_p(_ones(loss), probabilities, primals[1])
    tangent = sum_p(slope * tangents[0], axes=(slope.ndim - 1,), keepdims=False)
    return tangent, softmax_grad_p(tangents[0], probabilities)


def _ones(like: Tensor) -> Tensor:
    return full_like(like, 1)


_LABELLED: list[tuple[int, ...]] = [(4, 3), (5,), (1, 1), (3, 1), (2, 3, 5), (0, 4), (2, 17)]


@softmax_cross_entropy_p.samples
def _(rng):
    for shape in _LABELLED:
        yield Sample((rng.standard_normal(shape), rng.integers(0, shape[-1], shape[:-1])))
    yield Sample((rng.standard_normal((5, 3)).T, rng.integers(0, 5, 6)[::2].astype(np.uint8)), note="strided")
    yield Sample(
        (1e3 + 3 * rng.standard_normal((2, 4)), np.array([3, 0], np.int32)), note="large", differentiable=False
    )
    yield Sample((np.array([[0.0, -np.inf], [0.0, -np.inf]]), np.array([0, 1])), note="-inf", differentiable=False)
    bad = np.zeros((2, 3))
    yield Sample(
        (bad, np.array([0, 3])), error=IndexRangeError, match=r"labels\[1\] is 3, expected 0 to 2 for 3 classes"
    )
    yield Sample((bad, np.array([-1, 0])), error=IndexRangeError, match=r"labels\[0\] is -1")
    yield Sample((bad, np.array([0, 1, 2])), error=ShapeError, match=r"labels has shape \(3,\), expected \(2,\)")
    yield Sample((bad, np.zeros(2)), error=DTypeError, match="labels has dtype")
    yield Sample((np.zeros((2, 0)), np.array([0, 0])), error=ArgumentError, match="at least one class")


# Its gradient by the logits: ct·(p − 1) at the label, ct·p elsewhere. Linear in ct, and in p up to a constant.


@softmax_cross_entropy_grad_p.infer
def _(ct, probabilities, labels):
    operation = "softmax_cross_entropy_grad"
    _require_classes(operation, probabilities, "probabilities")
    _require_labels(operation, probabilities, labels)
    _require_rows_of(operation, ct, probabilities)
    return Abstract(probabilities.shape, probabilities.dtype)


def _require_rows_of(operation: str, ct: Abstract, probabilities: Abstract) -> None:
    dtypes.require_same(operation, ct=ct.dtype, probabilities=probabilities.dtype)
    if ct.shape != probabilities.shape[:-1]:
        raise ShapeError(f"{operation}: ct has shape {ct.shape}, expected {probabilities.shape[:-1]}")


@softmax_cross_entropy_grad_p.workspace
def _(ct, probabilities, labels):
    return _label_workspace(probabilities.shape, labels)


@softmax_cross_entropy_grad_p.kernel("reference")
def _(ct, probabilities, labels):
    at = _checked("softmax_cross_entropy_grad", labels, probabilities.shape[-1])
    slope = np.array(probabilities)
    np.put_along_axis(slope, at, np.take_along_axis(slope, at, -1) - 1, -1)
    return ct[..., None] * slope


@softmax_cross_entropy_grad_p.kernel("cpu")
def _(buffers, ct, probabilities, labels):
    out, bad, *room = buffers
    if not dtypes.has_kernels(out.dtype):
        out[...] = softmax_cross_entropy_grad_p.reference(ct, probabilities, labels)[0]
        return
    chunks, n = len(bad), out.shape[-1]
    inputs = (*flat(ct, probabilities), _as_int64(labels, room))
    softmax_cpu.cross_entropy_grad(chunks, out.size, chunks, n, out.reshape(-1), bad, *inputs)
    _softmax_cross_entropy_grad_range(1, 0, labels, bad, n)


@softmax_cross_entropy_grad_p.vjp(saves=("ct", "probabilities", "labels"))
def _(g, saved, needs):
    d_ct = None
    if needs[0]:
        slope = softmax_cross_entropy_grad_p(_ones(saved.ct), saved.probabilities, saved.labels)
        d_ct = sum_p(g * slope, axes=(g.ndim - 1,), keepdims=False)
    return d_ct, g * _column(saved.ct) if needs[1] else None, None


@softmax_cross_entropy_grad_p.jvp
def _(tangents, primals, outputs):
    (t_ct, t_p, _), (ct, p, labels) = tangents, primals
    result = None if t_ct is None else softmax_cross_entropy_grad_p(t_ct, p, labels)
    if t_p is None:
        return result
    return t_p * _column(ct) if result is None else result + t_p * _column(ct)


def _column(ct: Tensor) -> Tensor:
    return ct.reshape((*ct.shape, 1))


@softmax_cross_entropy_grad_p.samples
def _(rng):
    for shape in _LABELLED:
        labels = rng.integers(0, shape[-1], shape[:-1])
        yield Sample((rng.standard_normal(shape[:-1]), rng.random(shape), labels))
    strided = (rng.standard_normal(6)[::-2], rng.random((5, 3)).T, rng.integers(0, 5, 3).astype(np.int32))
    yield Sample(strided, note="strided")
    bad = (np.ones(2), np.ones((2, 3)), np.array([0, 3]))
    yield Sample(bad, error=IndexRangeError, match=r"labels\[1\] is 3")
    bad = (np.ones(3), np.ones((2, 3)), np.array([0, 1]))
    yield Sample(bad, error=ShapeError, match=r"ct has shape \(3,\)")


# The same for labels that are probabilities t, in the logits' shape: −Σ t·log p, where 0·log 0 is 0. The t need not
# add up to 1, so that their own derivative, −log p, is that of independent variables.


@soft_cross_entropy_p.infer
def _(logits, targets):
    _require_classes("softmax_cross_entropy", logits)
    _require_targets("softmax_cross_entropy", logits, targets)
    return Abstract(logits.shape[:-1], logits.dtype), Abstract(logits.shape, logits.dtype)


def _require_targets(operation: str, logits: Abstract, targets: Abstract) -> None:
    if targets.shape != logits.shape:
        raise ShapeError(
            f"{operation}: labels has shape {targets.shape}, expected {logits.shape[:-1]} or {logits.shape}"
        )
    dtypes.require_same(operation, logits=logits.dtype, labels=targets.dtype)


@soft_cross_entropy_p.kernel("reference")
def _(logits, targets):
    x = shifted(logits)
    e = np.exp(x)
    total = np.sum(e, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        terms = targets * (np.log(total) - x)
    return np.sum(np.where(targets == 0, 0, terms), axis=-1), e / total


@soft_cross_entropy_p.kernel("cpu")
def _(buffers, logits, targets):
    loss, probabilities = buffers
    if not dtypes.has_kernels(logits.dtype):
        loss[...], probabilities[...] = soft_cross_entropy_p.reference(logits, targets)
        return
    chunks, outputs = row_chunks(logits.shape), (loss.reshape(-1), probabilities.reshape(-1))
    kernel = softmax_cpu.soft_cross_entropy[logits.dtype]
    kernel(chunks, 4 * logits.size, chunks, logits.shape[-1], *outputs, *flat(logits, targets))


@soft_cross_entropy_p.vjp(saves=("logits", "targets", "probabilities"))
def _(cts, saved, needs):
    ct_loss, ct_probabilities = cts
    result = d_targets = None
    if ct_loss is not None:
        if needs[0]:
            result = soft_cross_entropy_grad_p(ct_loss, saved.probabilities, saved.targets)
        if needs[1]:
            d_targets = -_column(ct_loss) * log_softmax_p(saved.logits)
    if ct_probabilities is not None and needs[0]:
        through = softmax_grad_p(ct_probabilities, saved.probabilities)
        result = through if result is None else result + through
    return result, d_targets


@soft_cross_entropy_p.jvp
def _(tangents, primals, outputs):
    (t_x, t_targets), (x, targets), (loss, probabilities) = tangents, primals, outputs
    t_loss = t_probabilities = None
    last = (x.ndim - 1,)
    if t_x is not None:
        slope = soft_cross_entropy_grad_p(_ones(loss), probabilities, targets)
        t_loss = sum_p(slope * t_x, axes=last, keepdims=False)
        t_probabilities = softmax_grad_p(t_x, probabilities)
    if t_targets is not None:
        through = -sum_p(t_targets * log_softmax_p(x), axes=last, keepdims=False)
        t_loss = through if t_loss is None else t_loss + through
    return t_loss, t_probabilities


@soft_cross_entropy_p.samples
def _(rng):
    for shape in _LABELLED:
        inputs = (rng.standard_normal(shape), rng.random(shape))
        yield Sample(inputs, differentiable=shape[-1] > 1)  # the loss of one class is 0 whatever the logits
    yield Sample((rng.standard_normal((5, 3)).T, rng.random((6, 10))[::-2, ::2]), note="strided")
    yield Sample(
        (1e3 + 3 * rng.standard_normal((2, 4)), np.eye(4)[[3, 0]]), note="large, one-hot", differentiable=False
    )
    yield Sample((np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]])), note="-inf", differentiable=False)
    yield Sample((np.zeros((2, 3)), np.zeros((3, 2))), error=ShapeError, match=r"labels has shape \(3, 2\)")
    yield Sample((np.zeros((2, 0)), np.zeros((2, 0))), error=ArgumentError, match="at least one class")


# Its gradient by the logits: ct·(p·Σt − t), linear in each of the three.


@soft_cross_entropy_grad_p.infer
def _(ct, probabilities, targets):
    operation = "soft_cross_entropy_grad"
    _require_classes(operation, probabilities, "probabilities")
    _require_targets(operation, probabilities, targets)
    _require_rows_of(operation, ct, probabilities)
    return Abstract(probabilities.shape, probabilities.dtype)


@soft_cross_entropy_grad_p.kernel("reference")
def _(ct, probabilities, targets):
    return ct[..., None] * (probabilities * np.sum(targets, axis=-1, keepdims=True) - targets)


@soft_cross_entropy_grad_p.kernel("cpu")
def _(out, ct, probabilities, targets):
    if not dtypes.has_kernels(out.dtype):
        out[...] = soft_cross_entropy_grad_p.reference(ct, probabilities, targets)[0]
        return
    chunks, inputs = row_chunks(out.shape), flat(ct, probabilities, targets)
    softmax_cpu.soft_cross_entropy_grad(chunks, out.size, chunks, out.shape[-1], out.reshape(-1), *inputs)


@soft_cross_entropy_grad_p.vjp(saves=("ct", "probabilities", "targets"))
def _(g, saved, needs):
    ct, p, t = saved.ct, saved.probabilities, saved.targets
    d_ct = d_p = d_t = None
    if needs[0]:
        d_ct = sum_p(g * (p * last_sum(t) - t), axes=(g.ndim - 1,), keepdims=False)
    if needs[1]:
        d_p = g * (_column(ct) * last_sum(t))
    if needs[2]:
        d_t = _column(ct) * (last_sum(g * p) - g)
    return d_ct, d_p, d_t


@soft_cross_entropy_grad_p.jvp
def _(tangents, primals, outputs):
    (t_ct, t_p, t_t), (ct, p, t) = tangents, primals
    terms = []
    if t_ct is not None:
        terms.append(soft_cross_entropy_grad_p(t_ct, p, t))
    if t_p is not None:
        terms.append(t_p * (_column(ct) * last_sum(t)))
    if t_t is not None:
        terms.append(soft_cross_entropy_grad_p(ct, p, t_t))
    return sum(terms[1:], terms[0]) if terms else None


@soft_cross_entropy_grad_p.samples
def _(rng):
    for shape in _LABELLED:
        yield Sample((rng.standard_normal(shape[:-1]), rng.random(shape), rng.random(shape)))
    strided = (rng.standard_normal(6)[::-2], rng.random((5, 3)).T, rng.random((6, 10))[::-2, ::2])
    yield Sample(strided, note="strided")
    bad = (np.ones(3), np.ones((2, 3)), np.ones((2, 3)))
    yield Sample(bad, error=ShapeError, match=r"ct has shape \(3,\)")
