"""minigrad: a small autograd engine with compiled kernels that trains real networks with NumPy and Numba alone."""

from minigrad import (
    autodiff,
    axes,
    checkpoint,
    data,
    devices,
    dialects,
    dtypes,
    errors,
    gradcheck,
    nn,
    ops,
    optim,
    plugins,
    primitive,
    random,
    scalar,
    tape,
    testing,
    training,
)
from minigrad.autodiff import grad, hvp, jvp, value_and_grad, vjp
from minigrad.checkpoint import load, save
from minigrad.elementwise import Elementwise, elementwise
from minigrad.jit import jit
from minigrad.ops import *  # noqa: F403
from minigrad.ops import __all__ as _functions
from minigrad.ops import methods as _methods  # noqa: F401  (gives Tensor its operators)
from minigrad.primitive import Abstract, Invariance, Primitive, Sample, on_device
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, Variable, as_tensor, from_dlpack, tensor

__version__ = "0.1.0"

__all__ = [
    *_functions,
    "Abstract",
    "Elementwise",
    "Invariance",
    "Primitive",
    "Sample",
    "Tensor",
    "Variable",
    "as_tensor",
    "autodiff",
    "axes",
    "checkpoint",
    "data",
    "devices",
    "dialects",
    "dtypes",
    "elementwise",
    "errors",
    "from_dlpack",
    "grad",
    "gradcheck",
    "hvp",
    "jit",
    "jvp",
    "load",
    "nn",
    "no_grad",
    "on_device",
    "ops",
    "optim",
    "plugins",
    "primitive",
    "random",
    "save",
    "scalar",
    "tape",
    "tensor",
    "testing",
    "training",
    "value_and_grad",
    "vjp",
]
