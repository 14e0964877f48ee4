"""Spectral norm: weights divided by their largest singular value, as power iteration finds it (Miyato et al. 2018).

    w/σ with σ = leftᵀ·w·right;  dw = dy/σ + (dσ − Σ dy·w/σ²)·left·rightᵀ     with 1/σ := 0 where σ = 0

The singular vectors are constants to the gradient. For a w of shape (inputs, outputs), left is v and right is u.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample, Tensor, Variable
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad_norms.arguments import floating
from minigrad_norms.composed import composed_rules
from minigrad_norms.formulas import wide
from minigrad_norms.kernels import spectral_cpu as kernels
from minigrad_norms.wrapper import KernelWrapper

spectral_norm_p = Primitive("norms::spectral_norm", outputs=("y", "sigma"), frozen=("left", "right"))
spectral_norm_vjp_p = Primitive("norms::spectral_norm_vjp", outputs=("dw",), frozen=("left", "right"))
power_iteration_p = Primitive(
    "norms::power_iteration", outputs=("new_left", "new_right"), frozen=("w", "left", "right", "new_left", "new_right")
)
_AT_BUILD = 15  # iterations with which u and v begin


def spectral_norm(w: Any, u: Any, v: Any, axis: int = -1) -> Tensor:
    """w/σ with σ = uᵀ·W·v, W being w with its axis of outputs first and the others in one (Miyato et al. 2018, eq. 8).

    u and v, from `power_iteration`, are constants to the gradient. Where σ is 0 the result is 0.

    Args:
        w: the weights, of at least one dimension.
        u: shape (w.shape[axis],), the first left singular vector of W.
        v: shape (w.size / w.shape[axis],), the first right one.
        axis: the axis of the outputs.

    Returns:
        weights of w's shape and dtype.

    Raises:
        ShapeError: if the axis is out of range, or u or v has another length.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> w = mg.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> u, v = norms.power_iteration(w, mg.tensor([1.0, 0.0]))
        >>> norms.spectral_norm(w, u, v).numpy().round(3)
        array([[1.   , 0.   ],
               [0.   , 0.333]], dtype=float32)
    """
    w, (u, v) = floating(w), (mg.as_tensor(a) for a in (u, v))
    matrix, outputs_first, back = _matrix("spectral_norm", w, axis)
    left, right = (u, v) if outputs_first else (v, u)
    _require_vectors("spectral_norm", matrix.shape, outputs_first, u=u, v=v)
    return back(spectral_norm_p(matrix, left.astype(w.dtype), right.astype(w.dtype))[0])


def power_iteration(w: Any, u: Any, v: Any = None, axis: int = -1, iterations: int = 1) -> tuple[Tensor, Tensor]:
    """u and v nearer to W's first singular vectors: v ← Wᵀ·u/‖Wᵀ·u‖, then u ← W·v/‖W·v‖ (Miyato et al. 2018, alg. 1).

    W is w with its axis of outputs first and the others in one. Both are constants to every derivative. Where a product
    is 0 or not finite, the vector that it would give stays as it was.

    Args:
        w: the weights, of at least one dimension.
        u: shape (w.shape[axis],); what to begin with.
        v: shape (w.size / w.shape[axis],), for where the product gives none; None for zeros.
        axis: the axis of the outputs.
        iterations: at least 1.

    Raises:
        ShapeError: if the axis is out of range, or u or v has another length.
        ArgumentError: for fewer iterations than one.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> u, v = norms.power_iteration(mg.tensor([[3.0, 0.0], [0.0, 1.0]]), mg.tensor([0.8, 0.6]), iterations=20)
        >>> u.numpy().round(3), v.numpy().round(3)
        (array([1., 0.], dtype=float32), array([1., 0.], dtype=float32))
    """
    w, u = floating(w), mg.as_tensor(u)
    matrix, outputs_first, _ = _matrix("power_iteration", w.detach(), axis)
    others = matrix.shape[1 if outputs_first else 0]
    v = mg.as_tensor(np.zeros(others, w.dtype) if v is None else v)
    _require_vectors("power_iteration", matrix.shape, outputs_first, u=u, v=v)
    u, v = u.astype(w.dtype), v.astype(w.dtype)
    left, right = (u, v) if outputs_first else (v, u)
    left, right = power_iteration_p(matrix, left, right, iterations=iterations, right_first=outputs_first)
    return (left, right) if outputs_first else (right, left)


class SpectralNormalization(KernelWrapper):
    """A layer whose kernel is divided by its largest singular value (Miyato et al. 2018).

    Each call in training makes `power_iterations` from the u and v that the last one left, then computes with the
    kernel over σ = uᵀ·W·v; a call in inference computes with the u and v that are there. u and v are constants to the
    gradient. They begin with a random u and a few iterations more, so that σ is near from the start.

    Args:
        layer: has a `kernel` once it is built (Dense, Conv2D ...).
        power_iterations: iterations a call in training, at least 1.
        axis: the kernel's axis of outputs; by default the layer's ``kernel_axis``, or else the last.
        name: for messages, summaries and checkpoints.

    Attributes:
        kernel: the Variable that is trained. u, v: Variables, unit vectors.

    Raises:
        ArgumentTypeError: for what is no layer, or is wrapped already.
        ArgumentError: for fewer iterations than one, or a layer without a kernel.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.SpectralNormalization(mg.nn.Dense(1, kernel_initializer="ones"))
        >>> layer(mg.tensor([[3.0, 4.0]])).numpy().round(3)  # ‖(1, 1)‖ = √2
        array([[4.95]], dtype=float32)
        >>> list(layer.variables)
        ['kernel', 'u', 'v', 'layer/bias']
    """

    kernel: Variable
    u: Variable
    v: Variable

    def __init__(self, layer: Any, power_iterations: int = 1, axis: int | None = None, name: str | None = None):
        if isinstance(power_iterations, bool) or not isinstance(power_iterations, int) or power_iterations < 1:
            raise ArgumentError(
                f"SpectralNormalization: power_iterations is {power_iterations!r}, expected a positive integer"
            )
        self.power_iterations = power_iterations
        super().__init__(layer, axis, name)

    def adopt(self, kernel: Variable) -> None:
        matrix, outputs_first, _ = _matrix(self.name, kernel.detach(), self.axis)
        outputs, others = matrix.shape if outputs_first else matrix.shape[::-1]
        self.kernel = kernel
        self.u = self.add_variable("u", (outputs,), mg.nn.initializers.random_normal(), False, kernel.dtype)
        self.v = self.add_variable("v", (others,), "zeros", False, kernel.dtype)
        self._iterate(_AT_BUILD)

    def surrender(self) -> Variable:
        return self.kernel

    def effective(self) -> Tensor:
        """The kernel that the layer computes with: kernel/σ."""
        # Copies: the next iteration may come before this call's backward, as in a GAN's loss on two batches.
        return spectral_norm(self.kernel, mg.ops.copy(self.u), mg.ops.copy(self.v), self.axis)

    def before_call(self, x: Tensor, training: bool, options: dict) -> None:
        if training:
            self._iterate(self.power_iterations)

    def _iterate(self, iterations: int) -> None:
        u, v = power_iteration(self.kernel, self.u, self.v, self.axis, iterations)
        self.u.assign(u)
        self.v.assign(v)


def _matrix(operation: str, w: Tensor, axis: Any) -> tuple[Tensor, bool, Any]:
    """w as a matrix, whether its rows are the outputs (else its columns are), and the way back to w's shape."""
    found = mg.axes.normalize(operation, axis, w.ndim)
    if len(found) != 1:
        raise ShapeError(f"{operation}: axis is {axis!r}, expected one axis of w with shape {w.shape}")
    shape, (at,) = w.shape, found
    if at == 0 and w.ndim > 1:
        return w.reshape(shape[0], _rest(shape, 0)), True, lambda y: y.reshape(shape)
    if at == w.ndim - 1:
        return w.reshape(_rest(shape, at), shape[at]), False, lambda y: y.reshape(shape)
    moved = mg.moveaxis(w, at, -1)
    flat = moved.reshape(_rest(shape, at), shape[at])
    return flat, False, lambda y: mg.moveaxis(y.reshape(moved.shape), -1, at)


