"""Native segments: a run of calls of compiled kernels that Python enters once.

Called from Python, a compiled kernel spends more time on taking ten arrays apart than on a hundred elements. Under
`jit` the arrays stay where they are, so what a kernel is called with is packed beforehand: addresses, lengths and
numbers in words of 64 bits. For each signature there is a thunk, machine code that unpacks such a block and makes the
call of one chunk by Numba's own convention; a loop in machine code goes from block to block, and has threads share the
chunks of large ones. The kernels' code is used as it is, which keeps every bit, and what has to be compiled depends
neither on how many calls there are nor on what the kernels do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigrad.devices import cpu, threads
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.exchange import Exchange, address

Word = tuple[int, np.ndarray | None]  # a word that a thunk reads, and the array whose address it is
_numbers = itertools.count()
_thunks: dict[Any, tuple[int, Any]] = {}  # by signature: the address, and the library that it is in


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
        records = [_record(call) for call in self.calls]
        words: list[int] = []
        begins = []
        self.places: list[tuple[int, int, int]] = []
        for call, record in zip(self.calls, records):
            begins.append(8 * len(words))
            for word, a in _packed(call, record):
                found = self._exchange.find(a)
                if found is not None:
                    self.places.append((len(words), *found))
                words.append(word)
        blocks = np.array(words, np.int64)
        self.words = blocks.data
        thunks = _thunks_of([record.signature for record in records])
        rows = [
            (thunk, address(blocks) + begin, call.chunks, _is_large(call))
            for thunk, begin, call in zip(thunks, begins, self.calls)
        ]
        self._table = np.array(rows, np.int64).reshape(-1, 4)
        self._run = _run.entry_for((threads.WORDS, self._table, False))
        self.entry: Callable[[], int] = partial(self._run, threads.WORDS, self._table, False)
        if any(map(_is_large, self.calls)):
            self.entry = self._in_parallel

    def __call__(self) -> None:
        failed = self.entry()
        if failed:
            self.fail(failed)

    def _in_parallel(self) -> int:
        """`entry` with chunks shared out among threads where there are many."""
        if not threads.enter():
            return self._run(threads.WORDS, self._table, False)
        try:
            return self._run(threads.WORDS, self._table, True)
        finally:
            threads.leave()

    def fail(self, number: int, now: Sequence[np.ndarray] = ()) -> None:
        """Make a call that failed again from Python, which raises its error; `now` are the exchanged arrays.

        A kernel may fail to be called so, and do there what compiled code can't. Then the rest follows.
        """
        while number:
            call = self.calls[number - 1]
            call.kernel(call.chunks, call.work, *[self._exchange.present(a, now) for a in call.args])
            failed = self._run(threads.WORDS, self._table[number:], False)
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


def _record(call: Compiled) -> Any:
    """Numba's record of the machine code for a call."""
    return call.kernel.body.overload((0, *call.args))


# What a segment's Python calls


def _run_calls(words, table, shared):
    """Make the calls of a table; returns 0, or the number of the one that failed."""
    for row in range(table.shape[0]):
        thunk, block, chunks, is_large = table[row, 0], table[row, 1], table[row, 2], table[row, 3]
        if shared and is_large:
            if share(words, thunk, block, chunks):
                return row + 1
        else:
            for chunk in range(chunks):
                if run_task(thunk, 0, 0, block, chunk):
                    return row + 1
    return 0


share, run_task = threads.share, threads.run_task
_run = cpu.Function(_run_calls, called=True)


# Blocks: the address of the kernel, then the words of each argument


def _packed(call: Compiled, record: Any) -> list[Word]:
    """The words of a call."""
    code = record.library.get_pointer_to_function(record.fndesc.llvm_func_name)
    words: list[Word] = [(code, None)]
    for kind, value in zip(record.signature.args[1:], call.args):
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
        self._builder = builder
        self._block = block
        self._at = 0

    def word(self) -> Any:
        from llvmlite import ir

        place = self._builder.gep(self._block, [ir.Constant(ir.IntType(64), self._at)])
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


# Thunks, which are tasks as `threads` has them: the context is the block


def _thunks_of(signatures: Sequence[Any]) -> list[int]:
    """The addresses of the thunks for kernels of these signatures."""
    missing = [s for s in dict.fromkeys(signatures) if s not in _thunks]
    if missing:
        _compile_thunks(missing)
    return [_thunks[s][0] for s in signatures]


def _compile_thunks(signatures: Sequence[Any]) -> None:
    """Make thunks, all in one module."""
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    with global_compiler_lock:
        context = cpu_target.target_context
        library = context.codegen().create_library(f"minigrad_native_{next(_numbers)}")
        module = library.create_ir_module(library.name)
        names = [f"{module.name}_{i}" for i in range(len(signatures))]
        for name, signature in zip(names, signatures):
            _emit_thunk(context, module, name, signature)
        library.add_ir_module(module)
        library.finalize()
        for name, signature in zip(names, signatures):
            _thunks[signature] = library.get_pointer_to_function(name), library


def _emit_thunk(context: Any, module: Any, name: str, signature: Any) -> None:
    """Code that has a kernel do one chunk; returns 1 if it fails."""
    from llvmlite import ir
    from numba.core import cgutils, types

    kind = context.call_conv.get_function_type(types.none, (types.int64, types.int64))
    function = ir.Function(module, kind, name=name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    block, chunk = function.args[2:]
    reader = _Reader(builder, builder.inttoptr(block, ir.IntType(64).as_pointer()))
    convention = context.call_conv
    kernel = reader.number(convention.get_function_type(signature.return_type, signature.args).as_pointer())
    values = [_argument(context, builder, reader, kind) for kind in signature.args[1:]]
    status, _ = convention.call_function(builder, kernel, signature.return_type, signature.args, [chunk, *values])
    with cgutils.if_unlikely(builder, status.is_error):
        builder.ret(ir.Constant(ir.IntType(32), 1))
    builder.ret(ir.Constant(ir.IntType(32), 0))


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
