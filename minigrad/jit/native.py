"""Native segments: a run of calls of compiled kernels that Python enters once.

Called from Python, a compiled kernel spends more time on taking ten arrays apart than on a hundred elements. Under
`jit` the arrays stay where they are, so what a kernel is called with is packed beforehand: addresses, lengths and
numbers in words of 64 bits. A thunk, machine code, reads such a block and makes the call of one chunk by Numba's own
convention; all kernels that take so many words share one. A loop in machine code goes from block to block, and has
threads share the chunks of large ones. The kernels' code is used as it is, which keeps every bit, and what has to be
compiled depends neither on how many calls there are nor on what the kernels do.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigrad.devices import cpu, threads
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.exchange import Exchange, address

_OWNERS = ("meminfo", "parent")  # members of an array, for Numba
Word = tuple[int, np.ndarray | None]  # a word that a thunk reads, and the array whose address it is
_numbers = itertools.count()
_thunks: dict[Any, tuple[int, Any]] = {}  # by what kernels are called with: the address, and the library that it is in


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
        records = [_record(part) for call in self.calls for part in call.parts]
        words = array("q")
        begins = []
        self.places: list[tuple[int, int, int]] = []
        self._links: list[np.ndarray] = []  # the blocks of calls of several parts
        for part, record in zip([part for call in self.calls for part in call.parts], records):
            begins.append(8 * len(words))
            for word, a in _packed(part, record):
                found = self._exchange.find(a)
                if found is not None:
                    self.places.append((len(words), *found))
                words.append(word)
        blocks = np.array(words)
        self.words = blocks.data
        thunks = _thunks_of([_flat(record) for record in records])
        tasks = iter([(thunk, address(blocks) + begin) for thunk, begin in zip(thunks, begins)])
        rows = [self._row(call, [next(tasks) for _ in call.parts]) for call in self.calls]
        self._table = np.array(rows, np.int64).reshape(-1, 4)
        self._run = _run.entry_for((threads.WORDS, self._table, False))
        self.entry: Callable[[], int] = partial(self._run, threads.WORDS, self._table, False)
        if any(map(_is_large, self.calls)):
            self.entry = self._in_parallel

    def __call__(self) -> None:
        failed = self.entry()
        if failed:
            self.fail(failed)

    def _row(self, call: Compiled, tasks: Sequence[tuple[int, int]]) -> tuple[int, int, int, bool]:
        """The row of the table for a call whose parts are these thunks with their blocks."""
        if len(tasks) > 1:
            self._links.append(np.array(tasks, np.int64))
            tasks = [(_thunks_of([len(tasks)])[0], address(self._links[-1]))]
        return *tasks[0], call.chunks, _is_large(call)

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
            failing = self.calls[number - 1]
            for call in [part for made in failing.again or (failing,) for part in made.parts]:
                call.kernel(call.chunks, call.work, *[self._exchange.present(a, now) for a in call.args])
            failed = self._run(threads.WORDS, self._table[number:], False)
            number = number + failed if failed else 0


def native_of(step: Step) -> Compiled | None:
    """A step in the form in which it can be part of a segment; None if Python has to make it."""
    return step if isinstance(step, Compiled) and _is_plain(step) else None


def _is_large(call: Compiled) -> bool:
    """Whether there is work enough for the kernel's parallel form."""
    return call.chunks > 1 and sum(part.work for part in call.parts) >= cpu.PARALLEL_WORK


def _is_plain(call: Compiled) -> bool:
    """Whether its arguments are arrays and real numbers, and its kernel is compiled at all."""
    if call.then:
        return all(map(_is_plain, (call._replace(then=()), *call.then)))
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
    room = words.ctypes.data + 8 * ROOM
    for row in range(table.shape[0]):
        thunk, block, chunks, is_large = table[row, 0], table[row, 1], table[row, 2], table[row, 3]
        if shared and is_large:
            if share(words, thunk, block, chunks):
                return row + 1
        else:
            for chunk in range(chunks):
                if run_task(thunk, room, room, block, chunk):
                    return row + 1
    return 0


share, run_task, ROOM = threads.share, threads.run_task, threads.ROOM
_run = cpu.Function(_run_calls, called=True)


# Blocks: the address of the kernel, then the words of each argument


def _packed(call: Compiled, record: Any) -> list[Word]:
    """The words of a call: Numba takes an array apart into its members, in an order that it knows."""
    words: list[Word] = [(record.library.get_pointer_to_function(record.fndesc.llvm_func_name), None)]
    for kind, value in zip(record.signature.args[1:], call.args):
        if isinstance(value, np.ndarray):
            members = {"nitems": [value.size], "itemsize": [value.itemsize], "shape": value.shape}
            members["strides"] = value.strides
            for name in [n for n in record.target_context.data_model_manager[kind]._fields if n not in _OWNERS]:
                words += [(address(value), value)] if name == "data" else [(n, None) for n in members.get(name, (0,))]
        else:
            words.append((0 if value is None else _word(kind, value), None))
    return words