def _rest(shape: tuple[int, ...], at: int) -> int:
    size = 1
    for axis, n in enumerate(shape):
        size *= 1 if axis == at else n
    return size


def _require_vectors(operation: str, shape: tuple[int, ...], outputs_first: bool, u: Tensor, v: Tensor) -> None:
    for name, got, n in (("u", u, shape[0 if outputs_first else 1]), ("v", v, shape[1 if outputs_first else 0])):
        if got.shape != (n,):
            raise ShapeError(f"{operation}: {name} has shape {got.shape}, expected ({n},)")


# Formulas, for NumPy and for minigrad alike


def _spectral_norm(xp: Any, w: Any, left: Any, right: Any) -> tuple:
    sigma = xp.sum(wide(left) * xp.sum(wide(w) * wide(right), axis=1), axis=0)
    return (wide(w) * _inverse(xp, sigma)).astype(w.dtype), sigma


def _spectral_norm_vjp(xp: Any, dy: Any, w: Any, left: Any, right: Any, sigma: Any, dsigma: Any) -> Any:
    r = _inverse(xp, sigma)
    to_sigma = -xp.sum(wide(dy) * wide(w)) * r * r
    if dsigma is not None:
        to_sigma = to_sigma + dsigma
    return (wide(dy) * r + to_sigma * wide(left).reshape(-1, 1) * wide(right)).astype(w.dtype)


