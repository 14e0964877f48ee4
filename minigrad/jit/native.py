"""Native segments: a run of calls of compiled kernels that Python enters once.

Called from Python, a compiled kernel spends more time on taking ten arrays apart than on a hundred elements. Under
`jit` the arrays stay where they are, so what a kernel is called with is packed beforehand: addresses, lengths and
numbers in words of 64 bits. For each kernel there is a thunk, machine code that unpacks such a block and makes the
call by Numba's own convention; a loop in machine code goes from block to block. The kernels' code is used as it is,
which keeps every bit, and what has to be compiled does not depend on how many calls there are.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from minigrad.devices import cpu, threads
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.exchange import Exchange, address

Word = tuple[int, np.ndarray | None]  # a word that a thunk reads, and the array whose address it is
_numbers = itertools.count()
_thunks: dict[_Kept, tuple[int, Any]] = {}  # of kernels: the address, and the library that it is in


class Segment:
    """Compiled calls, one after another. Called, it runs them and raises what one of them raises.

    Attributes:
        calls: what it runs.
        entry: the same without a check: returns 0, or the number of the call that failed.
        words: what the calls read, for exchanged arrays to be put into.
        places: for each word that is such an address, its index, the array's number and how many bytes on.
    """

    def __init__(self, calls: Sequence[Compiled], exchange: Exchange | None = None):
        self.calls = tuple(calls)
        self._exchange = exchange or Exchange()
        targets = [_target(call) for call in self.calls]
        words: list[int] = []
        begins = []
        self.places: list[tuple[int, int, int]] = []
        for call, target in zip(self.calls, targets):
            begins.append(8 * len(words))
            for word, a in _packed(call, target):
                found = self._exchange.find(a)
                if found is not None:
                    self.places.append((len(words), *found))
                words.append(word)
        blocks = np.array(words, np.int64)
        self.words = blocks.data
        self._blocks = [address(blocks) + begin for begin in begins]
        self._run = _runner()
        self._serial = self._table(targets)
        self._parallel: np.ndarray | None = None  # made when it is first needed, which may be never
        self.entry: Callable[[], int] = partial(self._run, address(self._serial), len(self.calls))
        if any(map(_is_large, self.calls)):
            self.entry = self._in_parallel

    def __call__(self) -> None:
        failed = self.entry()
        if failed:
            self.fail(failed)

    def _in_parallel(self) -> int:
        """`entry` with parallel forms where they may run."""
        if not threads.enter():
            return self._run(address(self._serial), len(self.calls))
        try:
            if self._parallel is None:
                self._parallel = self._table([_target(call, _is_large(call)) for call in self.calls])
            return self._run(address(self._parallel), len(self.calls))
        finally:
            threads.leave()

    def _table(self, targets: Sequence[_Kept]) -> np.ndarray:
        """What the runner reads: for each call the address of its thunk and of its block."""
        _compile_thunks(targets)
        return np.array([(_thunks[target][0], block) for target, block in zip(targets, self._blocks)], np.int64)

    def fail(self, number: int, now: Sequence[np.ndarray] = ()) -> None:
        """Make a call that failed again from Python, which raises its error; `now` are the exchanged arrays.

        A kernel may fail to be called so, and do there what compiled code can't. Then the rest follows.
        """
        while number:
            call = self.calls[number - 1]
            call.kernel(call.chunks, call.work, *[self._exchange.present(a, now) for a in call.args])
            failed = self._run(address(self._serial[number:]), len(self.calls) - number)
            number = number + failed if failed else 0


def native_of(step: Step) -> Compiled | None:
    """A step in the form in which it can be part of a segment; None if Python has to make it."""
    return step if isinstance(step, Compiled) and _is_plain(step) else None


def _is_large(call: Compiled) -> bool:
    """Whether there is work enough for the kernel's parallel form."""
    return call.chunks > 1 and call.work >= cpu.PARALLEL_WORK


def _is_plain(call: Compiled) -> bool:
    """Whether its arguments are arrays and real numbers, and its kernel is compiled at all."""
    if not hasattr(call.kernel.body.compiled(), "overloads"):  # Numba is switched off
        return False
    kinds = (type(None), bool, int, float, np.bool_, np.integer, np.float32, np.float64, np.ndarray)
    return all(isinstance(a, kinds) for a in call.args)


def _target(call: Compiled, parallel: bool = False) -> _Kept:
    """What a thunk is made for: Numba's record of the machine code for these arguments."""
    return _Kept(call.kernel.body.overload((0, *call.args)), parallel)


