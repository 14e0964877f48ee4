"""The errors that TensorFlow's users know by name; each is one of minigrad's kinds too."""

from __future__ import annotations

from minigrad.errors import ArgumentError, CheckpointError, MinigradError


class OpError(MinigradError, RuntimeError):
    """The graph could not run."""


class InvalidArgumentError(OpError, ArgumentError):
    """A placeholder that is needed was not fed, or a value does not fit."""


class FailedPreconditionError(OpError):
    """A Variable has no value in this session yet."""


class NotFoundError(OpError, CheckpointError):
    """A checkpoint lacks what is to be restored, or is not there."""
