"""Where downloads live, and how a file gets there: https only, checked against its digest, never half there."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigrad._paths import user_cache
from minigrad.errors import DataError

_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without a byte before a mirror is given up
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Opener = Callable[[str], Any]


@dataclass(frozen=True)
class Remote:
    """A file to download: its name, its size in bytes and its digest as "algorithm:hexdigest"."""

    name: str
    size: int
    digest: str


def cache_folder() -> Path:
    """The folder that downloaded data sets are kept in, a sub-folder for each; it need not exist yet.

    ``minigrad/data`` under the user's cache: $XDG_CACHE_HOME or ~/.cache on Linux, ~/Library/Caches on macOS,
    %LOCALAPPDATA% on Windows.

    Raises DataError when the user's home can't be told.
    Source: XDG Base Directory Specification; Apple's and Microsoft's rules for application caches.

    >>> import minigrad.data
    >>> minigrad.data.cache_folder().parts[-2:]
    ('minigrad', 'data')
    """
    try:
        return user_cache("data")
    except OSError as error:
        raise DataError(f"cache_folder: {error}") from error


def fetch(remote: Remote, mirrors: Sequence[str], folder: Path, *, opener: Opener | None = None) -> Path:
    """The path of `remote` in `folder`, downloaded from the first of `mirrors` that gives the right bytes.

    Arguments:
        remote: the file, with the size and the digest that it must have.
        mirrors: addresses of folders, tried in order; the file's name is put after each.
        folder: where the file goes; made when it is not there.
        opener: takes an address and gives a response (a context manager with `read`); `https_opener` unless given.

    The bytes are written aside, checked, and only then given their name, so an interrupted or wrong download leaves
    nothing behind, and two processes that download at once do not disturb each other.

    Raises DataError when no mirror gave the file or the folder can't be written; it lists every address and reason.
    """
    import http.client

    if opener is None:
        opener = https_opener()
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + remote.name
        try:
            with opener(url) as response:
                fault = _receive(remote, response, folder)
        except (OSError, http.client.HTTPException, ValueError) as error:
            fault = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            if callable(close := getattr(error, "close", None)):
                close()  # an HTTPError is a response that is still open
        if fault is None:
            return folder / remote.name
        failures.append(f"  {url}: {fault}")
    raise DataError(f"download: no mirror gave {remote.name}:\n" + "\n".join(failures))


def _receive(remote: Remote, response: Any, folder: Path) -> str | None:
    """Puts what `response` gives at its place in `folder`; None when its bytes were right, else what is wrong."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=remote.name + ".", suffix=".part", dir=folder)
    except OSError as error:
        raise DataError(f"{folder} can't be written ({error})") from error
    try:
        with os.fdopen(handle, "wb") as file:
            fault = _copy(remote, response, file)
        if fault is None:
            os.replace(aside, folder / remote.name)
        return fault
    finally:  # an interruption from the keyboard included
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


def _copy(remote: Remote, response: Any, file: Any) -> str | None:
    """Copies what `response` gives to `file`; None when size and digest are right, else what is wrong."""
    import hashlib

    from tqdm import tqdm

    algorithm, expected = remote.digest.split(":")
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    received = 0
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(total=remote.size, desc=remote.name, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            if received > remote.size:
                return f"gave more than the {remote.size} bytes expected"
            file.write(chunk)
            hasher.update(chunk)
            bar.update(len(chunk))
    if received < remote.size:
        return f"ended after {received} of {remote.size} bytes"
    if hasher.hexdigest() != expected:
        return f"has the {algorithm} {hasher.hexdigest()}, expected {expected}"
    file.flush()
    os.fsync(file.fileno())
    return None


def https_opener(*, loopback: bool = False, timeout: float = _TIMEOUT) -> Opener:
    """What opens https addresses, and nothing else: a redirect to anything else is refused as well.

    Arguments:
        loopback: also open http addresses of this very machine, past any proxy; for tests against a local server.
        timeout: seconds that a mirror may keep silent.

    The opener raises DataError for a refused address, OSError for one that can't be reached.
    """
    import urllib.request

    class CheckedRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req, fp, code, msg, headers, newurl):
            _check(newurl, loopback)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    handlers: list[urllib.request.BaseHandler] = [CheckedRedirect()]
    if loopback:
        handlers.append(urllib.request.ProxyHandler({}))
    director = urllib.request.build_opener(*handlers)
    director.addheaders = [("User-Agent", "minigrad")]

    def open_(url: str) -> Any:
        _check(url, loopback)
        return director.open(url, timeout=timeout)

    return open_


def _check(url: str, loopback: bool) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme == "https" or (loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise DataError(f"refused, only https addresses are opened: {url}")
