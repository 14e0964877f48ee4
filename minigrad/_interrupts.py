"""Ctrl-C between steps: the first one becomes an event to look at, so that no step is left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def between_steps() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C sets the event, and a second one raises KeyboardInterrupt at once.

    Only in the main thread and only in place of Python's own handler, which is put back at the end and by the first
    Ctrl-C itself.
    """
    asked = threading.Event()
    own = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not own:
        yield asked
        return

    def handler(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, own)
        asked.set()

    signal.signal(signal.SIGINT, handler)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, own)
