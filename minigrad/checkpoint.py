"""`save` and `load`: all state of a run in one file, written aside and renamed, without pickle.

The file is a NumPy ``.npz`` archive: an array for each Variable, and one JSON text for the rest. Each member carries
a checksum, so a damaged file is found out before anything is changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import ArgumentError, ArgumentTypeError, CheckpointError, DTypeError
from minigrad.ops.generator import Generator
from minigrad.tensor import Variable

FORMAT = 1
_TEXT = "minigrad.json"


def save(path: Any, **parts: Any) -> None:
    """Write the state of `parts` to a file, all or nothing.

    Args:
        path: the file. An existing one is replaced once the new one is complete.
        parts: by name: what has ``variables`` (models, optimizers), generators, single Variables, and anything else
            that JSON can hold (tuples come back as lists).

    Raises:
        ArgumentTypeError: for a part that JSON can't hold.
        ArgumentError: for a part with a ``/`` in its name.
        OSError: if the file can't be written; an existing one stays as it was.

    Example:
        >>> import minigrad as mg, tempfile, os
        >>> w = mg.Variable([1.0, 2.0])
        >>> file = os.path.join(tempfile.mkdtemp(), "w.npz")
        >>> mg.save(file, w=w, epoch=3)
        >>> w.assign([0.0, 0.0])
        >>> mg.load(file, w=w)
        {'epoch': 3}
        >>> w.numpy()
        array([1., 2.], dtype=float32)
    """
    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, str] = {}
    for name, part in parts.items():
        if "/" in name:
            raise ArgumentError(f"save: the part {name!r} has a '/' in its name")
        held = _variables(part)
        if held is None:
            texts[name] = _as_json(name, part)
        else:
            arrays.update({f"{name}/{key}": v.numpy() for key, v in held.items()})
    narrow = [key for key, a in arrays.items() if dtypes.is_bfloat16(a.dtype)]  # which NumPy's files don't know
    arrays |= {key: arrays[key].view(np.uint16) for key in narrow}
    values = ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items())
    names = json.dumps([name for name in parts if name not in texts])
    content = f'{{"format": {FORMAT}, "parts": {names}, "bfloat16": {json.dumps(narrow)}, "values": {{{values}}}}}'
    target = Path(os.path.realpath(path))  # through a link, to replace what it points to
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(aside, "xb") as file:
            np.savez(file, **{_TEXT: np.frombuffer(content.encode(), np.uint8)}, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        if isinstance(error, OSError):
            why = f"save: can't write the checkpoint ({error.strerror or error})"
            raise OSError(error.errno or 0, why, str(path)) from error
        raise


def load(path: Any, **parts: Any) -> dict[str, Any]:
    """Put the state in a file back into `parts`, and return the values that were saved beside them.

    Everything is compared before anything changes: after an error all parts are as they were.

    Args:
        path: a file that `save` wrote.
        parts: some or all of those given to `save`, with the same Variables by name, shape and dtype. A model has its
            Variables once it has seen an input, or by ``build_once``; an optimizer its slots by ``build``.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or belongs to other parts; it says which.
        ArgumentTypeError: for a part without Variables.
    """
    values, commit = prepare(path, **parts)
    commit()
    return values


def prepare(path: Any, **parts: Any) -> tuple[dict[str, Any], Callable[[], None]]:
    """`load` in two steps: the values, and a function that then changes the parts."""
    wanted: dict[str, Variable] = {}
    for name, part in parts.items():
        held = _variables(part)
        if held is None:
            raise ArgumentTypeError(f"load: {name} is {type(part).__name__}, expected something with variables")
        wanted.update({f"{name}/{key}": v for key, v in held.items()})
    arrays, content = _read(Path(path))
    for name in parts:
        if name not in content["parts"]:
            raise CheckpointError(f"{path}: holds no {name!r}, only {content['parts']}")
    stored = {key for key in arrays if key.split("/")[0] in parts}
    if stored != set(wanted):
        raise CheckpointError(f"{path}: is of another network: {_difference(stored, set(wanted))}")
    for key, variable in wanted.items():
        array = arrays[key]
        if array.shape != variable.shape or array.dtype != variable.dtype:
            raise CheckpointError(
                f"{path}: is of another network: {key} is {array.dtype}{array.shape}, "
                f"expected {variable.dtype}{variable.shape}"
            )

    def commit() -> None:
        for key, variable in wanted.items():
            variable.assign(arrays[key])

    return content["values"], commit


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            spoilt = archive.zip.testzip()  # reads to the end of each member, where the checksum is compared
            if spoilt is not None:
                raise ValueError(f"{spoilt} does not match its checksum")
            arrays = {key: archive[key] for key in archive.files}
        content = json.loads(arrays.pop(_TEXT).tobytes().decode())
        known = content["format"]
        narrow = content.get("bfloat16", [])
        if narrow:
            arrays |= {key: arrays[key].view(dtypes.bfloat16()) for key in narrow}
        complete = isinstance(content.get("parts", []), list) and isinstance(content.get("values", {}), dict)
    except DTypeError as error:
        raise CheckpointError(f"{path}: holds Variables of bfloat16 ({error})") from error
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from error
    except Exception as error:  # readers of zip, npy and JSON raise a dozen kinds on damaged bytes
        raise CheckpointError(f"{path}: is damaged or no checkpoint ({error})") from error
    if known != FORMAT:
        raise CheckpointError(f"{path}: has format {known}, this version reads format {FORMAT}")
    if not complete or "parts" not in content or "values" not in content:
        raise CheckpointError(f"{path}: is damaged or no checkpoint (its text lacks parts or values)")
    return arrays, content


def _difference(stored: set[str], wanted: set[str]) -> str:
    """What a file lacks and has besides, and what might have been forgotten."""
    words = []
    if wanted - stored:
        words.append(f"it lacks {_some(wanted - stored)}")
    if stored - wanted:
        words.append(f"it has {_some(stored - wanted)} besides")
    empty = sorted({key.split("/")[0] for key in stored} - {key.split("/")[0] for key in wanted})
    if empty:
        words.append(f"{', '.join(empty)} has no Variables yet (call a model on an input first)")
    return "; ".join(words)


def _some(names: set[str]) -> str:
    shown = sorted(names)[:4]
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else str(shown)


def _as_json(name: str, part: Any) -> str:
    try:
        return json.dumps(part)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"save: {name}: {error}; parts have variables or are what JSON can hold") from error


def _variables(part: Any) -> dict[str, Variable] | None:
    """The Variables of a part by name, or None for a plain value."""
    if isinstance(part, Variable):
        return {"value": part}
    if isinstance(part, Generator):
        return {"state": part.state}
    held = getattr(part, "variables", None)
    if isinstance(held, dict):
        return held
    if isinstance(held, (list, tuple)):
        return {str(i): v for i, v in enumerate(held)}
    return None
