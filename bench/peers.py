"""The peers' processes, as the one that compares them sees them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 900.0  # seconds that one answer may take, compilation included
_TAIL = 4000  # characters of stderr that a report shows


class PeerError(Exception):
    """A peer could not do what it was asked for; the message ends with its stderr."""


def environment(threads: int, **more: str) -> dict[str, str]:
    """The environment of a peer's process: so many threads, the processor alone, byte code kept as it usually is."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    limits = {f"{name}_NUM_THREADS": str(threads) for name in names}
    usual = {"JAX_PLATFORMS": "cpu", "MINIGRAD_QUIET": "1", "PYTHONDONTWRITEBYTECODE": ""}
    return {**os.environ, **limits, **usual, **more}


class Peer:
    """A library in a process of its own.

    Attributes:
        name: the library's name.
        python: the interpreter that has it.
        status: ``ready``, ``absent`` if the interpreter does not have the library, ``failed`` if the process ended.
        why: for the latter two, the reason.
        versions: what it runs with.
    """

    def __init__(self, name: str, module: str, *, python: str = sys.executable, quick: bool = False, threads: int = 2):
        self.name, self.python, self.threads = name, python, threads
        self.status, self.why = "ready", ""
        self.versions: dict[str, str] = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        arguments = [python, "-m", "bench.worker", module, name, "quick" if quick else "full", str(threads)]
        self._answers: queue.Queue[str] = queue.Queue()
        self._process: subprocess.Popen | None = None
        try:
            self._process = subprocess.Popen(
                arguments,
                cwd=ROOT,
                env=environment(threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
            )
        except OSError as error:
            self.status, self.why = "absent", f"{python}: {error.strerror}"
            return
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Learn whether the library is there."""
        if self.status != "ready":
            return
        try:
            greeting = self._receive()
        except PeerError:
            return
        if "absent" in greeting:
            self.status, self.why = "absent", greeting["absent"]
        else:
            self.versions = greeting["versions"]

    def ask(self, **request: Any) -> dict:
        """Its answer to a request.

        Raises:
            PeerError: if the work raised, or the process ended or took too long; after the latter two the peer's
                status is ``failed``.
        """
        if self.status != "ready":
            raise PeerError(self.why)
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            self._fail("its process has ended")
        answer = self._receive()
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def run_code(self, code: str, **variables: str) -> float:
        """The number on the last line that `code` prints in a fresh process.

        Raises:
            PeerError: if it fails or prints no number.
        """
        start = {"BENCH_START": repr(time.monotonic())}
        done = subprocess.run(
            [self.python, "-c", code],
            cwd=ROOT,
            env=environment(self.threads, **variables, **start),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        lines = done.stdout.split()
        if done.returncode or not lines:
            raise PeerError(f"{self.name}: exit status {done.returncode}\n{done.stderr[-_TAIL:]}")
        return float(lines[-1])

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.close()
                process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()
            self._reader.join()
            process.stdout.close()
        self._stderr.close()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _receive(self) -> dict:
        assert self._process is not None
        try:
            line = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            self._process.kill()
            self._fail(f"no answer within {PATIENCE:.0f} s")
        if not line:
            self._fail(f"its process ended with exit status {self._process.wait()}")
        return json.loads(line)

    def _fail(self, what: str) -> Any:
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace")[-_TAIL:]
        self.status, self.why = "failed", f"{self.name}: {what}\n{said}".rstrip()
        raise PeerError(self.why)