def _inverse(xp: Any, sigma: Any) -> Any:
    nothing = sigma == 0
    return xp.where(nothing, 0.0 * sigma, 1 / xp.where(nothing, 0.0 * sigma + 1, sigma))


# Rules


def _check(operation: str, w: Abstract, left: Abstract, right: Abstract) -> None:
    mg.dtypes.require_floating(operation, "w", w.dtype)
    vectors = mg.dtypes.require_same(operation, left=left.dtype, right=right.dtype)
    if vectors not in (w.dtype, mg.dtypes.real(w.dtype)):
        raise DTypeError(f"{operation}: left has dtype {vectors}, expected {w.dtype} as of w")
    if w.ndim != 2:
        raise ShapeError(f"{operation}: w has shape {w.shape}, expected two axes")
    for name, got, n in (("left", left, w.shape[0]), ("right", right, w.shape[1])):
        if got.shape != (n,):
            raise ShapeError(f"{operation}: {name} has shape {got.shape}, expected ({n},)")


def _sigma_of(w: Abstract) -> Abstract:
    return Abstract((), np.result_type(w.dtype, np.float64))


@spectral_norm_p.infer
def _(w, left, right):
    _check("spectral_norm", w, left, right)
    return w, _sigma_of(w)


@spectral_norm_vjp_p.infer
def _(dy, w, left, right, sigma, dsigma):
    _check("spectral_norm_vjp", w, left, right)
    for name, got, want in (("dy", dy, w), ("sigma", sigma, _sigma_of(w)), ("dsigma", dsigma, _sigma_of(w))):
        if got is not None and got != want:
            raise ShapeError(f"spectral_norm_vjp: {name} has {got.dtype}{got.shape}, expected {want.dtype}{want.shape}")
    return w


@power_iteration_p.infer
def _(w, left, right, *, iterations, right_first):
    _check("power_iteration", w, left, right)
    if not isinstance(iterations, int) or iterations < 1:
        raise ArgumentError(f"power_iteration: iterations is {iterations!r}, expected a positive integer")
    return left, right


