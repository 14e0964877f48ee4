"""float16 and bfloat16 for Numba: 16 bits in memory and float32 in registers. Imported when kernels are compiled.

Numba keeps apart how a type's values are represented and how they lie in memory. The two types here have values of
float32: what is loaded is widened, what is stored is rounded, once and to nearest even, and everything between happens
in float32, on every GPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.core.typeconv import Conversion
from numba.cuda import extending
from numba.cuda.datamodel.models import ArrayModel, DataModel
from numba.cuda.np.numpy_support import from_dtype

from minigrad import dtypes

types: Any = numba_types  # which has most of its names from other modules
register_model: Any = vars(extending)["register_model"]
lower_cast: Any = vars(extending)["lower_cast"]
_BITS, _WORD, _LONG = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()


class Stored(types.Number):
    """The type of elements whose arithmetic is float32's.

    To Numba's type inference it is to float32 what a literal is to the type of its value: where there is no rule for
    the one, that for the other is taken.
    """

    def __unliteral__(self) -> Any:
        return types.float32

    def can_convert_to(self, context: Any, other: Any) -> Any:
        if other == types.float32:
            return Conversion.promote
        if other == types.float64:
            return Conversion.safe
        return Conversion.unsafe if isinstance(other, (types.Number, types.Boolean)) else None

    def can_convert_from(self, context: Any, other: Any) -> Any:
        return Conversion.unsafe if isinstance(other, (types.Number, types.Boolean)) else None


class StoredFloat16(Stored):
    def __init__(self) -> None:
        super().__init__(name="StoredFloat16")


class StoredBFloat16(Stored):
    def __init__(self) -> None:
        super().__init__(name="StoredBFloat16")


class _Model(DataModel):
    """A float, but for how it lies in memory.

    Neighbours that are moved at once are so by pairs in words of 32 bits: compilers cut vectors of eight 16-bit numbers
    into two accesses.
    """

    def get_value_type(self) -> Any:
        return _FLOAT

    get_argument_type = get_return_type = get_value_type

    def get_data_type(self) -> Any:
        return _BITS

    def as_argument(self, builder: Any, value: Any) -> Any:
        return value

    as_return = from_argument = from_return = as_argument


@register_model(StoredFloat16)
class _Float16Model(_Model):
    def from_data(self, builder: Any, value: Any) -> Any:
        return builder.fpext(builder.bitcast(value, ir.HalfType()), _FLOAT)

    def as_data(self, builder: Any, value: Any) -> Any:
        return builder.bitcast(builder.fptrunc(value, ir.HalfType()), _BITS)

    def from_pair(self, builder: Any, word: Any) -> tuple[Any, Any]:
        """The values of two neighbours."""
        low, high = builder.trunc(word, _BITS), builder.trunc(builder.lshr(word, _WORD(16)), _BITS)
        return self.from_data(builder, low), self.from_data(builder, high)

    def as_pair(self, builder: Any, low: Any, high: Any) -> Any:
        """The word of two neighbours."""
        low, high = (builder.zext(self.as_data(builder, v), _WORD) for v in (low, high))
        return builder.or_(low, builder.shl(high, _WORD(16)))


@register_model(StoredBFloat16)
class _BFloat16Model(_Model):
    """By arithmetic on bits: instructions for it came with sm_80, and with sm_90."""

    def from_data(self, builder: Any, value: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(value, _WORD), _WORD(16)), _FLOAT)

    def as_data(self, builder: Any, value: Any) -> Any:
        return builder.trunc(builder.lshr(self._rounded(builder, value), _WORD(16)), _BITS)

    def from_pair(self, builder: Any, word: Any) -> tuple[Any, Any]:
        low, high = builder.shl(word, _WORD(16)), builder.and_(word, _WORD(0xFFFF0000))
        return builder.bitcast(low, _FLOAT), builder.bitcast(high, _FLOAT)

    def as_pair(self, builder: Any, low: Any, high: Any) -> Any:
        low, high = (self._rounded(builder, v) for v in (low, high))
        return builder.or_(builder.lshr(low, _WORD(16)), builder.and_(high, _WORD(0xFFFF0000)))

    def _rounded(self, builder: Any, value: Any) -> Any:
        """A word whose upper half is the number."""
        bits = builder.bitcast(value, _WORD)
        tie = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))  # what lies half way goes to the even one
        rounded = builder.add(bits, builder.add(tie, _WORD(0x7FFF)))
        quiet = builder.or_(bits, _WORD(0x400000))  # of NaN, whose lower bits might be all that it is NaN by
        return builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)


@lower_cast(Stored, types.Float)
@lower_cast(Stored, types.Integer)
@lower_cast(Stored, types.Boolean)
def _widened(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return context.cast(builder, value, types.float32, target)


@lower_cast(Stored, Stored)
@lower_cast(types.Float, Stored)
@lower_cast(types.Integer, Stored)
@lower_cast(types.Boolean, Stored)
def _narrowed(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    if isinstance(source, Stored) or source == types.float32:
        return value
    return _to_odd(builder, context.cast(builder, value, source, types.float64))


def _to_odd(builder: Any, value: Any) -> Any:
    """A double as a float that is rounded to odd: cut off, with the last bit set where anything was.

    Rounded again when it is stored, it gives what one rounding of the double gives.
    """
    near = builder.fptrunc(value, _FLOAT)
    back = builder.fpext(near, _DOUBLE)
    magnitude = _LONG(2**63 - 1)
    sizes = [builder.and_(builder.bitcast(v, _LONG), magnitude) for v in (back, value)]
    too_far = builder.zext(builder.icmp_unsigned(">", *sizes), _WORD)
    rest = builder.zext(builder.fcmp_unordered("une", back, value), _WORD)
    bits = builder.or_(builder.sub(builder.bitcast(near, _WORD), too_far), rest)
    return builder.bitcast(bits, _FLOAT)


class StoredArray(types.Array):
    """Flat arrays of a half type."""

    def __init__(self, element: Stored):
        super().__init__(types.float32, 1, "C", name=f"StoredArray({element.name})")
        self.dtype = element  # `Array` itself would take what an element stands for


register_model(StoredArray)(ArrayModel)


@cache
def flat_array(dtype: np.dtype) -> Any:
    """Numba's type of the flat arrays that kernels take."""
    if not dtypes.is_half(dtype):
        return types.Array(from_dtype(dtype), 1, "C")
    return StoredArray(StoredBFloat16() if dtypes.is_bfloat16(dtype) else StoredFloat16())