class _Kept:
    """Numba's record of a kernel, equal to nothing but another look at the same one.

    Attributes:
        record: of one chunk's work.
        parallel: whether chunks are shared out among threads.
    """

    __slots__ = ("parallel", "record")

    def __init__(self, record: Any, parallel: bool):
        self.record = record
        self.parallel = parallel

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Kept):
            return False
        return self.record.library is other.record.library and self.parallel == other.parallel

    def __hash__(self) -> int:
        return id(self.record.library)


# Blocks: the number of chunks, then the words of each argument


def _packed(call: Compiled, target: _Kept) -> list[Word]:
    """The words of a call."""
    words: list[Word] = [(call.chunks, None)]
    for kind, value in zip(target.record.fndesc.argtypes[1:], call.args):
        if isinstance(value, np.ndarray):
            start, *rest = _words_of(value)
            words += [(start, value), *[(n, None) for n in rest]]
        elif value is not None:
            words.append((_word(kind, value), None))
    return words


def _words_of(a: np.ndarray) -> list[int]:
    """The words of an array."""
    return [address(a), a.size, *a.shape, *a.strides]


def _word(kind: Any, value: Any) -> int:
    """A number as the bits that it has in its type."""
    from numba.core import types

    if kind == types.float64:
        return int(np.float64(value).view(np.int64))
    if kind == types.float32:
        return int(np.float32(value).view(np.int32))
    value = int(value)
    return value - (1 << 64) if value >= 1 << 63 else value


class _Reader:
    """Takes words from a block, in machine code."""

    def __init__(self, builder: Any, block: Any):
        self.block = block
        self._builder = builder
        self._at = 0

    def word(self) -> Any:
        from llvmlite import ir

        place = self._builder.gep(self.block, [ir.Constant(ir.IntType(64), self._at)])
        self._at += 1
        return self._builder.load(place)

    def number(self, kind: Any) -> Any:
        """A word as a value of an LLVM type."""
        from llvmlite import ir

        word, builder = self.word(), self._builder
        if isinstance(kind, ir.DoubleType):
            return builder.bitcast(word, kind)
        if isinstance(kind, ir.FloatType):
            return builder.bitcast(builder.trunc(word, ir.IntType(32)), kind)
        if isinstance(kind, ir.PointerType):
            return builder.inttoptr(word, kind)
        return word if kind.width == 64 else builder.trunc(word, kind)


class _Constants(_Reader):
    """Takes words that are known when the code is made."""

    def __init__(self, builder: Any, words: Sequence[int]):
        super().__init__(builder, None)
        self._words = words

    def word(self) -> Any:
        from llvmlite import ir

        self._at += 1
        return ir.Constant(ir.IntType(64), self._words[self._at - 1])


# Thunks


def _compile_thunks(targets: Sequence[_Kept]) -> None:
    """Make those that are not there yet, all in one module."""
    missing = [t for t in dict.fromkeys(targets) if t not in _thunks]
    if not missing:
        return
    from llvmlite import ir
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        module, library = _new_module()
        word = ir.IntType(32)
        kind = ir.FunctionType(word, [ir.IntType(64).as_pointer()])
        for i, target in enumerate(missing):
            function = ir.Function(module, kind, name=f"{module.name}_{i}")
            builder = ir.IRBuilder(function.append_basic_block("entry"))
            _emit(builder, _Reader(builder, function.args[0]), target)
            builder.ret(ir.Constant(word, 0))
        library.add_ir_module(module)
        library.finalize()
        for i, target in enumerate(missing):
            _thunks[target] = library.get_pointer_to_function(f"{module.name}_{i}"), library


def _emit(builder: Any, reader: _Reader, target: _Kept) -> None:
    """Code that has the kernel do all chunks; returns 1 if it fails."""
    from numba.core import cgutils

    chunks = reader.word()
    if target.parallel:
        _emit_shared(builder, reader.block, chunks, target.record)
        return
    values = _arguments(builder, reader, target.record)
    with cgutils.for_range(builder, chunks) as loop:
        _emit_chunk(builder, target.record, loop.index, values)


def _emit_shared(builder: Any, block: Any, chunks: Any, record: Any) -> None:
    """Code that has chunks shared out: a task whose context is the block."""
    from llvmlite import ir
    from numba.core import cgutils, types

    context, word = record.target_context, ir.IntType(64)
    kind = context.call_conv.get_function_type(types.none, (types.int64, types.int64))
    task = ir.Function(builder.module, kind, name=f"{builder.function.name}_task")
    inner = ir.IRBuilder(task.append_basic_block("entry"))
    start, chunk = task.args[2:]
    reader = _Reader(inner, inner.inttoptr(start, word.as_pointer()))
    reader.word()
    _emit_chunk(inner, record, chunk, _arguments(inner, reader, record))
    inner.ret(ir.Constant(ir.IntType(32), 0))
    share = _share()
    words = _argument(context, builder, _Constants(builder, _words_of(threads.WORDS)), types.int64[::1])
    given = [words, builder.ptrtoint(task, word), builder.ptrtoint(block, word), chunks]
    _, failed = context.call_conv.call_function(
        builder, _entry(builder, share), share.fndesc.restype, share.fndesc.argtypes, given
    )
    with cgutils.if_unlikely(builder, builder.icmp_signed("!=", failed, ir.Constant(word, 0))):
        builder.ret(ir.Constant(ir.IntType(32), 1))


