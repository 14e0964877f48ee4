"""A normalization with a gradient of its own, and the faults that are planted in it, in words that every library has.

Row by row, y = γ·(x − mean)/√(var + ε) + β, and beside y the unbiased variance, in one array of one column more. What a
library has to bring is in `Words`; the gradient is written in them once, with a place for each fault.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

_EPSILON = 0.1


class Words(Protocol):
    """What a library is asked for. Arrays have the operators and slices of NumPy's."""

    def sum(self, a: Any, axis: int, keepdims: bool) -> Any: ...
    def sqrt(self, a: Any) -> Any: ...
    def beside(self, a: Any, b: Any) -> Any:
        """The two with their columns in one array."""

    def value(self, a: Any) -> np.ndarray:
        """Its numbers, as they lie in memory."""

    def constant(self, a: np.ndarray, like: Any) -> Any: ...
    def detach(self, a: Any) -> Any: ...


class Fault(NamedTuple):
    """A fault: its class, what is wrong in words, and what a library must have for it to exist there."""

    name: str
    words: str
    needs: str = ""


FAULTS = (
    Fault("wrong sign", "the gradient of γ is negative"),
    Fault("dropped term", "the variance is held constant in the gradient of x"),
    Fault("missing cotangent", "what comes back through the variance that is returned is left out"),
    Fault("biased for unbiased", "the gradient of the variance divides by n, the variance by n − 1"),
    Fault("factor 1 + 1e-3", "the gradient of x is a thousandth too large"),
    Fault("factor 1 + 1e-6", "the gradient of x is a millionth too large"),
    Fault("one element", "the gradient of x is wrong by a tenth in its last element"),
    Fault("a block's end", "the last column of each row is not centred"),
    Fault("where γ is 0", "the gradient of γ is divided by γ, and 0 where γ is"),
    Fault("second order", "the first order is right, and γ is held constant in it"),
    Fault("strided cotangent", "a cotangent is read as it lies in memory, whatever its strides", "memory"),
    Fault("stale residual", "the standard deviation of the first call is kept for later ones", "memory"),
    Fault("float32 alone", "in float32, the gradient of x passes through half precision"),
    Fault("sevenfold", "the gradient of x is seven times too large; its mean, 0, does not show it"),
    Fault("hidden by a sum", "the variance is held constant, and the function checked is the sum of y, of gradient 0"),
    Fault("other bits each time", "the gradient of x changes by 1e-12 from run to run", "memory"),
)
NAMES = tuple(f.name for f in FAULTS)
#: The fault for which the function that is checked is another: the sum of y.
SUMMED = "hidden by a sum"


def forward(lib: Words, x: Any, gamma: Any, beta: Any) -> Any:
    """y and, in the last column, the unbiased variance."""
    centred, var, rstd = _standard(lib, x)
    return lib.beside(centred * rstd * gamma + beta, var)


class Gradient:
    """The gradient of `forward`, with one fault in it, or None. Called with a library's words and the cotangent."""

    def __init__(self, fault: str | None, seed: int = 0):
        self.fault = fault
        self._kept: dict[Any, np.ndarray] = {}
        self._rng = np.random.default_rng((seed, 9))

    def __call__(self, lib: Words, ct: Any, x: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
        fault, n = self.fault, x.shape[1]
        centred, _, rstd = _standard(lib, x)
        if fault == "stale residual":
            now = lib.value(rstd)
            rstd = rstd + lib.constant(self._kept.setdefault((now.dtype, now.shape), np.array(now)) - now, x)
        if fault == "strided cotangent":
            now = lib.value(ct)
            ct = ct + lib.constant(now.ravel("K").reshape(now.shape) - now, x)
        dy, dvar = ct[:, :-1], ct[:, -1:]
        h = dy * (lib.detach(gamma) if fault == "second order" else gamma)
        inner = lib.sum(h * centred, axis=1, keepdims=True) * rstd * rstd * rstd * -0.5
        if fault in ("dropped term", SUMMED):
            inner = inner * 0
        slope = inner if fault == "missing cotangent" else inner + dvar
        dc = h * rstd + slope * centred * (2 / (n if fault == "biased for unbiased" else n - 1))
        mean = lib.sum(dc, axis=1, keepdims=True) / n
        last = np.zeros(x.shape)
        last[:, -1] = 1
        dx = dc - (mean * lib.constant(1 - last, x) if fault == "a block's end" else mean)
        dx = self._spoiled(lib, dx, x, last)
        dgamma = lib.sum(dy * centred * rstd, axis=0, keepdims=False)
        if fault == "wrong sign":
            dgamma = -dgamma
        if fault == "where γ is 0":
            dgamma = dgamma * (gamma * gamma / (gamma * gamma + 1e-30))
        return dx, dgamma, lib.sum(dy, axis=0, keepdims=False)

    def _spoiled(self, lib: Words, dx: Any, x: Any, last: np.ndarray) -> Any:
        factors = {"factor 1 + 1e-3": 1 + 1e-3, "factor 1 + 1e-6": 1 + 1e-6, "sevenfold": 7.0}
        if self.fault in factors:
            return dx * factors[self.fault]
        if self.fault == "one element":
            last[:-1] = 0
            return dx * lib.constant(1 + 0.1 * last, x)
        if self.fault == "other bits each time":
            return dx * lib.constant(1 + 1e-12 * self._rng.standard_normal(x.shape), x)
        if self.fault == "float32 alone" and "float32" in str(dx.dtype):
            now = lib.value(lib.detach(dx))
            return dx + lib.constant(now.astype(np.float16).astype(np.float32) - now, x)
        return dx


def arguments(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, γ with a 0 in it, β."""
    rng = np.random.default_rng((seed, 10))
    x, gamma, beta = rng.standard_normal((4, 6)), rng.standard_normal(6), rng.standard_normal(6)
    gamma[rng.integers(6)] = 0
    return x, gamma, beta


def _standard(lib: Words, x: Any) -> tuple[Any, Any, Any]:
    n = x.shape[1]
    centred = x - lib.sum(x, axis=1, keepdims=True) / n
    var = lib.sum(centred * centred, axis=1, keepdims=True) / (n - 1)
    return centred, var, 1 / lib.sqrt(var + _EPSILON)