def _word(kind: Any, value: Any) -> int:
    """A number as the bits that it has in its type."""
    from numba.core import types

    if kind == types.float64:
        return int(np.float64(value).view(np.int64))
    if kind == types.float32:
        return int(np.float32(value).view(np.int32))
    value = int(value)
    return value - (1 << 64) if value >= 1 << 63 else value


# Thunks, which are tasks as `threads` has them: the context is the block


def _thunks_of(kinds: Sequence[Any]) -> list[int]:
    """The addresses of the thunks for kernels that are called with these types, or of so many thunks in turn."""
    missing = [k for k in dict.fromkeys(kinds) if k not in _thunks]
    if missing:
        _compile_thunks(missing)
    return [_thunks[k][0] for k in kinds]


def _flat(record: Any) -> tuple:
    """What a kernel is called with, as LLVM's types, once arguments are taken apart. Addresses pass as integers do.

    None stands for the objects that own arrays' memory, of which compiled kernels are told nothing: they have no word.
    """
    from llvmlite import ir

    signature, models = record.signature, record.target_context.data_model_manager
    kind = record.target_context.call_conv.get_function_type(signature.return_type, signature.args)
    flat: list[Any] = [ir.IntType(64) if isinstance(t, ir.PointerType) else t for t in kind.args]
    at = len(flat)
    for t in reversed(signature.args):
        members = _members(models[t], t)
        at -= len(members)
        for i, name in enumerate(members):
            if name in _OWNERS:
                flat[at + i] = None
    return tuple(flat)


def _members(model: Any, kind: Any) -> list[str]:
    """The names of the values that an argument is once it is taken apart; a number is one without a name."""
    from numba.core import types

    if not isinstance(kind, types.Array):
        return [""]
    return [name for name in model._fields for _ in range(kind.ndim if name in ("shape", "strides") else 1)]


def _compile_thunks(kinds: Sequence[Any]) -> None:
    """Make thunks, all in one module."""
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    with global_compiler_lock:
        library = cpu_target.target_context.codegen().create_library(f"minigrad_native_{next(_numbers)}")
        module = library.create_ir_module(library.name)
        names = [f"{module.name}_{i}" for i in range(len(kinds))]
        for name, given in zip(names, kinds):
            (_emit_turn if isinstance(given, int) else _emit_thunk)(module, name, given)
        library.add_ir_module(module)
        library.finalize()
        for name, given in zip(names, kinds):
            _thunks[given] = library.get_pointer_to_function(name), library


def _emit_thunk(module: Any, name: str, given: tuple) -> None:
    """Code that has a kernel do one chunk, and returns what it does: 0, unless it fails."""
    from llvmlite import ir

    status, long = ir.IntType(32), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(status, [long] * 4), name=name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    result, error, block, chunk = function.args
    place = builder.inttoptr(block, long.as_pointer())
    told = [kind for kind in given[3:] if kind is not None]
    code, *words = [builder.load(builder.gep(place, [ir.Constant(long, i)])) for i in range(len(told) + 1)]
    kernel = builder.inttoptr(code, ir.FunctionType(status, [kind or long for kind in given]).as_pointer())
    left = iter([_value(builder, word, kind) for word, kind in zip(words, told)])
    values = [ir.Constant(long, 0) if kind is None else next(left) for kind in given[3:]]
    builder.ret(builder.call(kernel, [result, error, chunk, *values]))


def _emit_turn(module: Any, name: str, parts: int) -> None:
    """Code that has thunks do one chunk, one after another: its block holds their addresses and their blocks'."""
    from llvmlite import ir

    status, long = ir.IntType(32), ir.IntType(64)
    kind = ir.FunctionType(status, [long] * 4)
    function = ir.Function(module, kind, name=name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    result, error, block, chunk = function.args
    place = builder.inttoptr(block, long.as_pointer())
    for i in range(parts):
        thunk, own = [builder.load(builder.gep(place, [ir.Constant(long, 2 * i + k)])) for k in (0, 1)]
        found = builder.call(builder.inttoptr(thunk, kind.as_pointer()), [result, error, own, chunk])
        with builder.if_then(builder.icmp_unsigned("!=", found, ir.Constant(status, 0))):
            builder.ret(found)
    builder.ret(ir.Constant(status, 0))


def _value(builder: Any, word: Any, kind: Any) -> Any:
    """A word as a value of an LLVM type."""
    from llvmlite import ir

    if isinstance(kind, ir.DoubleType):
        return builder.bitcast(word, kind)
    if isinstance(kind, ir.FloatType):
        return builder.bitcast(builder.trunc(word, ir.IntType(32)), kind)
    return word if kind.width == 64 else builder.trunc(word, kind)