def _emit_chunk(builder: Any, record: Any, chunk: Any, values: list) -> None:
    """A call of the kernel on one chunk; a failure ends the function with 1."""
    from llvmlite import ir
    from numba.core import cgutils

    restype, argtypes = record.fndesc.restype, record.fndesc.argtypes
    convention = record.target_context.call_conv
    status, _ = convention.call_function(builder, _entry(builder, record), restype, argtypes, [chunk, *values])
    with cgutils.if_unlikely(builder, status.is_error):
        builder.ret(ir.Constant(ir.IntType(32), 1))


def _entry(builder: Any, record: Any) -> Any:
    """The machine code of a function that Numba has compiled, by its address."""
    from llvmlite import ir

    description = record.fndesc
    kind = record.target_context.call_conv.get_function_type(description.restype, description.argtypes)
    address = record.library.get_pointer_to_function(description.llvm_func_name)
    return builder.inttoptr(ir.Constant(ir.IntType(64), address), kind.as_pointer())


@lru_cache(maxsize=1)
def _share() -> Any:
    """Numba's record of `threads.share`."""
    from numba import types

    dispatcher: Any = threads.share.compiled()
    signature = (types.int64[::1], types.int64, types.int64, types.int64)
    dispatcher.compile(signature)
    return dispatcher.overloads[signature]


def _arguments(builder: Any, reader: _Reader, record: Any) -> list:
    """The values of all arguments but the first, the chunk."""
    return [_argument(record.target_context, builder, reader, t) for t in record.fndesc.argtypes[1:]]


def _argument(context: Any, builder: Any, reader: _Reader, kind: Any) -> Any:
    """A value of a Numba type, read from the block."""
    from llvmlite import ir
    from numba.core import types

    if kind == types.none:
        return context.get_dummy_value()
    if not isinstance(kind, types.Array):
        return reader.number(context.get_value_type(kind))
    model = context.data_model_manager[kind]  # Numba knows the order of an array's members
    made = {name: context.get_value_type(model.get_type(name)) for name in model._fields}
    found: dict[str, Any] = {"data": reader.number(made["data"]), "nitems": reader.word()}
    for name in ("shape", "strides"):
        found[name] = ir.Constant(made[name], ir.Undefined)
        for axis in range(kind.ndim):
            found[name] = builder.insert_value(found[name], reader.word(), axis)
    found["itemsize"] = ir.Constant(made["itemsize"], np.dtype(str(kind.dtype)).itemsize)
    array = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for i, name in enumerate(model._fields):
        member = found.get(name)
        array = builder.insert_value(array, ir.Constant(made[name], None) if member is None else member, i)
    return array


@lru_cache(maxsize=1)
def _runner() -> Callable:
    """The loop over a table of thunks and blocks: returns 0, or the number of the row that failed."""
    from llvmlite import ir
    from numba.core import cgutils
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        module, library = _new_module()
        word, long = ir.IntType(32), ir.IntType(64)
        function = ir.Function(module, ir.FunctionType(word, [long.as_pointer(), long]), name=module.name)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        thunk = ir.FunctionType(word, [long.as_pointer()]).as_pointer()
        with cgutils.for_range(builder, function.args[1]) as loop:
            row = builder.gep(function.args[0], [builder.shl(loop.index, ir.Constant(long, 1))])
            target = builder.inttoptr(builder.load(row), thunk)
            block = builder.load(builder.gep(row, [ir.Constant(long, 1)]))
            failed = builder.call(target, [builder.inttoptr(block, long.as_pointer())])
            with cgutils.if_unlikely(builder, builder.icmp_signed("!=", failed, ir.Constant(word, 0))):
                builder.ret(builder.trunc(builder.add(loop.index, ir.Constant(long, 1)), word))
        builder.ret(ir.Constant(word, 0))
        library.add_ir_module(module)
        library.finalize()
        entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)(
            library.get_pointer_to_function(module.name)
        )
    entry.library = library  # type: ignore[attr-defined]  # the code lives as long as this does
    return entry


def _new_module() -> tuple[Any, Any]:
    from numba.core.registry import cpu_target

    library = cpu_target.target_context.codegen().create_library(f"minigrad_native_{next(_numbers)}")
    return library.create_ir_module(library.name), library
