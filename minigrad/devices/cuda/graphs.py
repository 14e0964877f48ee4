"""CUDA graphs: work that a stream was given under capture, and that streams are given again in one launch."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from typing import Any

from minigrad.devices.cuda import cublas
from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.memory import Stream
from minigrad.errors import DeviceError


class Graph:
    """The launches of some work on one GPU, instantiated. It goes when nothing holds it any more.

    Args:
        works: have a method ``give(stream)``, in which nothing waits, and nothing is given to another stream.

    Raises:
        DeviceError: with the driver's word for what it can't capture.
    """

    def __init__(self, device: int, works: Sequence[Any]):
        self._driver = drivers.get()
        self._device = device
        cublas.prepare(device)
        with self._driver.state.lock, self._driver.on(device):
            self._executable = self._captured(works)
        destroy = weakref.finalize(self, self._driver.ask, "cuGraphExecDestroy", self._executable)
        destroy.atexit = False  # the driver is gone by then

    def launch(self, stream: Stream) -> None:
        """Give all of it to a stream."""
        with self._driver.on(self._device):
            self._driver.ask("cuGraphLaunch", self._executable, stream.native.handle)

    def _captured(self, works: Sequence[Any]) -> Any:
        stream, ask = self._stream(), self._driver.ask
        handle = stream.native.handle
        ask("cuStreamBeginCapture", handle, self._driver.relaxed_capture)
        try:
            for work in works:
                work.give(stream)
        except BaseException:
            with contextlib.suppress(DeviceError):  # an end of what has failed tells of that
                ask("cuGraphDestroy", ask("cuStreamEndCapture", handle))
            raise
        graph = ask("cuStreamEndCapture", handle)
        try:
            return ask("cuGraphInstantiate", graph, 0)
        finally:
            ask("cuGraphDestroy", graph)

    def _stream(self) -> Stream:
        """The GPU's stream for captures: one that the default stream does not wait for, as that would end a capture."""
        known = self._driver.state.captures
        if self._device not in known:
            known[self._device] = Stream(self._device, self._driver.stream(self._device, waits=False))
        return known[self._device]