@spectral_norm_p.kernel("reference")
def _(w, left, right):
    with np.errstate(all="ignore"):
        return _spectral_norm(np, w, left, right)


@spectral_norm_vjp_p.kernel("reference")
def _(dy, w, left, right, sigma, dsigma):
    with np.errstate(all="ignore"):
        return _spectral_norm_vjp(np, dy, w, left, right, sigma, dsigma)


@power_iteration_p.kernel("reference")
def _(w, left, right, *, iterations, right_first):
    new = [left, right]
    with np.errstate(all="ignore"):
        for step in range(2 * iterations):
            side = (step + right_first) % 2
            x = w.T @ new[0] if side else w @ new[1]
            square = np.sum(np.square(wide(x)))
            if 0 < square < np.inf:
                new[side] = (x / np.sqrt(square)).astype(w.dtype)
    return tuple(new)


def _chunks(w: Any) -> int:
    return max(1, min(w.shape[0], cpu.chunks_of(w.size, 1 << 14, 32)))


@spectral_norm_p.workspace
def _(w, left, right):
    return [Abstract((_chunks(w),), mg.dtypes.float64)]


@spectral_norm_vjp_p.workspace
def _(dy, w, left, right, sigma, dsigma):
    return [Abstract((_chunks(w),), mg.dtypes.float64)]


@power_iteration_p.workspace
def _(w, left, right, *, iterations, right_first):
    return [Abstract(shape, mg.dtypes.float64) for shape in ((w.shape[0],), (_chunks(w), w.shape[1]), (1,))]


@spectral_norm_p.kernel("cpu")
def _(out, w, left, right):
    y, sigma, partial = out
    if not mg.dtypes.has_kernels(w.dtype):
        y[...], sigma[...] = spectral_norm_p.reference(w, left, right)
        return
    chunks, w = partial.size, cpu.contiguous(w)
    kernels.product(chunks, w.size, chunks, partial, w, cpu.contiguous(left), cpu.contiguous(right))
    kernels.divide(chunks, 2 * w.size, chunks, y.reshape(-1), sigma.reshape(-1), partial, w.reshape(-1))


@spectral_norm_vjp_p.kernel("cpu")
def _(out, dy, w, left, right, sigma, dsigma):
    dw, partial = out
    if not mg.dtypes.has_kernels(w.dtype):
        dw[...] = spectral_norm_vjp_p.reference(dy, w, left, right, sigma, dsigma)[0]
        return
    chunks, dy, w = partial.size, cpu.contiguous(dy), cpu.contiguous(w)
    numbers = float(sigma), 0.0 if dsigma is None else float(dsigma)
    kernels.inner(chunks, 2 * w.size, chunks, partial, dy.reshape(-1), w.reshape(-1))
    kernels.slopes(chunks, 2 * w.size, chunks, dw, partial, dy, cpu.contiguous(left), cpu.contiguous(right), *numbers)


@power_iteration_p.kernel("cpu")
def _(out, w, left, right, *, iterations, right_first):
    new_left, new_right, t, partial, found = out
    if not mg.dtypes.has_kernels(w.dtype):
        options = {"iterations": iterations, "right_first": right_first}
        new_left[...], new_right[...] = power_iteration_p.reference(w, left, right, **options)
        return
    chunks, w = len(partial), cpu.contiguous(w)
    np.copyto(new_left, left)
    np.copyto(new_right, right)
    for _ in range(iterations):
        if not right_first:
            # wᵀ·(w·right) has the direction of wᵀ·left and needs no second look at w.
            kernels.sweep(chunks, w.size, chunks, True, True, t, partial, w, new_right)
            kernels.settle(1, 0, new_left, t, found)
        if right_first or not found[0]:
            np.copyto(t, new_left)
            kernels.sweep(chunks, w.size, chunks, False, True, t, partial, w, new_right)
        kernels.gather(1, 0, partial)
        kernels.settle(1, 0, new_right, partial[0], found)
        if right_first:
            kernels.sweep(chunks, w.size, chunks, True, False, t, partial, w, new_right)
            kernels.settle(1, 0, new_left, t, found)


