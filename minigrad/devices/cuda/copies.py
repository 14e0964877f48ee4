"""Copies and fills of any dtype, casts included, between arrays of any strides."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import dtypes, scalar
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.loops import Loop

_copy = Loop(scalar.variable("x"), ("x",))


def copy_into(out: DeviceArray, x: DeviceArray) -> None:
    """Write x, which broadcasts, to out, cast to its dtype."""
    _copy(out, x)


def fill(out: DeviceArray, value: Any) -> None:
    """Write one number to every element."""
    from minigrad.devices.cuda import constant

    number = dtypes.rounded(np.array(value), out.dtype).item()
    _copy(out, constant(number, out.dtype, out.lease.stream.device))
