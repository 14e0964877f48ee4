"""Checks of plain arguments, shared by the functions of `minigrad.data`."""

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, ArgumentTypeError


def integer(operation: str, name: str, value: Any, minimum: int) -> int:
    """The argument as a Python int of at least `minimum`; a bool or a float is a mistake, not a number."""
    wanted = f"wanted an integer of at least {minimum}"
    if isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{operation}: {name} is {value!r}, a bool; {wanted}")
    try:
        number = operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise ArgumentTypeError(f"{operation}: {name} is {value!r}, of type {kind}; {wanted}") from None
    if number < minimum:
        raise ArgumentError(f"{operation}: {name} is {number}, {wanted}")
    return number


def flag(operation: str, name: str, value: Any) -> bool:
    """The argument as a Python bool; anything that is not a bool is refused."""
    if not isinstance(value, (bool, np.bool_)):
        kind = type(value).__name__
        raise ArgumentTypeError(f"{operation}: {name} is {value!r}, of type {kind}; wanted True or False")
    return bool(value)


def folder_path(operation: str, name: str, value: Any) -> Path:
    """The argument as a path, with a leading ~ spelt out."""
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        kind = type(value).__name__
        raise ArgumentTypeError(f"{operation}: {name} is {value!r}, of type {kind}; wanted a str or a path")
    return Path(value).expanduser()
