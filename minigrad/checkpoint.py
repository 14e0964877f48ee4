"""`save` and `load`: all state of a run in one file, written aside and renamed, without pickle.

The file is a NumPy ``.npz`` archive: an array for each Variable, and one JSON text for the rest. Each member carries
a checksum, so a damaged file is found out before anything is changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import ArgumentTypeError, CheckpointError
from minigrad.tensor import Variable

FORMAT = 1
_TEXT = "minigrad.json"


def save(path: Any, **parts: Any) -> None:
    """Write the state of `parts` to a file, all or nothing.

    Args:
        path: the file. An existing one is replaced once the new one is complete.
        parts: by name: what has ``variables`` (models, optimizers, generators), single Variables, and anything else
            that JSON can hold.

    Raises:
        ArgumentTypeError: for a part that JSON can't hold.
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
    values: dict[str, Any] = {}
    for name, part in parts.items():
        held = _variables(part)
        if held is None:
            values[name] = part
        else:
            arrays.update({f"{name}/{key}": v._data for key, v in held.items()})
    content = {"format": FORMAT, "parts": [n for n in parts if n not in values], "values": values}
    try:
        text = json.dumps(content)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"save: {error}; parts have variables or are what JSON can hold") from error
    target = Path(path)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            np.savez(file, **{_TEXT: np.frombuffer(text.encode(), np.uint8)}, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise
    os.replace(file.name, target)


def load(path: Any, **parts: Any) -> dict[str, Any]:
    """Put the state in a file back into `parts`, and return the values that were saved beside them.

    Everything is compared before anything changes: after an error all parts are as they were.

    Args:
        path: a file that `save` wrote.
        parts: as they were given to `save`, with the same Variables by name, shape and dtype. A model that has not
            seen an input has none yet: call it, or its ``build``, first.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or belongs to other parts; it says which.
    """
    arrays, content = _read(Path(path))
    wanted: dict[str, Variable] = {}
    for name, part in parts.items():
        held = _variables(part)
        if held is None:
            raise ArgumentTypeError(f"load: {name} is {type(part).__name__}, expected something with variables")
        if name not in content["parts"]:
            raise CheckpointError(f"{path}: holds no {name!r}, only {content['parts']}")
        wanted.update({f"{name}/{key}": v for key, v in held.items()})
    stored = {key for key in arrays if key.split("/")[0] in parts}
    if stored != set(wanted):
        missing, extra = sorted(set(wanted) - stored), sorted(stored - set(wanted))
        raise CheckpointError(
            f"{path}: is of another network: "
            + "; ".join([*([f"it lacks {missing[:4]}"] if missing else []), *([f"it has {extra[:4]} besides"] if extra else [])])
        )
    for key, variable in wanted.items():
        array = arrays[key]
        if array.shape != variable.shape or array.dtype != variable.dtype:
            raise CheckpointError(
                f"{path}: is of another network: {key} is {array.dtype}{array.shape}, "
                f"expected {variable.dtype}{variable.shape}"
            )
    for key, variable in wanted.items():
        variable.assign(arrays[key])
    return content["values"]


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        content = json.loads(arrays.pop(_TEXT).tobytes().decode())
        known = content["format"]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: is damaged or no checkpoint ({error})") from error
    if known != FORMAT:
        raise CheckpointError(f"{path}: has format {known}, this version reads format {FORMAT}")
    return arrays, content


def _variables(part: Any) -> dict[str, Variable] | None:
    """The Variables of a part by name, or None for a plain value."""
    if isinstance(part, Variable):
        return {"value": part}
    held = getattr(part, "variables", None)
    if isinstance(held, dict):
        return held
    if isinstance(held, (list, tuple)):
        return {str(i): v for i, v in enumerate(held)}
    return None
