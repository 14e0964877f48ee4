"""Compiled kernels on disk, one file a kernel and signature, named by everything that the machine code depends on.

The name is a hash of the sources of the kernel and its helpers, their compile flags, the argument types, the versions
of Python, Numba and LLVM, and the processor; so a changed kernel never meets yesterday's code, and two processes that
compile at once write the same file. A file that does not verify is compiled anew. Where nothing is writable, kernels
live in memory only.

Numba's compiled code can only be stored in Numba's own serialized form, so the folder must be the user's alone: one
that others may write to is not used.
"""

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from minigrad._paths import user_cache

_DIGEST = 32  # bytes of SHA-256 in front of each file's payload


@lru_cache(maxsize=1)
def folder() -> tuple[Path | None, str]:
    """Where kernels are kept, or None, and a sentence that says why."""
    chosen = os.environ.get("MINIGRAD_CACHE_DIR")
    if chosen == "":
        return None, "off: MINIGRAD_CACHE_DIR is empty"
    try:
        path = Path(chosen) if chosen else user_cache("kernels")
    except OSError as error:
        return None, f"off: {error}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        if hasattr(os, "getuid"):
            status = path.stat()
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                return None, f"off: {path} can be written by others"
    except OSError as error:
        return None, f"off: {path} is not writable ({error.strerror})"
    return path, "set by MINIGRAD_CACHE_DIR" if chosen else "the user's cache"


@contextlib.contextmanager
def reported(report: Callable[[str], Any]) -> Iterator[None]:
    """Inside, `report` is told the name of each kernel that this thread begins to compile."""
    before = getattr(_here, "report", None)
    _here.report = report
    try:
        yield
    finally:
        _here.report = before


@contextlib.contextmanager
def shown(title: str) -> Iterator[None]:
    """Inside, kernels that are compiled are counted by a bar on stderr, unless someone is told of them already."""
    if getattr(_here, "report", None) is not None or os.environ.get("MINIGRAD_QUIET"):
        yield
        return
    bars: list[Any] = []

    def report(kernel: str) -> None:
        from tqdm import tqdm

        if not bars:
            options: dict[str, Any] = {"unit": " kernels", "leave": False, "file": sys.stderr, "disable": None}
            bars.append(tqdm(desc=title, delay=_PATIENCE, mininterval=0, **options))
        bars[0].set_postfix_str(kernel, refresh=False)
        bars[0].update()

    try:
        with reported(report):
            yield
    finally:
        for bar in bars:
            bar.close()


def read(file: Path) -> bytes:
    """What `write` wrote; nothing, if it is not there or not whole."""
    try:
        content = file.read_bytes()
    except OSError:
        return b""
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    return payload if hashlib.sha256(payload).digest() == digest else b""


def write(file: Path, payload: bytes) -> None:
    """Write a file as a whole or not at all. A full disk costs the next process a compilation, nothing more."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as out:
            temporary = out.name
            out.write(hashlib.sha256(payload).digest() + payload)
        os.replace(temporary, file)
    except OSError:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def told(kernel: str, path: Path | None) -> None:
    """Tell who wants to know that a kernel is about to be compiled, to be kept in `path`."""
    _announce(path)
    if (report := getattr(_here, "report", None)) is not None:
        report(kernel)


class KernelCache:
    """What Numba asks of a dispatcher's cache, for one kernel whose sources and flags hash to ``stamp``."""

    def __init__(self, name: str, stamp: str, path: Path):
        self._name, self._stamp, self._path = name, stamp, path
        self.enabled = True

    @property
    def cache_path(self) -> str:
        return str(self._path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        from minigrad.devices import library

        target_context.refresh()
        if payload := read(self._file(sig, target_context.codegen())):
            import pickle

            with contextlib.suppress(Exception):  # whatever is wrong with the file, compiling anew mends it
                return library.loaded(target_context, pickle.loads(payload))
        told(self._name, self._path)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        from numba.core.serialize import dumps

        if data.library.has_dynamic_globals or any(not lifted.can_cache for lifted in data.lifted):
            return
        write(self._file(sig, data.codegen), dumps(data._reduce()))

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def flush(self) -> None:
        pass

    def _file(self, sig: Any, codegen: Any) -> Path:
        key = "\n".join([self._stamp, str(sig), repr(codegen.magic_tuple()), _versions()])
        return self._path / f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"


@lru_cache(maxsize=1)
def _versions() -> str:
    import llvmlite
    import numba
    import numpy

    return f"{sys.version} {platform.machine()} {numba.__version__} {llvmlite.__version__} {numpy.__version__}"


_PATIENCE = 1.0  # seconds that go by without a bar
_here = threading.local()  # who is told of what a thread compiles
_announced = False


def _announce(path: Path | None) -> None:
    """Say once a process that kernels are being compiled, so that a first run's wait explains itself."""
    global _announced
    if not _announced and not os.environ.get("MINIGRAD_QUIET"):
        _announced = True
        where = "kept nowhere" if path is None else f"kept in {path}"
        print(f"minigrad: compiling kernels for this processor, once ({where})", file=sys.stderr, flush=True)
