"""Threads: one team for all kernels. Whoever enters shares out chunks, and does itself those that nobody else takes.

The one that enters takes chunks from the first on, the others from the last, so that each meets in one kernel the parts
of arrays that it has in its cache from the one before.

Threads of the team wait for a while between two kernels, give way to others for some milliseconds, and sleep then: one
that must be woken comes too late for most kernels. The one that enters wakes them and begins; it never waits for a
thread to start, only for chunks that others have begun, so that a processor that is busy with something else costs
little. Numba's own threads, which all must arrive before a loop ends, would cost a time slice of the operating system
at each kernel then.

The team has as many threads as ``numba.get_num_threads()`` says, with the one that enters. One enters at a time.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
import threading
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.devices.function import Function, from_source, jit
from minigrad.devices.intrinsic import Intrinsic, add, ask, emit_call, load, swap, take, wait

# Places in the words; those that threads write to lie on lines of the cache of their own.
_STATE, _LEFT, _SLEEPING, ROOM = 0, 16, 32, 48
_TASK, _CONTEXT, _FAILED, _HELPERS, _READ, _WRITE, _YIELD, _IN, _OUT = range(64, 73)
_BYTES = 80  # of what goes through the pipe that sleeping threads read
_OPEN, _ONE, _INSIDE, _JOB = 1, 2, (1 << 20) - 2, 1 << 20  # the state: open or not, threads inside, number of the job
_PATIENCE = 4000  # looks at the state before a thread gives way to others: a tenth of a millisecond or two
_DROWSY = 6000  # looks before it sleeps: a few milliseconds

WORDS = np.zeros(96, np.int64)
_one = threading.Lock()
_started = 0


def count() -> int:
    """How many threads kernels may use."""
    import numba

    if numba.config.DISABLE_JIT or not hasattr(os, "fork"):  # type: ignore[attr-defined]
        return 1  # the team lives in compiled code, and sleeps as POSIX has it
    # Asking Numba starts its threads; as long as nobody has, nobody has changed their number either.
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    if parallel is None or not getattr(parallel, "_is_initialized", True):
        return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return numba.get_num_threads()


def enter() -> bool:
    """Whether this thread may share out chunks now, until it calls `leave`: one may at a time."""
    threads = count()
    if threads < 2 or not _one.acquire(blocking=False):
        return False
    if _started < threads - 1:
        _start(threads - 1)
    WORDS[_HELPERS] = threads - 1
    return True


def leave() -> None:
    """Let other threads enter."""
    _one.release()


def prepare() -> Any:
    """What a thread of the team runs, compiled."""
    from numba import types

    serve: Any = _serve.compiled()
    serve.compile((types.int64[::1],))
    return serve


def _start(threads: int) -> None:
    global _started
    serve = prepare()
    if not _started:
        library = ctypes.CDLL(None)
        for place, function in ((_READ, library.read), (_WRITE, library.write), (_YIELD, library.sched_yield)):
            WORDS[place] = ctypes.cast(function, ctypes.c_void_p).value or 0
        WORDS[_IN], WORDS[_OUT] = os.pipe()
    while _started < threads:
        _thread.start_new_thread(serve, (WORDS,))
        _started += 1


def _after_fork() -> None:
    """The threads exist in the parent alone; the child gets its own when it needs them."""
    global _one, _started
    if _started:
        os.close(int(WORDS[_IN]))
        os.close(int(WORDS[_OUT]))
    _one, _started = threading.Lock(), 0
    WORDS[:] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# In compiled code. A task is called as task(result, error, context, chunk), by Numba's convention, and returns 0.


@jit
def share(words, task, context, chunks):
    """Have all chunks of a task done; returns 0, or 1 if one of them failed."""
    words[_TASK], words[_CONTEXT], words[_FAILED] = task, context, 0
    words[_LEFT] = chunks
    add(words, _STATE, _JOB | _OPEN)
    if load(words, _SLEEPING):
        sleeping = min(take(words, _SLEEPING, 0), 64)
        _transfer(words[_WRITE], np.int32(words[_OUT]), words.ctypes.data + 8 * _BYTES, np.int64(sleeping))
    _work(words, True)
    add(words, _STATE, -_OPEN)
    looks = 0
    while load(words, _STATE) & _INSIDE:
        wait()
        looks += 1
        if looks > _PATIENCE:
            ask(words[_YIELD])
    return words[_FAILED]


@jit
def _work(words, entered):
    chunk, room = _next(words, entered), words.ctypes.data + 8 * ROOM
    while chunk >= 0:
        if run_task(words[_TASK], room, room, words[_CONTEXT], chunk):
            take(words, _FAILED, 1)
        chunk = _next(words, entered)


@jit
def _next(words, entered):
    """Take the first of the chunks that are left, or the last; −1 if there is none. One word holds both ends."""
    while True:
        left = load(words, _LEFT)
        first, end = left >> 32, left & 0xFFFFFFFF
        if first >= end:
            return np.int64(-1)
        if swap(words, _LEFT, left, left + (1 << 32) if entered else left - 1):
            return first if entered else end - 1


def _serve_forever(words):
    """What a thread of the team does, for ever."""
    done, looks = -1, 0
    while True:
        state = load(words, _STATE)
        if state & _OPEN and state // _JOB != done and (state & _INSIDE) < words[_HELPERS] * _ONE:
            if swap(words, _STATE, state, state + _ONE):
                _work(words, False)
                add(words, _STATE, -_ONE)
                done = state // _JOB
            looks = 0
        elif looks < _DROWSY:
            wait()
            looks += 1
            if looks > _PATIENCE:
                ask(words[_YIELD])
        else:
            add(words, _SLEEPING, 1)
            state = load(words, _STATE)
            is_new = state & _OPEN and state // _JOB != done  # and whoever opened it may not have seen this sleep
            if not (is_new and _stays_awake(words)):
                _transfer(words[_READ], np.int32(words[_IN]), words.ctypes.data + 8 * _BYTES, np.int64(1))
            looks = 0


@jit
def _stays_awake(words):
    """Take one off the number of those asleep; False if they are being woken, which is to be waited for."""
    while True:
        sleeping = load(words, _SLEEPING)
        if sleeping == 0:
            return False
        if swap(words, _SLEEPING, sleeping, sleeping - 1):
            return True


def _run_python(address, result, error, given, chunk):
    raise NotImplementedError("tasks are compiled code")


def _transfer_python(address, file, start, size):
    raise NotImplementedError("threads live in compiled code")


_serve = Function(_serve_forever, called=True)
run_task = Intrinsic(_run_python, "int32", emit_call)
_transfer = Intrinsic(_transfer_python, "int64", emit_call)


@lru_cache(maxsize=64)
def task_of(arguments: int) -> Any:
    """For use in kernels: ``task_of(n)(body, a, b, ...)``, the addresses of a task and of its context, as a tuple.

    The task calls ``body(chunk, a, b, ...)``. The context lies on the stack of the function that asks for it.
    """
    names = ", ".join([f"a{i}" for i in range(arguments)])
    source = f"def task(body, {names}):\n    raise NotImplementedError('tasks are compiled code')\n"
    return Intrinsic(from_source("task", source, {}), "int64", _emit_task, results=2)


def _emit_task(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    body, given = signature.args[0], signature.args[1:]
    word, kinds = ir.IntType(64), [context.get_value_type(t) for t in given]
    layout = ir.LiteralStructType(kinds)
    kept = cgutils.alloca_once(builder, layout)
    for i, value in enumerate(values[1:]):
        builder.store(value, cgutils.gep_inbounds(builder, kept, 0, i))
    kind = context.call_conv.get_function_type(types.none, (types.int64, types.int64))
    task = ir.Function(builder.module, kind, name=f"{builder.function.name}_task")
    task.linkage = "internal"
    inner = ir.IRBuilder(task.append_basic_block("entry"))
    start, chunk = task.args[2:]
    place = inner.inttoptr(start, layout.as_pointer())
    read = [inner.load(cgutils.gep_inbounds(inner, place, 0, i)) for i in range(len(kinds))]
    found = context.typing_context.resolve_function_type(body, (types.int64, *given), {})
    context.get_function(body, found)(inner, [chunk, *read])
    inner.ret(ir.Constant(ir.IntType(32), 0))
    return context.make_tuple(
        builder, signature.return_type, [builder.ptrtoint(task, word), builder.ptrtoint(kept, word)]
    )
