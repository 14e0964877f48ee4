"""Every error a user can meet, one class a kind.

Each class is also the built-in exception that NumPy users expect in its place, so ``except ValueError`` keeps
working. Messages name the operation, the argument, what was given and what was wanted.
"""


class MinigradError(Exception):
    """The base of every error that minigrad raises on purpose."""


class ShapeError(MinigradError, ValueError):
    """A shape, an axis or a number of dimensions does not fit."""


class DTypeError(MinigradError, TypeError):
    """A dtype does not fit the operation."""


class ArgumentError(MinigradError, ValueError):
    """An argument has a value outside what the operation accepts."""


class ArgumentTypeError(MinigradError, TypeError):
    """An argument is of a kind that the operation does not take."""


class IndexRangeError(MinigradError, IndexError):
    """An index, or a label, lies outside the axis it points into."""


class GradientError(MinigradError, RuntimeError):
    """Backward was asked for something that the recorded operations can't give."""


class MutationError(GradientError):
    """A value that backward needs was overwritten after it was recorded."""


class MissingRuleError(GradientError, NotImplementedError):
    """A primitive lacks the rule that was needed: not a zero, not an undefined derivative, simply not there."""


class UndefinedDerivativeError(GradientError):
    """The derivative that was asked for is declared not to exist."""


class CaptureError(MinigradError, RuntimeError):
    """A function does what `jit` can't record: it reads values that the next call will not have."""


class RegistrationError(MinigradError, ValueError):
    """A primitive or a plugin can't be registered as asked."""


class PluginError(MinigradError, ImportError):
    """A plugin could not be loaded; its own error is the cause."""


class DeviceError(MinigradError, RuntimeError):
    """A device is unknown, absent, or can't run a primitive."""


class OutOfMemoryError(DeviceError, MemoryError):
    """A device has no memory left for what was asked."""


class DataError(MinigradError, OSError):
    """A data set is missing, incomplete or corrupt."""


class CheckpointError(MinigradError, ValueError):
    """A checkpoint file is corrupt, or belongs to another network."""


class TrainingError(MinigradError, ArithmeticError):
    """Training can't go on: a loss that is not finite, for one."""
