"""Sparsemax (Martins & Astudillo 2016): the primitive and its rules, the function, the loss, the layer."""

import numpy as np

import minigrad as mg
from minigrad.devices import cpu
from minigrad.errors import ArgumentTypeError, ShapeError

sparsemax_p = mg.Primitive("entmax::sparsemax", outputs=("y",))


# What goes in and what comes out. Every mistake of a caller ends here, with words.
@sparsemax_p.infer
def _(x):
    mg.dtypes.require_floating("sparsemax", "x", x.dtype)
    if not x.ndim or not x.shape[-1]:
        raise ShapeError(f"sparsemax: x has shape {x.shape}, expected at least one element along the last axis")
    return mg.Abstract(x.shape, x.dtype)


# The definition, in NumPy and for any float dtype, complex ones included: the k largest are the support, with
# k = max{j: 1 + j·z₍ⱼ₎ > z₍₁₎ + … + z₍ⱼ₎}, and the threshold is their sum less 1, over k.
@sparsemax_p.kernel("reference")
def _(x):
    with np.errstate(invalid="ignore", divide="ignore"):
        z = x - np.max(x.real, axis=-1, keepdims=True)
        ordered = np.take_along_axis(z, np.argsort(-z.real, axis=-1), axis=-1)
        sums = np.cumsum(ordered, axis=-1)
        ranks = np.arange(1, x.shape[-1] + 1)
        k = np.sum(1 + ranks * ordered.real > sums.real, axis=-1, keepdims=True)
        threshold = (np.take_along_axis(sums, np.maximum(k - 1, 0), axis=-1) - 1) / k
        y = np.where(z.real > threshold.real, z - threshold, 0)
        return np.where(k > 0, y, np.nan).astype(x.dtype)  # k = 0 where a NaN or +∞ is in the row


# The same, compiled: a chunk does some of the rows. The threshold rises from -1 (below the largest, at 0) until the
# support that it selects shrinks no more, which needs neither a sort nor memory (Michelot 1986).
@cpu.chunked
def _project_rows(chunk, chunks, n, out, x):
    rows = x.size // n
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        part, y = x[row * n : (row + 1) * n], out[row * n : (row + 1) * n]
        largest = part[0]
        for j in range(n):
            if part[j] > largest or part[j] != part[j]:
                largest = part[j]
        threshold, support, before = -1.0, n + 1, n + 2
        while support < before:
            before, support, total = support, 0, 0.0
            for j in range(n):
                if part[j] - largest > threshold:
                    support += 1
                    total += np.float64(part[j] - largest)
            threshold = (total - 1.0) / support if support else np.nan
        for j in range(n):
            z = part[j] - largest
            y[j] = z - threshold if not z <= threshold else 0.0


@sparsemax_p.kernel("cpu")
def _(out, x):
    if not mg.dtypes.has_kernels(x.dtype):  # float16 for one, which compiled code does not know
        out[...] = sparsemax_p.reference(x)[0]
        return
    chunks = cpu.chunks_of(x.size)
    _project_rows(chunks, 4 * x.size, chunks, x.shape[-1], out.reshape(-1), cpu.contiguous(x).reshape(-1))


# The derivative, in primitives, which makes it differentiable in turn. The Jacobian diag(s) − s·sᵀ/|S|, with s = 1 on
# the support S, is symmetric: it serves cotangents and tangents alike. s is seen from the output.
def _apply_jacobian(v, y):
    s = (y > 0).astype(v.dtype)
    return s * (v - (s * v).sum(-1, keepdims=True) / s.sum(-1, keepdims=True))


@sparsemax_p.vjp(saves=("y",))
def _(ct, saved, needs):
    return _apply_jacobian(ct, saved.y)


@sparsemax_p.jvp
def _(tangents, primals, outputs):
    return _apply_jacobian(tangents[0], outputs[0])


