"""function: expressions compiled to a callable that takes and returns arrays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.dialects.theano.config import config
from minigrad.dialects.theano.graph import Constant, Variable, ancestors, as_variable
from minigrad.dialects.theano.program import Program
from minigrad.dialects.theano.replaying import Replayed
from minigrad.dialects.theano.rewriting import Canonical
from minigrad.dialects.theano.sharedvar import SharedVariable, as_value
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError

_STEPWISE = ("FAST_COMPILE", "DebugMode", "DEBUG_MODE")


class UnusedInputError(ArgumentError):
    """A function has an input that none of its outputs and updates needs."""


class MissingInputError(ArgumentError):
    """An output needs an input that the function does not have."""


class In:
    """An input of a function with a default value, a name or an update of its own; `Param` is its older name.

    Args:
        variable: the symbolic input.
        name: for keyword arguments, instead of the variable's.
        value: the default; None for an input that must be given.
        allow_downcast: as the function's ``allow_input_downcast``, for this input.
        borrow, mutable, strict, autoname, implicit: accepted, and ignored.
    """

    def __init__(
        self,
        variable: Variable,
        name: str | None = None,
        value: Any = None,
        mutable: bool | None = None,
        strict: bool = False,
        allow_downcast: bool | None = None,
        autoname: bool = True,
        implicit: bool | None = None,
        borrow: bool | None = None,
    ):
        if not isinstance(variable, Variable):
            raise ArgumentTypeError(f"In: takes a symbolic variable, got {variable!r}")
        self.variable = variable
        self.name = name if name is not None else variable.name
        self.value = value
        self.allow_downcast = allow_downcast


class Out:
    """An output of a function; `borrow` is accepted, and ignored."""

    def __init__(self, variable: Any, borrow: bool = False):
        self.variable = as_variable(variable)


def function(
    inputs: Sequence[Any],
    outputs: Any = None,
    mode: Any = None,
    updates: Any = None,
    givens: Any = None,
    no_default_updates: Any = False,
    accept_inplace: bool = False,
    name: str | None = None,
    rebuild_strict: bool = True,
    allow_input_downcast: bool | None = None,
    profile: Any = None,
    on_unused_input: str | None = None,
) -> Function:
    """A callable that computes `outputs` from arrays, then changes shared variables as `updates` say.

    Each expression is computed once a call, gradients in one walk back a cost; all new values are computed before the
    first shared variable changes. log(softmax(x)), cross-entropies of softmax and sigmoid and their like are computed
    in forms that do not overflow.

    Args:
        inputs: symbolic variables, or `In` with default values. A call takes arrays in this order, or by name. An
            expression may stand here too: what depends on it takes the argument in its place.
        outputs: a variable, a list or a dict of them, or None.
        updates: pairs (shared variable, new value), a list or a dict.
        givens: pairs (variable, replacement), a list or a dict: what to compute with instead of variables.
        no_default_updates: True to leave random streams where they are, so that each call draws the same.
        name: for messages.
        allow_input_downcast: True to cast arguments to the inputs' dtypes whatever is lost; None lets Python floats
            become floatX; False nothing.
        on_unused_input: 'raise', 'warn' or 'ignore'; by default as config says.
        mode: 'FAST_COMPILE' or 'DebugMode' to compute expression by expression at every call. Others, FAST_RUN by
            default, records the third call with `minigrad.jit` and replays it, for each of a few sets of shapes.
            What can't be recorded, as a mask, is computed expression by expression.
        accept_inplace, rebuild_strict, profile: accepted, and ignored.

    Raises:
        ArgumentTypeError: for inputs that are no symbolic variables, or shared ones, and updates of others.
        UnusedInputError: for an input that nothing needs. MissingInputError: for one that is needed and not there.
        DTypeError, ShapeError: for an update of another dtype or number of dimensions than its variable.

    Source: the interface of Theano 1.0 (Theano Development Team 2016, arXiv:1605.02688).

    Example:
        >>> import numpy as np
        >>> from minigrad.dialects import theano
        >>> import minigrad.dialects.theano.tensor as T
        >>> x, w = T.dmatrix("x"), theano.shared(np.ones(2), name="w")
        >>> cost = T.sqr(T.dot(x, w)).mean()
        >>> train = theano.function([x], cost, updates=[(w, w - 0.1 * T.grad(cost, w))])
        >>> [round(float(train([[1.0, 2.0]])), 3) for _ in range(3)]
        [9.0, 0.0, 0.0]
    """
    replay = (config.mode if mode is None else mode) not in _STEPWISE
    options = no_default_updates, name, allow_input_downcast, on_unused_input, replay
    return Function(inputs, outputs, updates, givens, *options)


class Function:
    """What `function` returns.

    Attributes:
        name: as given.
        inputs, outputs: the symbolic variables.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        outputs: Any,
        updates: Any,
        givens: Any,
        no_default_updates: Any,
        name: str | None,
        allow_input_downcast: bool | None,
        on_unused_input: str | None,
        replay: bool,
    ):
        self.name = name
        self._label = name or "function"
        self._ins = _inputs(self._label, inputs, allow_input_downcast)
        self.inputs = [i.variable for i in self._ins]
        # What an argument must be to be taken as it is; -1 where lengths of 1 are to be checked too.
        types = [v.type for v in self.inputs]
        self._wanted = [(np.dtype(t.dtype), -1 if any(t.broadcastable) else t.ndim) for t in types]
        self._shape_of_result, self.outputs = _outputs(self._label, outputs)
        self._updates = _updates(self._label, updates)
        # An input may be an expression: a fresh variable takes its place.
        self._leaves = [v if v.owner is None else Variable(v.type, name=v.name) for v in self.inputs]
        replaced = [(v, leaf) for v, leaf in zip(self.inputs, self._leaves) if v.owner is not None]
        pairs = replaced + _givens(self._label, givens)
        wanted = [*self.outputs, *self._updates.values()]
        canonical = Canonical(wanted, pairs)
        self._targets, count = list(self._updates), len(self.outputs)
        self._check_inputs(on_unused_input, canonical.outputs)
        self._program = Program(self._leaves, canonical.outputs[:count], canonical.outputs[count:])
        self._run = Replayed(self._program, self._targets, replay)
        found = [v.owner.operation.run for v in ancestors(canonical.outputs) if v.owner is not None]
        self._streams = [run.generator for run in found if hasattr(run, "generator")] if no_default_updates else []
        self._constants = {id(v.data) for v in ancestors(canonical.outputs) if isinstance(v, Constant)}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs as arrays of their own: one, a list or a dict, as the function was asked for.

        Raises:
            ArgumentTypeError: for arguments that are too many, missing, unknown or given twice.
            DTypeError, ShapeError: for an argument that does not fit its input's type, naming it.
        """
        states = [g.get_state() for g in self._streams]
        given = self._values(args, kwargs)
        results = self._results(self._run(given), {id(array) for array in given})
        for stream, state in zip(self._streams, states):
            stream.set_state(state)
        if self._shape_of_result is None:
            return results[0] if results else []
        if isinstance(self._shape_of_result, list):
            return dict(zip(self._shape_of_result, results))
        return results

    def __repr__(self) -> str:
        return f"<theano function {self._label}({', '.join(map(repr, self.inputs))})>"

    def get_shared(self) -> list[SharedVariable]:
        """The shared variables that the function reads."""
        return list(self._program.shared)

    def _values(self, args: tuple, kwargs: dict[str, Any]) -> list[np.ndarray]:
        if len(args) > len(self._ins):
            raise ArgumentTypeError(f"{self._label}: takes {len(self._ins)} arguments, got {len(args)}")
        values: list[Any] = list(args)
        for place in range(len(args), len(self._ins)):
            given = self._ins[place]
            if given.name in kwargs:
                values.append(kwargs.pop(given.name))
            elif given.value is not None:
                values.append(given.value)
            else:
                raise ArgumentTypeError(f"{self._label}: no value for {self._described(place)}; takes {len(self._ins)}")
        if kwargs:
            raise ArgumentTypeError(f"{self._label}: got {sorted(kwargs)}, which name no input that is left")
        for place, (value, (dtype, ndim)) in enumerate(zip(values, self._wanted)):
            if value.__class__ is np.ndarray and value.dtype is dtype and value.ndim == ndim:
                continue
            given = self._ins[place]
            what = f"{self._label}: {self._described(place)}"
            values[place] = as_value(what, value, given.variable.type, given.allow_downcast)
        return values

    def _described(self, place: int) -> str:
        """An input in words."""
        name = self._ins[place].name
        return f"input {place}" + (f" ({name})" if name is not None else "")

    def _results(self, values: Sequence[Any], given: set[int]) -> list[np.ndarray]:
        """The outputs as arrays that nothing else refers to; `given` are the identities of the arguments."""
        results: list[np.ndarray] = []
        for i, value in enumerate(values):
            if isinstance(value, Tensor):
                array = value._data
                foreign = array.base is not None or value._version is not None or id(array) in given
                if foreign or id(array) in self._constants or any(array is other for other in results):
                    array = array.copy()
                results.append(array)
            else:
                results.append(np.array(value, self._program.dtypes[i]))
        return results

    def _check_inputs(self, on_unused_input: str | None, outputs: Sequence[Variable]) -> None:
        order = ancestors(outputs)
        used = [v for v in order if v.owner is None and not isinstance(v, Constant)]
        missing = [v for v in used if not isinstance(v, SharedVariable) and v not in self._leaves]
        if missing:
            wanted = missing[0]
            users = [v.owner for v in order if v.owner is not None and wanted in v.owner.inputs]
            where = f", which {users[0].name} at {users[0].where} needs" if users else ""
            raise MissingInputError(
                f"{self._label}: {wanted!r} of {wanted.type!r}{where}, is neither among the inputs nor given a value"
            )
        policy = config.on_unused_input if on_unused_input is None else on_unused_input
        if policy not in ("raise", "warn", "ignore"):
            raise ArgumentError(f"{self._label}: on_unused_input is {policy!r}, expected 'raise', 'warn' or 'ignore'")
        if policy == "ignore":
            return
        for place, v in enumerate(self._leaves):
            if v not in used:
                message = (
                    f"{self._label}: {self._described(place)} is not needed for any output or update; "
                    "on_unused_input='ignore' accepts that"
                )
                if policy == "raise":
                    raise UnusedInputError(message)
                warnings.warn(message, UserWarning, stacklevel=4)


def _inputs(label: str, inputs: Any, allow_downcast: bool | None) -> list[In]:
    if not isinstance(inputs, (list, tuple)):
        raise ArgumentTypeError(f"{label}: inputs is {inputs!r}, expected a list of symbolic variables")
    found: list[In] = []
    for place, item in enumerate(inputs):
        given = item if isinstance(item, In) else In(item) if isinstance(item, Variable) else None
        if given is None:
            raise ArgumentTypeError(f"{label}: input {place} is {item!r}, expected a symbolic variable")
        if isinstance(given.variable, SharedVariable):
            raise ArgumentTypeError(
                f"{label}: input {place} is the shared variable {item!r}; functions read it as it is"
            )
        if isinstance(given.variable, Constant):
            raise ArgumentTypeError(f"{label}: input {place} is the constant {item!r}, expected a symbolic variable")
        if any(given.variable is other.variable for other in found):
            raise ArgumentError(f"{label}: input {place} ({given.variable!r}) stands in the list twice")
        if given.allow_downcast is None:
            given = In(given.variable, given.name, given.value, allow_downcast=allow_downcast)
        found.append(given)
    return found


def _outputs(label: str, outputs: Any) -> tuple[Any, list[Variable]]:
    """None for one output, the keys for a dict, True for a list; and the variables."""
    unpacked = [o.variable if isinstance(o, Out) else o for o in _listed(outputs)]
    for place, item in enumerate(unpacked):
        if not isinstance(item, (Variable, int, float, np.ndarray, np.generic)):
            raise ArgumentTypeError(f"{label}: output {place} is {item!r}, expected a symbolic variable")
    variables = [as_variable(item) for item in unpacked]
    if isinstance(outputs, Mapping):
        return list(outputs), variables
    return (True if isinstance(outputs, (list, tuple)) else None), variables


def _listed(outputs: Any) -> list[Any]:
    if outputs is None:
        return []
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def _pairs(label: str, argument: str, given: Any) -> list[tuple[Any, Any]]:
    if given is None:
        return []
    try:
        return [(key, value) for key, value in (given.items() if isinstance(given, Mapping) else given)]
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{label}: {argument} is {given!r}, expected pairs or a dict") from None


def _updates(label: str, updates: Any) -> dict[SharedVariable, Variable]:
    found: dict[SharedVariable, Variable] = {}
    for target, value in _pairs(label, "updates", updates):
        if not isinstance(target, SharedVariable):
            raise ArgumentTypeError(f"{label}: updates holds {target!r}, expected shared variables")
        if target in found:
            raise ArgumentError(f"{label}: updates has two new values for {target!r}")
        constant = not isinstance(value, Variable)
        new = as_variable(
            as_value(f"{label}: the update of {target!r}", value, target.type, None) if constant else value
        )
        if new.dtype != target.dtype:
            raise DTypeError(
                f"{label}: the update of {target!r} has dtype {new.dtype}, expected {target.dtype}; use T.cast, or "
                "make constants and inputs of that dtype"
            )
        if new.ndim != target.ndim:
            raise ShapeError(f"{label}: the update of {target!r} has {new.ndim} dimensions, expected {target.ndim}")
        found[target] = new
    return found


def _givens(label: str, givens: Any) -> list[tuple[Variable, Variable]]:
    found = []
    for old, value in _pairs(label, "givens", givens):
        if not isinstance(old, Variable):
            raise ArgumentTypeError(f"{label}: givens holds {old!r}, expected symbolic variables")
        constant = not isinstance(value, Variable)
        new = as_variable(as_value(f"{label}: what is given for {old!r}", value, old.type, None) if constant else value)
        if new.dtype != old.dtype:
            raise DTypeError(
                f"{label}: what is given for {old!r} has dtype {new.dtype}, expected {old.dtype}; use T.cast"
            )
        if new.ndim != old.ndim:
            raise ShapeError(f"{label}: what is given for {old!r} has {new.ndim} dimensions, expected {old.ndim}")
        found.append((old, new))
    return found
