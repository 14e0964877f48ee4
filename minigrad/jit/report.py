"""Report: what a jitted function runs, and where in memory, as text and as a drawing."""

from __future__ import annotations

import linecache
from collections import Counter
from typing import Any

from minigrad.devices.cuda import Function, name_of
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.fused import Fused
from minigrad.jit.gpu import Work
from minigrad.jit.native import native_of
from minigrad.jit.plan import Plan
from minigrad.jit.replay import Replay
from minigrad.jit.trace import Call, Value


class Report:
    """What ``step.plan()`` returns: prints as a table of the calls.

    Attributes:
        arena: bytes of the memory that all values share.
        least: the most bytes that values need at one time; no arena is smaller.
        total: bytes of all values one beside another.
        source: the text of the Python function that a replay runs.
        kernels: the source of each fused loop, by name.
    """

    def __init__(self, replay: Replay, name: str):
        self._plan: Plan = replay.plan
        self._segments, self._launches = len(replay.segments), len(replay.launches)
        self.name = name
        self.arena, self.least, self.total = self._plan.arena_size, self._plan.peak, self._plan.total
        self.source = replay.source
        fused = [kernel for _, steps in self._fused() for step in steps for kernel in _kernels(step)]
        self.kernels = {kernel.__name__: text for kernel in fused if (text := _source(kernel))}

    def _fused(self) -> list[tuple[Call, list[Step]]]:
        return [pair for pair in zip(self._plan.calls, self._plan.steps) if isinstance(pair[0].primitive, Fused)]

    def __str__(self) -> str:
        plan = self._plan
        removed = ", ".join(f"{n} {how}" for how, n in plan.simplified.counts.items())
        how = Counter(_how(step) for steps in plan.steps for step in steps)
        runs = ", ".join(f"{n} {name}" for name, n in sorted(how.items()))
        head = [
            f"{self.name}: {len(plan.trace.calls)} calls recorded, {len(plan.calls)} left ({removed})",
            f"steps: {runs or 'none'}; {self._segments} native segments",
            f"memory: {_bytes(self.arena)} for {_bytes(self.total)} of values, at least {_bytes(self.least)}",
        ]
        if plan.gpu is not None:
            sizes = [_bytes(n) for n in (plan.gpu.arena_size, plan.gpu.total, plan.gpu.peak)]
            where = f"{name_of(plan.gpu.device)}: {self._launches} runs of launches"
            head.append(f"{where}; {sizes[0]} for {sizes[1]} of values, at least {sizes[2]}")
        rows = [("", "primitive", "output", "runs as", "recorded at")]
        for i, (call, steps) in enumerate(zip(plan.calls, plan.steps)):
            rows.append((str(i), call.primitive.name, outputs(call), _kinds(call, steps), call.where))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)) + "  " + row[4] for row in rows]
        return "\n".join([*head, "", *table])

    __repr__ = __str__

    def draw(self, path: Any = None) -> Any:
        """A matplotlib Figure of the arena: a rectangle for each value, calls from left to right, memory upwards.

        Args:
            path: a file to save it to as well.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        try:
            from matplotlib.collections import PatchCollection
            from matplotlib.figure import Figure
            from matplotlib.patches import Rectangle
        except ImportError as error:
            raise ImportError("plan: a drawing needs matplotlib: pip install 'minigrad[plots]'") from error
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        kinds: dict[str, list] = {}
        for block in self._plan.blocks:
            box = Rectangle((block.first - 0.5, block.offset), block.last - block.first + 1, block.size)
            kinds.setdefault(block.what.kind if isinstance(block.what, Value) else "workspace", []).append(box)
        colours = {"input": "#1b9e77", "gradient": "#7570b3", "result": "#1f78b4", "workspace": "#d95f02"}
        for kind, boxes in kinds.items():
            axes.add_collection(PatchCollection(boxes, facecolor=colours[kind], edgecolor="white", linewidth=0.3))
            axes.plot([], [], "s", color=colours[kind], label=kind)
        axes.set(xlim=(-1.5, len(self._plan.calls) + 0.5), ylim=(0, max(1, self.arena) * 1.02))
        axes.set(xlabel="call", ylabel="bytes", title=f"{self.name}: {_bytes(self.arena)}")
        if kinds:
            axes.legend(loc="upper right")
        if path is not None:
            figure.savefig(path, dpi=110)
        return figure


def _source(kernel: Any) -> str:
    """The text of a generated kernel, after that of the generated function that it calls, if it does."""
    function = kernel.__wrapped__
    called = [f.__wrapped__ for f in function.__globals__.values() if isinstance(f, Function)]
    files = [f.__code__.co_filename for f in (*called, function)]
    return "\n".join(["".join(linecache.getlines(file)) for file in files if file.startswith("<")])


def _kernels(step: Step) -> list[Any]:
    if isinstance(step, Compiled):
        return [part.kernel for part in step.parts]
    return [step.kernel] if isinstance(step, Work) else []


def _how(step: Any) -> str:
    if isinstance(step, Work):
        return "launch"
    if native_of(step) is not None:
        return "native"
    if isinstance(step, Compiled):
        return "parallel" if step.chunks > 1 else "compiled"
    home = getattr(step.function, "__module__", None) or ""
    return "by NumPy" if home.partition(".")[0] == "numpy" else "by Python"


def _kinds(call: Call, steps: list[Step]) -> str:
    if not steps:
        return "a view" if call.outputs else "nothing"
    return "+".join(dict.fromkeys(_how(step) for step in steps))


def outputs(call: Call) -> str:
    """What a call makes or changes, in words."""
    if call.mutates:
        names = [getattr(v.root.source, "name", None) or "a Variable" for v in call.mutates]
        return f"→ {names[0]}" if len(names) == 1 else f"→ {len(names)} Variables"
    return " ".join(f"{v.dtype}{v.shape}" for v in call.outputs)


def _bytes(n: int) -> str:
    for unit in ("B", "KiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n = n / 1024  # type: ignore[assignment]
    return f"{n:.4g} MiB"