@spectral_norm_p.vjp(saves=("w", "left", "right", "sigma"))
def _(ct, saved, needs):
    dy, dsigma = ct
    if dy is None:
        dy = Tensor(np.zeros(saved.w.shape, saved.w.dtype)).to(saved.w.device)
    return spectral_norm_vjp_p(dy, saved.w, saved.left, saved.right, saved.sigma, dsigma), None, None


composed_rules(spectral_norm_p, _spectral_norm, False)
composed_rules(spectral_norm_vjp_p, _spectral_norm_vjp, True)
power_iteration_p.no_derivative("the singular vectors are constants by definition")


# Samples


def _cases(rng: np.random.Generator) -> Any:
    for shape in [(4, 3), (2, 5), (1, 1), (1, 4), (6, 1), (300, 257)]:
        vectors = [rng.standard_normal(n) for n in shape]
        yield rng.standard_normal(shape), *[a / np.linalg.norm(a) for a in vectors], shape[0] < 300, str(shape)
    yield np.zeros((3, 2)), np.array([0.6, 0.8, 0.0]), np.array([1.0, 0.0]), False, "σ = 0"
    yield np.empty((0, 3)), np.empty(0), np.ones(3), True, "no rows"
    yield np.empty((3, 0)), np.ones(3), np.empty(0), True, "no columns"
    strided = rng.standard_normal((6, 8))[::-2, ::2]
    yield strided, rng.standard_normal(6)[::2], rng.standard_normal(8)[::-2], True, "strided"


_bad = (np.ones((4, 3)), np.ones(3), np.ones(4))


@spectral_norm_p.samples
def _(rng):
    for w, left, right, smooth, note in _cases(rng):
        yield Sample((w, left, right), note=note, differentiable=smooth)
    yield Sample(_bad, error=ShapeError, match=r"left has shape \(3,\), expected \(4,\)")
    mixed = (np.ones((4, 3)), np.ones(4, "f4"), np.ones(3, "f4"))
    yield Sample(mixed, error=DTypeError, match="left has dtype float32, expected float64")
    yield Sample((np.ones(4), np.ones(4), np.ones(1)), error=ShapeError, match="expected two axes")


@spectral_norm_vjp_p.samples
def _(rng):
    for i, (w, left, right, smooth, note) in enumerate(_cases(rng)):
        sigma = np.asarray(left @ w @ right)
        dsigma = None if i % 2 else np.asarray(rng.standard_normal())
        inputs = (rng.standard_normal(w.shape), w, left, right, sigma, dsigma)
        yield Sample(inputs, note=note, differentiable=smooth, wide=("sigma", "dsigma"))
    bad = (np.ones((3, 4)), np.ones((4, 3)), np.ones(4), np.ones(3), np.asarray(1.0), None)
    yield Sample(bad, error=ShapeError, match=r"dy has float64\(3, 4\)")


@power_iteration_p.samples
def _(rng):
    for i, (w, left, right, _, note) in enumerate(_cases(rng)):
        yield Sample((w, left, right), {"iterations": 1 + i % 2, "right_first": i % 3 == 1}, note=note)
    spoilt = (np.array([[1.0, np.nan], [2.0, 3.0]]), np.array([0.6, 0.8]), np.array([1.0, 0.0]))
    yield Sample(spoilt, {"iterations": 1, "right_first": False}, note="NaN: the vectors stay")
    yield Sample(_bad, {"iterations": 1, "right_first": False}, error=ShapeError, match="left has shape")
    good = (np.ones((4, 3)), np.ones(4), np.ones(3))
    yield Sample(good, {"iterations": 0, "right_first": False}, error=ArgumentError, match="iterations is 0")
