"""Primitive: a record of rules for one differentiable operation, and what happens when it is called."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Sequence
from operator import is_not, itemgetter
from typing import Any

import numpy as np

from minigrad import halves, registry
from minigrad.calls import Kernel, Plan
from minigrad.devices.cuda import DeviceArray
from minigrad.errors import (
    ArgumentTypeError,
    DeviceError,
    MissingRuleError,
    RegistrationError,
    UndefinedDerivativeError,
)
from minigrad.registry import get, namespaces, primitives, registered, restore
from minigrad.rules import Abstract, Invariance, Sample
from minigrad.tape import DEVICES, Node, is_recording, on_device, state
from minigrad.tensor import Tensor, as_tensor

__all__ = [
    "DEVICES",
    "Abstract",
    "Invariance",
    "Primitive",
    "Sample",
    "get",
    "namespaces",
    "on_device",
    "primitives",
    "registered",
    "restore",
]

_MOST_PLANS = 4096  # shapes remembered a primitive
Saved: Any = namedtuple("Saved", ("shapes",))  # what a vjp rule gets that saves nothing
_shapes_alone = itemgetter(slice(-1, None))


class Primitive:
    """A differentiable operation, as a record of rules that are added by decorators.

    Args:
        name: ``namespace::name``, unique in the process.
        outputs: the outputs' names. With one output a call returns a tensor, with several a tuple.
        frozen: inputs and outputs that are constants by definition: no gradient flows to or from them.
        mutates: inputs that must be Variables, whose arrays the kernel overwrites; such a primitive has no outputs. A
            variadic input named here holds groups, of Variables that are overwritten and of values.
        group: of such groups, how many inputs each has, and how many of those, the first ones, are Variables.
        analytic: whether the reference is complex differentiable where it is differentiable at all, so that a complex
            step checks it; False for one that takes magnitudes, compares or rounds.
        view: the kernel returns arrays that share its first input's memory.
        moves: the kernels move elements or cast them, of any dtype, and compute with none. Elsewhere on the CPU half
            types are computed in float32, for which kernels need do nothing.
        override: replace a primitive of that name instead of refusing the second registration.
        derived: made by another primitive for its derivative; not listed by `primitives`.

    The rules:
        infer(*inputs, **params): abstract values in, abstract outputs out (one, or a tuple). Its signature names the
            inputs (positional) and the params (keyword-only). Everything that is wrong with shapes, dtypes and params
            raises here. An absent input is None.
        kernel("reference"): NumPy, the definition, for any real or complex float. Returns the output, or a tuple.
        kernel("cpu"): fills ``out`` and allocates nothing: one array, or with several outputs or with workspaces a
            tuple of the outputs' buffers, then the workspaces'. Registered together, ``kernel("reference", "cpu")``,
            the NumPy definition serves the CPU as well: for where NumPy is at the limit already.
        kernel("cuda"): as for the CPU, with `minigrad.devices.cuda.DeviceArray`\\ s, on the current stream of the GPU;
            temporary memory comes from `minigrad.devices.cuda.empty`.
        kernel("cpu", planned=True): gets abstract inputs and the params, once for each combination of them, and returns
            the function ``fill(out, *inputs)``: for work on shapes that should not be done again at each call.
        workspace(*inputs, **params): abstract values of scratch buffers, if kernels need any.
        vjp(saves): cotangents of the inputs, from the outputs' (a tensor, or a tuple in which None is a zero).
            `saves` names inputs and outputs; the rule finds them as attributes of its second argument, and the shapes
            of all inputs as ``saved.shapes``. `needs` has a bool for each input. Written in primitives. None stands
            for a zero.
        jvp: tangents of the outputs from those of the inputs (None is a zero).
        finish(name, **params): the params of a call whose kernels also apply the elementwise primitive of this name to
            the first output, which `jit` then has them do where nothing else needs that output; None if they can't.
        samples(rng): yields `Sample`\\ s, on which the checks run.

    Raises:
        RegistrationError: if the name is taken or malformed.

    Example:
        >>> import numpy as np, minigrad as mg
        >>> double = mg.Primitive("doctest::double", override=True)
        >>> @double.infer
        ... def _(x):
        ...     return mg.Abstract(x.shape, x.dtype)
        >>> @double.kernel("reference", "cpu")
        ... def _(x):
        ...     return 2 * x
        >>> @double.vjp()
        ... def _(ct, saved, needs):
        ...     return double(ct)
        >>> mg.grad(lambda x: double(x).sum())(mg.tensor([1.0, 3.0]))
        tensor([2., 2.], dtype=float32)
    """

    def __init__(
        self,
        name: str,
        *,
        outputs: Sequence[str] = ("out",),
        frozen: Sequence[str] = (),
        mutates: Sequence[str] = (),
        group: tuple[int, int] = (2, 1),
        analytic: bool = True,
        view: bool = False,
        moves: bool = False,
        override: bool = False,
        derived: bool = False,
    ):
        self.name = name
        self.outputs = () if mutates else tuple(outputs)
        self.frozen = frozenset(frozen)
        self.mutates = tuple(mutates)
        self.view = view
        self.moves = moves or view
        self.analytic = analytic
        self.derived = derived
        self.inputs: tuple[str, ...] = ()
        self.params: tuple[str, ...] = ()
        self.vjp_saves: tuple[str, ...] = ()
        self.saves_outputs = False
        self.vjp_sources: tuple[tuple[bool, int], ...] = ()
        self.vjp_record: Any = Saved
        self.kept: Callable[[tuple], tuple] = _shapes_alone  # of (*inputs, *outputs, shapes): what a node saves
        self.undefined: str | None = None
        self._infer: Callable | None = None
        self._workspace: Callable | None = None
        self.vjp_rule: Callable | None = None
        self._jvp: Callable | None = None
        self._samples: Callable | None = None
        self.finish_rule: Callable = lambda name, **params: None
        self._kernels: dict[str, Kernel] = {}  # by device
        self._plans: dict[tuple, Plan] = {}
        self._mutated: tuple[int, ...] = ()
        self._group = group
        self._groups_from: int | None = None
        self._frozen_inputs: frozenset[int] = frozenset()
        registry.add(self, override)

    def __repr__(self) -> str:
        return f"<Primitive {self.name}({', '.join(self.inputs)})>"

    # The rules

    def infer(self, rule: Callable) -> Callable:
        """Register the rule for shapes and dtypes; it names inputs and params."""
        kinds = inspect.Parameter
        parameters = list(inspect.signature(rule).parameters.values())
        self.inputs = tuple(
            p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        )
        self.params = tuple(p.name for p in parameters if p.kind is kinds.KEYWORD_ONLY)
        variadic = {p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL}
        self._groups_from = len(self.inputs) if variadic & set(self.mutates) else None
        unknown = (set(self.mutates) - set(self.inputs)) | (self.frozen - {*self.inputs, *self.outputs})
        if unknown and not self.variadic(rule):
            raise RegistrationError(f"{self.name}: {sorted(unknown)} name no input or output of the infer rule")
        self._mutated = tuple(self.inputs.index(n) for n in self.mutates if n in self.inputs)
        self._frozen_inputs = frozenset(i for i, n in enumerate(self.inputs) if n in self.frozen)
        self._infer = rule
        return rule

    @staticmethod
    def variadic(rule: Callable) -> bool:
        return any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in inspect.signature(rule).parameters.values())

    def kernel(self, *devices: str, planned: bool = False, returns: bool = False) -> Callable:
        """Register the kernel of a device; with ``"reference"``, or if told so, one that returns its outputs."""
        unknown = set(devices) - set(DEVICES)
        if unknown or not devices:
            raise RegistrationError(f"{self.name}: unknown device {sorted(unknown)}, expected some of {DEVICES}")
        returns = returns or "reference" in devices
        if returns and planned:
            raise RegistrationError(f"{self.name}: the reference kernel can't be a planned one")

        def register(function: Callable) -> Callable:
            for device in devices:
                self._kernels[device] = Kernel(function, returns, planned)
            return function

        return register

    def workspace(self, rule: Callable) -> Callable:
        """Register the rule for scratch buffers."""
        self._workspace = rule
        return rule

    def vjp(self, saves: Sequence[str] = ()) -> Callable:
        """Register the reverse rule and what it saves: inputs and declared outputs, nothing else."""
        unknown = [n for n in saves if n not in self.inputs and n not in self.outputs]
        if unknown:
            raise RegistrationError(
                f"{self.name}: saves names {unknown}, expected inputs {self.inputs} or outputs {self.outputs}"
            )

        def register(rule: Callable) -> Callable:
            self.vjp_saves = tuple(saves)
            self.saves_outputs = any(n not in self.inputs for n in saves)
            self.vjp_sources = tuple(
                (True, self.inputs.index(n)) if n in self.inputs else (False, self.outputs.index(n)) for n in saves
            )
            record: Any = namedtuple("Saved", (*saves, "shapes"))  # type: ignore[misc]
            self.vjp_record = record
            places = [i if is_input else i - len(self.outputs) - 1 for is_input, i in self.vjp_sources]
            self.kept = itemgetter(*places, -1) if places else _shapes_alone
            self.vjp_rule = rule
            return rule

        return register

    def jvp(self, rule: Callable) -> Callable:
        """Register the forward rule."""
        self._jvp = rule
        return rule

    def no_derivative(self, why: str) -> None:
        """Declare that the derivative does not exist, which differs from a zero and from a rule yet to be written."""
        self.undefined = why

    def finish(self, rule: Callable) -> Callable:
        """Register the rule for elementwise work on the first output that the kernels can do themselves."""
        self.finish_rule = rule
        return rule

    def samples(self, rule: Callable) -> Callable:
        """Register the samples."""
        self._samples = rule
        return rule

    # What the rules are asked for

    def kernel_for(self, device: str, inputs: Sequence[Abstract | None], outputs: Sequence[Abstract]) -> Kernel:
        """The kernel for inputs and outputs like these."""
        rule = self._kernel(device)
        if self.moves or device == "cuda" or not halves.concerned((*inputs, *outputs)):
            return rule
        return halves.through_float32(self, rule, outputs)

    def scratch(self, inputs: Sequence[Abstract | None], params: dict) -> Sequence[Abstract]:
        """The scratch buffers that a kernel of the CPU needs for a call like this."""
        return self._workspace(*inputs, **params) if self._workspace else ()

    @property
    def single_target(self) -> bool:
        """Whether its kernels are given one array to overwrite, and not a tuple."""
        return len(self.mutates) == 1 and bool(self._mutated)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that it has kernels for."""
        return tuple(self._kernels)

    @property
    def has_vjp(self) -> bool:
        return self.vjp_rule is not None

    @property
    def has_jvp(self) -> bool:
        return self._jvp is not None

    @property
    def is_differentiable(self) -> bool:
        """Whether it has outputs to differentiate and does not declare the derivative undefined."""
        return bool(self.outputs) and self.undefined is None

    def mutated_inputs(self, count: int) -> Sequence[int]:
        """The places of the inputs that a call with `count` inputs overwrites."""
        if self._groups_from is None:
            return self._mutated
        size, variables = self._group
        return [i + k for i in range(self._groups_from, count, size) for k in range(variables)]

    def draw_samples(self, seed: int = 0) -> list[Sample]:
        """The samples, from a generator with this seed; an empty list if there is no rule."""
        return list(self._samples(np.random.default_rng(seed))) if self._samples else []

    def input_name(self, i: int) -> str:
        """The name of an input; variadic primitives number theirs."""
        return self.inputs[i] if i < len(self.inputs) else f"input {i}"

    def abstract(self, *inputs: Abstract | None, **params: Any) -> tuple[Abstract, ...]:
        """The outputs' shapes and dtypes."""
        if self._infer is None:
            raise MissingRuleError(f"{self.name}: has no infer rule")
        result = self._infer(*inputs, **params)
        return (result,) if isinstance(result, Abstract) else tuple(result or ())

    def reference(self, *arrays: np.ndarray | None, **params: Any) -> tuple[np.ndarray, ...]:
        """The outputs by the reference kernel, on arrays, without recording anything."""
        return _as_tuple(self._kernel("reference").function(*arrays, **params))

    def push_forward(
        self,
        tangents: Sequence[Tensor | None],
        primals: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        params: dict,
    ) -> tuple[Tensor | None, ...]:
        """Tangents of the outputs, one for each, None for zeros."""
        if self._jvp is None:
            raise self.missing("jvp")
        result = self._jvp(tuple(tangents), tuple(primals), tuple(outputs), **params)
        result = (result,) if isinstance(result, Tensor) or result is None else tuple(result)
        return tuple(None if name in self.frozen else t for name, t in zip(self.outputs, result))

    def missing(self, kind: str) -> Exception:
        """The error for a derivative rule that is not there."""
        if self.undefined is not None:
            return UndefinedDerivativeError(f"{self.name}: the derivative is undefined: {self.undefined}")
        return MissingRuleError(f"{self.name}: has no {kind} rule")

    def _kernel(self, device: str) -> Kernel:
        try:
            return self._kernels[device]
        except KeyError:
            hint = "; move its inputs with .to('cpu'), or register one" if device == "cuda" else ""
            raise DeviceError(
                f"{self.name}: has no kernel for {device!r}, only for {list(self._kernels)}{hint}"
            ) from None

    def _gpu_of(self, arrays: Sequence[Any]) -> int:
        """The one GPU that all inputs are on."""
        devices = {a.lease.stream.device if a.__class__ is DeviceArray else -1 for a in arrays if a is not None}
        if len(devices) == 1:
            return devices.pop()
        places = [None if a is None else a.device if a.__class__ is DeviceArray else "cpu" for a in arrays]
        first = next(i for i, place in enumerate(places) if place is not None)
        other = next(i for i, place in enumerate(places) if place is not None and place != places[first])
        raise DeviceError(
            f"{self.name}: {self.input_name(first)} is on {places[first]!r}, {self.input_name(other)} on "
            f"{places[other]!r}; move one with .to(device)"
        )

    # A call

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """Run the kernel on tensors, record the call if an input requires gradients, and return the outputs."""
        here = state.__dict__  # of this thread; one look-up instead of one for each attribute
        parts: list = [here["device"]]
        arrays: list = []
        followed = False  # whether an input requires gradients
        changeable = on_gpu = False
        try:
            for t in inputs:
                if t is None:
                    arrays.append(None)
                    parts.append(None)
                else:
                    a = t._data
                    if a.__class__ is DeviceArray:
                        on_gpu = True
                    arrays.append(a)
                    parts.append(a.shape)
                    parts.append(a.dtype)
                    if t._node is not None:
                        followed = True
                    if t._version is not None:
                        changeable = True
            if on_gpu:
                parts[0] = self._gpu_of(arrays)
            if params:
                parts += params
                parts += params.values()
            plan = self._plans.get(tuple(parts))
        except (AttributeError, TypeError):  # what is no tensor, and params that can't be hashed
            plan = None
        if plan is None:
            admitted = self._admitted(inputs, params)
            if any(map(is_not, admitted, inputs)):
                return self(*admitted, **params)
            plan = self._plan(parts, arrays, params)
        if self.mutates:
            self._run_in_place(plan, inputs, arrays, params)
            return None
        out: Any = None
        if plan.single:
            shape, dtype, empty = plan.buffers[0]
            out = empty(shape, dtype)
            arrays.insert(0, out)
        elif not plan.returns:
            out = tuple([empty(shape, dtype) for shape, dtype, empty in plan.buffers])
            arrays.insert(0, out)
        # Without a dictionary of no params a call is a quarter faster.
        found = plan.kernel(*arrays, **params) if params and not plan.planned else plan.kernel(*arrays)
        results = (out,) if plan.single else out[: plan.outputs] if out is not None else _as_tuple(found)
        version = inputs[0]._version if self.view else None
        node = None
        if followed and plan.recorded and not here["no_grad"] and (not here["suspendable"] or is_recording()):
            edges = [None if t is None or t._node is None else (t._node, t._index) for t in inputs]
            for i in self._frozen_inputs:
                edges[i] = None
            needs = tuple([e is not None for e in edges])
            if True in needs:
                node = self._record(inputs, results, params, tuple(edges), needs, plan.shapes, changeable)
        outputs: Sequence[Tensor]
        if len(results) == 1:
            outputs = (Tensor(results[0], node, 0, version),)
        elif node is None:
            outputs = tuple([Tensor(r, None, 0, version) for r in results])
        else:
            flows = plan.differentiable
            outputs = tuple([Tensor(r, node if flows[i] else None, i, version) for i, r in enumerate(results)])
        if here["observers"]:
            for observer in tuple(here["observers"]):
                observer(self, inputs, outputs, params)
        return outputs[0] if len(outputs) == 1 else outputs

    def _admitted(self, inputs: Sequence[Any], params: dict) -> Sequence[Any]:
        """The inputs of a call that is the first of its kind as it takes them: the same objects where they will do."""
        like = next((t for t in inputs if isinstance(t, Tensor)), None)
        return [None if t is None else as_tensor(t, like=like) for t in inputs]

    def _record(
        self, inputs: tuple, results: tuple, params: dict, edges: tuple, needs: tuple, shapes: tuple, changeable: bool
    ) -> Node:
        """The node of a call."""
        # Outputs are kept as bare arrays, or node and output would hold each other.
        saved = self.kept((*inputs, *results, shapes))
        return Node(self, params, edges, needs, len(results), saved, self._versions(inputs) if changeable else ())

    def _versions(self, inputs: Sequence[Any]) -> tuple:
        """Of what a call saves and what can change: the counter, what that stands at, and the place among the saved."""
        found = []
        for place, (is_input, i) in enumerate(self.vjp_sources):
            t = inputs[i] if is_input else inputs[0] if self.view else None
            if t is not None and t._version is not None:
                found.append((t._version, t._version[0], place))
        return tuple(found)

    def _run_in_place(self, plan: Plan, inputs: Sequence[Any], arrays: list, params: dict) -> None:
        places = self.mutated_inputs(len(inputs))
        for i in places:
            if inputs[i]._version is None:
                raise ArgumentTypeError(f"{self.name}: {self.input_name(i)} must be a Variable, got a constant tensor")
        for i in places:
            inputs[i]._version[0] += 1
        targets = tuple([arrays[i] for i in places])
        given = {} if plan.planned else params
        if plan.returns:
            for target, result in zip(targets, _as_tuple(plan.kernel(*arrays, **given))):
                np.copyto(target, result)
        else:
            plan.kernel(targets[0] if self.single_target else targets, *arrays, **given)
        if state.observers:
            for observer in tuple(state.observers):
                observer(self, inputs, [], params)

    def _plan(self, parts: Sequence[Any], arrays: Sequence[np.ndarray | None], params: dict) -> Plan:
        """What a call with such inputs and params needs, remembered under the parts of its key."""
        self._check_call(arrays, params)
        key = tuple(parts)
        try:
            hash(key)
        except TypeError as error:
            raise ArgumentTypeError(f"{self.name}: arguments must be hashable, lists are not ({error})") from error
        values = [None if a is None else Abstract(a.shape, a.dtype) for a in arrays]
        specs = self.abstract(*values, **params)
        gpu = key[0] if isinstance(key[0], int) else None
        frozen = [i for i, name in enumerate(self.outputs) if name in self.frozen] if self.frozen else ()
        rule = self.kernel_for(key[0] if gpu is None else "cuda", values, specs)
        workspaces = self.scratch(values, params) if gpu is None and not rule.returns else ()
        plan = Plan(specs, workspaces, values, params, rule, frozen, gpu)
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    def _check_call(self, arrays: Sequence[Any], params: dict) -> None:
        if self._infer is None:
            raise MissingRuleError(f"{self.name}: has no infer rule")
        if len(arrays) != len(self.inputs) and not self.variadic(self._infer):
            raise ArgumentTypeError(f"{self.name}: takes {len(self.inputs)} inputs {self.inputs}, got {len(arrays)}")
        unknown = set(params) - set(self.params)
        if unknown:
            raise ArgumentTypeError(f"{self.name}: unknown argument {sorted(unknown)}, expected {self.params}")


def _as_tuple(results: Any) -> tuple[np.ndarray, ...]:
    return tuple([_as_array(r) for r in results]) if isinstance(results, tuple) else (_as_array(results),)


def _as_array(result: Any) -> Any:
    return result if result.__class__ is np.ndarray or result.__class__ is DeviceArray else np.asarray(result)
