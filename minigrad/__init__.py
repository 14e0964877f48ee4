"""minigrad: a small autograd engine with compiled kernels."""

from minigrad import _blas  # noqa: I001  (before anything that loads NumPy)

from minigrad import axes, dtypes, errors, gradcheck, nn, ops, optim, plugins, random, scalar, training
from minigrad.autodiff import grad, hvp, jvp, value_and_grad, vjp
from minigrad.checkpoint import load, save
from minigrad.elementwise import elementwise
from minigrad.ops import *  # noqa: F403
from minigrad.ops import methods as _methods
from minigrad.primitive import Abstract, Primitive, Sample, on_device
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, Variable, as_tensor, tensor
