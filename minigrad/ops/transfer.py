"""Moves of tensors between devices."""

from __future__ import annotations

import numpy as np

from minigrad.devices import cuda
from minigrad.primitive import Primitive, Sample
from minigrad.tensor import Tensor

transfer_p = Primitive("mg::transfer", moves=True)


@transfer_p.infer
def _(x, *, device, source):
    cuda.index_of(device)
    return x


@transfer_p.kernel("reference", "cpu", "cuda")
def _(x, *, device, source):
    target = cuda.index_of(device)
    return x.copy() if isinstance(x, np.ndarray) and target is None else cuda.copied(x, target)


@transfer_p.vjp()
def _(ct, saved, needs, *, device, source):
    return transfer_p(ct, device=source, source=device)


@transfer_p.jvp
def _(tangents, primals, outputs, *, device, source):
    return transfer_p(tangents[0], device=device, source=source)


@transfer_p.samples
def _(rng):
    for shape in [(2, 3), (), (0, 2)]:
        yield Sample((rng.standard_normal(shape),), {"device": "cpu", "source": "cpu"})


def transfer(x: Tensor, device: str) -> Tensor:
    """x on a device, differentiable; `Tensor.to` as a function."""
    return transfer_p(x, device=device, source=x.device)
