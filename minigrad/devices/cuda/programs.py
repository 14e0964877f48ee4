"""Programs: a kernel's Python code runs once for arrays of some form; from then on what it launched is launched again.

That code decides how many blocks there are, in what order axes go and which kernels are made. It sees shapes, strides
and where memory begins to be aligned, and no values (`minigrad.devices.cuda.recording`), and takes longer than
the launches that come of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda import faults
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.memory import Unrecordable, current, here
from minigrad.devices.cuda.recording import Place, Recording

_MOST = 64  # forms remembered a function
_GRAIN = 64  # bytes: kernels look at no more of an address than its remainder by this
_ALIGNMENT = 256  # bytes, of temporaries; what the driver's own allocations are aligned to


class Repeated:
    """A kernel's function, called as it is: ``repeated(out, *arrays, **params)``, always with the same params.

    Where it needs a table of its arrays' addresses, or values, its code runs each time.
    """

    def __init__(self, function: Callable, device: int):
        self._function = function
        self._device = device
        self._driver: Any = None  # of the programs, which end with it
        self._programs: dict[tuple, Program | None] = {}

    def __call__(self, out: Any, *arrays: DeviceArray | None, **params: Any) -> None:
        if here.recording is not None:
            self._function(out, *arrays, **params)
            return
        given = (*out, *arrays) if out.__class__ is tuple else (out, *arrays)
        form: list[Any] = []
        pointers: list[int] = []
        for a in given:
            if a is None:
                form.append(None)
                pointers.append(0)
            else:
                pointer = a.lease.pointer + a.offset
                rest = pointer % _GRAIN
                form.append(rest if a.contiguous else (rest, a.strides))
                pointers.append(pointer - rest)
        if self._driver is not drivers.get():
            self._driver, self._programs = drivers.get(), {}
        key = tuple(form)
        try:
            program = self._programs[key]
        except KeyError:
            program = self._learn(key, out, arrays, params)
        if program is None:
            self._function(out, *arrays, **params)
        else:
            program.run(given, pointers)

    def _learn(self, key: tuple, out: Any, arrays: Sequence[Any], params: dict) -> Program | None:
        outs = out if out.__class__ is tuple else (out,)
        given = [_promised(a) for a in (*outs, *arrays)]
        count = len(outs)
        recording = Recording(self._device, captured=False)
        program = None
        try:
            with recording:
                self._function(tuple(given[:count]) if out.__class__ is tuple else given[0], *given[count:], **params)
        except Unrecordable:
            pass
        else:
            if not recording.tables:
                program = Program(recording, self._device, given)
        if len(self._programs) >= _MOST:
            self._programs.clear()
        self._programs[key] = program
        return program


class Program:
    """Launches on arrays that are elsewhere each time, and on temporaries of their own."""

    def __init__(self, recording: Recording, device: int, given: Sequence[DeviceArray | None]):
        self._driver = drivers.get()
        self._device = device
        self._watched = recording.watched
        self._kept = [lease for lease in recording.uses if not isinstance(lease, Place)]  # constants
        places = {id(a.lease): (i, 0) for i, a in enumerate(given) if a is not None}
        self._room = 0
        for place in recording.temporaries:
            places[id(place)] = len(given), self._room
            self._room += -(-max(place.size, 1) // _ALIGNMENT) * _ALIGNMENT

        def place_of(memory: Any, offset: int) -> tuple[int, int]:
            index, start = places[id(memory)]
            return index, start + offset

        self._launches = [work.prepared(device, place_of) for work in recording.works]

    def run(self, arrays: Sequence[DeviceArray | None], pointers: list[int]) -> None:
        """Launch all, where slots are `pointers` and, behind them, the temporaries."""
        stream = current(self._device)
        for a in arrays:
            if a is not None and a.lease.stream is not stream:
                a.lease.use_on(stream)
        for lease in self._kept:
            if lease.stream is not stream:
                lease.use_on(stream)
        if self._watched:
            faults.watch_again(self._device, self._watched)
        room = stream.pool.lease(self._room) if self._room else None  # whose next user is behind these launches
        if room is not None:
            pointers.append(room.pointer)
        with self._driver.on(self._device):
            for launch in self._launches:
                launch(stream.native, pointers)


def _promised(a: DeviceArray | None) -> DeviceArray | None:
    """An array of the same form in memory that is nowhere yet."""
    if a is None:
        return None
    return DeviceArray(
        Place(a.lease.stream, a.lease.size), a.shape, a.dtype, None if a.contiguous else a.strides, a.pointer % _GRAIN
    )
