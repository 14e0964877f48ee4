"""Saver: writes the Variables of a session to a file, and reads them back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad import checkpoint
from minigrad.dialects.tf1.errors import NotFoundError
from minigrad.dialects.tf1.graph import get_default_graph
from minigrad.dialects.tf1.variables import OPTIMIZER_STARTS, Variable, global_variables
from minigrad.errors import ArgumentError, CheckpointError

_LATEST = "checkpoint"  # the file that names the latest one
_SLOTS = "slots"


class Saver:
    """Writes Variables to files, all or nothing, in minigrad's own form, which is no TensorFlow checkpoint.

    Args:
        var_list: Variables, or a dict of them by the names that they have in the file; all by default, and with all
            of them what optimizers keep.
        max_to_keep: how many files to keep, the latest ones; None or 0 for all.

    Raises:
        ArgumentError: if there are no Variables; also a ValueError.
    """

    def __init__(self, var_list: Any = None, max_to_keep: int | None = 5, **ignored: Any):
        self._all = var_list is None
        found = global_variables() if var_list is None else var_list
        if isinstance(found, Mapping):
            self._variables: dict[str, Variable] = dict(found)
        else:
            self._variables = {v.op.name: v for v in found}
        if not self._variables:
            raise ArgumentError("No variables to save")
        self._graph = get_default_graph()
        self._keep = max_to_keep
        self._files: list[Path] = []

    def save(
        self, sess: Any, save_path: str, global_step: Any = None, latest_filename: str | None = None, **ignored: Any
    ) -> str:
        """Write the Variables, and return the path, which ends in the step if one is given.

        Raises:
            FailedPreconditionError: for a Variable without a value.
            OSError: if the file can't be written.
        """
        if global_step is not None:
            step = global_step if isinstance(global_step, int) else int(sess.run(global_step))
            save_path = f"{save_path}-{step}"
        held = {name: sess.variable(v.op.name) for name, v in self._variables.items()}
        slots = {f"{key}/{name}": v for key, value in sess.optimizers.items() for name, v in value.variables.items()}
        path = Path(save_path)
        mg.save(path, variables=_Named(held), **({_SLOTS: _Named(slots)} if self._all and slots else {}))
        aside = path.with_name(f".{_LATEST}.{os.getpid()}")
        aside.write_text(f'model_checkpoint_path: "{path.name}"\n', encoding="utf-8")
        os.replace(aside, path.with_name(latest_filename or _LATEST))
        self._files = [f for f in self._files if f != path] + [path]
        while self._keep and len(self._files) > self._keep:
            with contextlib.suppress(FileNotFoundError):
                self._files.pop(0).unlink()
        return str(path)

    def restore(self, sess: Any, save_path: str) -> None:
        """Give the Variables the values in a file; they need no initializing before. Nothing changes after an error.

        Raises:
            NotFoundError: if there is no such file, or it lacks a Variable.
            CheckpointError: if it is damaged, or a Variable has another shape or dtype there.
        """
        try:
            arrays, _ = checkpoint._read(Path(save_path))
        except CheckpointError as error:
            if Path(save_path).exists():
                raise
            raise NotFoundError(f"The passed save_path is not a valid checkpoint: {error}") from None
        values = {}
        for name, v in self._variables.items():
            array = arrays.get(f"variables/{name}")
            if array is None:
                raise NotFoundError(f"Key {name} not found in checkpoint {save_path}")
            if array.shape != v.lengths or array.dtype != v.dtype:
                raise CheckpointError(
                    f"Assign requires shapes of both tensors to match: {name} is {array.dtype}{array.shape} in "
                    f"{save_path}, expected {v.dtype}{v.lengths}"
                )
            values[v] = array
        for v, array in values.items():
            sess.initialize(v.op.name, array, v.trainable)
        if not self._all or not any(key.startswith(f"{_SLOTS}/") for key in arrays):
            return
        for op in self._graph.get_collection(OPTIMIZER_STARTS):
            op.compute(sess)
        for key, value in sess.optimizers.items():
            for name, slot in value.variables.items():
                array = arrays.get(f"{_SLOTS}/{key}/{name}")
                if array is not None and array.shape == slot.shape:
                    slot.assign(array)


class _Named:
    """Variables by name, as `minigrad.save` takes them."""

    def __init__(self, variables: dict[str, mg.Variable]):
        self.variables = variables


def latest_checkpoint(checkpoint_dir: str, latest_filename: str | None = None) -> str | None:
    """The file in a folder that was saved last; None if there is none."""
    folder = Path(checkpoint_dir)
    try:
        line = (folder / (latest_filename or _LATEST)).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    path = folder / line.partition('"')[2].rpartition('"')[0]
    return str(path) if path.is_file() else None


def checkpoint_exists(checkpoint_prefix: str) -> bool:
    """Whether there is such a file."""
    return Path(checkpoint_prefix).is_file()