# What the checks run on: shapes of distinct sizes, odd layouts, hard values; and the mistakes with their errors.
@sparsemax_p.samples
def _(rng):
    shift = mg.Invariance("a shift of x", lambda x: (x + 3.0,))
    for shape in [(3,), (1,), (2, 5), (4, 1), (0, 3), (2, 3, 7)]:
        yield mg.Sample((_off_the_edge(rng, shape),), invariances=(shift,))
    yield mg.Sample((rng.standard_normal((3, 9001)),), differentiable=False, note="several chunks")
    yield mg.Sample((_off_the_edge(rng, (6, 4)).T.copy().T,), note="another memory order")
    yield mg.Sample((0.1 * rng.standard_normal((2, 5)),), note="all are in the support")
    yield mg.Sample((10.0 * rng.permuted(np.tile(np.arange(4.0), (3, 1)), axis=1),), note="one winner")
    yield mg.Sample((100 + rng.standard_normal((2, 5)),), differentiable=False, note="large mean")
    yield mg.Sample((np.array([[1.0, 0.0, 0.0], [0.5, 0.5, -0.5]]),), differentiable=False, note="edge of the support")
    yield mg.Sample(
        (np.array([[0.0, np.nan], [np.inf, 1.0], [-np.inf, 1.0]]),), differentiable=False, note="not finite"
    )
    yield mg.Sample((np.ones(()),), error=ShapeError, match=r"x has shape \(\), expected at least one")
    yield mg.Sample((np.ones((2, 0)),), error=ShapeError, match=r"x has shape \(2, 0\)")
    yield mg.Sample((np.ones(3, int),), error=mg.errors.DTypeError, match="sparsemax: x has dtype int64")


def _off_the_edge(rng, shape):
    """Random rows without an element that a small step would take in or out of the support, a kink of sparsemax."""
    while True:
        x = rng.standard_normal(shape)
        (y,) = sparsemax_p.reference(x)
        threshold = np.max(np.where(y > 0, x - y, -np.inf), axis=-1, keepdims=True)
        if np.all(np.abs(x - threshold) > 0.02):
            return x


def sparsemax(x, axis=-1):
    """The probabilities nearest to x along an axis, argmin ‖p − x‖² over p ≥ 0 with Σp = 1. Many are exactly 0.

    Args:
        x: floats, with at least one element along the axis.
        axis: the axis along which results add up to 1.

    Raises:
        ShapeError: if the axis is out of range or has no elements.
        ArgumentTypeError: if it is no integer.

    Example:
        >>> import minigrad as mg
        >>> sparsemax(mg.tensor([1.0, 0.5, -1.0]))
        tensor([0.75, 0.25, 0.  ], dtype=float32)
    """
    if not isinstance(axis, int):
        raise ArgumentTypeError(f"sparsemax: axis is {axis!r}, expected an integer")
    x = mg.as_tensor(x)
    if axis == -1:
        return sparsemax_p(x)
    (axis,) = mg.axes.normalize("sparsemax", axis, x.ndim)
    order = list(range(x.ndim))
    order[axis], order[-1] = order[-1], order[axis]  # two axes swapped, and the same order swaps them back
    return sparsemax_p(x.transpose(order)).transpose(order)


def sparsemax_loss(logits, targets):
    """½‖t − z‖² − ½‖p − z‖² with p = sparsemax(z), averaged over the batch; 0 where z separates the classes by 1.

    Args:
        logits: z, shape (n, classes).
        targets: t, probabilities of the same shape.
    """
    p, t = sparsemax(logits), mg.as_tensor(targets)
    return 0.5 * (mg.square(t - logits) - mg.square(p - logits)).sum(-1).mean()


class Sparsemax(mg.nn.Layer):
    """`sparsemax` as a layer."""

    def __init__(self, axis=-1, name=None):
        super().__init__(name)
        self.axis = axis

    def call(self, x, training):
        return sparsemax(x, self.axis)
