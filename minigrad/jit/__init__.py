"""jit: record a function of tensors once, and replay its kernels from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.jit.function import Jitted

__all__ = ["Jitted", "jit"]


def jit(function: Callable | None = None, *, fuse: bool = True, limit: int = 16) -> Any:
    """A function that does what `function` does, in less time: recorded at its first call, replayed from then on.

    Everything that primitives do is recorded: forward passes, gradients taken inside, optimizers' updates, running
    statistics, random numbers. A replay runs the same kernels on memory that was laid out once, without the Python in
    between. Elementwise operations that follow one another, and sums of what they make, become one loop, which may
    round differently; all else, and everything with ``fuse=False``, gives the same bits. Calls with other shapes,
    dtypes or Python arguments are recorded anew.

    What Python alone does happens at the recording and not again: printing, appending to a list, reading the clock,
    NumPy's random numbers, the choice of a branch. So a branch on a tensor's value, and whatever else turns tensors
    into numbers inside, is an error. NumPy arrays among the arguments arrive as tensors. Attributes of layers and
    other objects are read at the recording; after changing one (a rate, ``trainable``), call ``clear()``.

    On a GPU a replay is one launch of a CUDA graph, on memory of the GPU that stays in place. One recording computes on
    one GPU, and on the CPU besides.

    Where an argument requires gradients, and inside `jvp` or another jitted function, the function runs as it is
    written and takes part in what goes on there. Gradients by Variables are taken inside: a result of a replay has no
    tape behind it.

    Args:
        function: takes and returns tensors, and structures (tuples, lists, dicts) with tensors and other objects in
            them. Without it, a decorator with these options.
        fuse: whether elementwise operations are fused.
        limit: how many recordings to make. Calls beyond them that fit none run without jit, with a warning.

    Returns:
        the jitted function. ``plan()`` describes what the last call ran, ``profile(...)`` says where the time of a
        call goes, ``clear()`` forgets all recordings.

    Raises:
        ArgumentTypeError: if `function` can't be called.
        CaptureError: when called, if the function turns a tensor's values into numbers, naming the line.

    Example:
        >>> import minigrad as mg
        >>> w = mg.Variable([1.0, 2.0])
        >>> @mg.jit
        ... def step(x):
        ...     loss, (dw,) = mg.value_and_grad(lambda: ((w * x) ** 2).sum(), variables=[w])()
        ...     w.assign(w - 0.1 * dw)
        ...     return loss
        >>> x = mg.tensor([1.0, 1.0])
        >>> [round(step(x).item(), 4) for _ in range(3)]
        [5.0, 3.2, 2.048]
        >>> step.recordings
        1
    """
    if function is None:
        return lambda f: jit(f, fuse=fuse, limit=limit)
    if not callable(function):
        raise ArgumentTypeError(f"jit: takes a function, got {type(function).__name__}")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ArgumentError(f"jit: limit is {limit!r}, expected a positive integer")
    return Jitted(function, bool(fuse), limit)
