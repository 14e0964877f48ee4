"""CUDA graphs: work that a stream was given under capture, and that streams are given again in one launch."""

from __future__ import annotations

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
        self._api = self._driver.graphs
        self._device = device
        cublas.prepare(device)
        with self._driver.state.lock, self._driver.on(device):
            self._executable = self._captured(works)
        destroy = weakref.finalize(self, self._api.cuGraphExecDestroy, self._executable)
        destroy.atexit = False  # the driver is gone by then

    def launch(self, stream: Stream) -> None:
        """Give all of it to a stream."""
        with self._driver.on(self._device):
            self._ask("cuGraphLaunch", self._executable, self._driver.handle(stream.native))

    def _captured(self, works: Sequence[Any]) -> Any:
        stream = self._stream()
        handle = self._driver.handle(stream.native)
        # Relaxed: what Numba frees meanwhile does not end the capture.
        self._ask("cuStreamBeginCapture", handle, self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
        try:
            for work in works:
                work.give(stream)
        except BaseException:
            _, graph = self._api.cuStreamEndCapture(handle)
            if graph is not None and int(graph):
                self._api.cuGraphDestroy(graph)
            raise
        graph = self._ask("cuStreamEndCapture", handle)
        try:
            return self._ask("cuGraphInstantiate", graph, 0)
        finally:
            self._api.cuGraphDestroy(graph)

    def _stream(self) -> Stream:
        """The GPU's stream for captures: one that the default stream does not wait for, as that would end a capture."""
        known = self._driver.state.captures
        if self._device not in known:
            handle = self._ask("cuStreamCreate", self._api.CUstream_flags.CU_STREAM_NON_BLOCKING)
            known[self._device] = Stream(self._device, self._driver.external(self._device, int(handle)))
        return known[self._device]

    def _ask(self, name: str, *args: Any) -> Any:
        """What a function of the driver returns besides its status."""
        status, *found = getattr(self._api, name)(*args)
        if int(status):
            raise DeviceError(f"cuda: {name} failed: {getattr(status, 'name', status)}")
        return found[0] if found else None
