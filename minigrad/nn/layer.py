"""Layer: what every layer is. Sequential: layers one after another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, MissingRuleError, ShapeError
from minigrad.nn import constraints, initializers, regularizers
from minigrad.ops.generator import Generator
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, Variable, as_tensor, move, on


class Layer:
    """A function of tensors with Variables of its own, which it makes when it sees its first input.

    A layer defines ``call(x, training)`` and, if it has Variables, ``build(shape)``, which makes them with
    `add_variable` and is called by `build_once`. Further arguments that `call` names are given by keyword:
    ``layer(x, labels=labels)``. Layers, Variables and Generators that are attributes of a layer,
    alone or in lists, tuples and dicts, are found by it. A layer that is used in several places is one layer: its
    Variables are listed and trained once. ``copy.deepcopy`` gives a layer that shares nothing with this one.

    Args:
        name: for summaries, messages and checkpoints; by default the class's name.
        dtype: of the Variables.

    Attributes:
        worked_out: names of attributes that `call` sets by the shape of its input alone, a constant of the class: to
            `fit` they are no change of the layer.
        trainable: set it to False, and training leaves the Variables of this layer and the inner ones alone.
        device: where the Variables are, or will be made: where the first input is, unless `to` says something else.

    Raises:
        ArgumentTypeError: when called, for a keyword argument that `call` does not take.

    Example:
        >>> import minigrad as mg
        >>> class Scale(mg.nn.Layer):
        ...     def build(self, shape):
        ...         self.factor = self.add_variable("factor", shape[-1:], "ones")
        ...
        ...     def call(self, x, training):
        ...         return x * self.factor
        >>> layer = Scale()
        >>> layer(mg.tensor([[1.0, 2.0]]))
        tensor([[1., 2.]], dtype=float32, requires_grad=True)
        >>> list(layer.variables)
        ['factor']
    """

    worked_out: frozenset[str] = frozenset()

    def __init__(self, name: str | None = None, dtype: Any = None):
        self.name = name or type(self).__name__.lower()
        self.dtype = dtypes.as_dtype(dtype or dtypes.default_float)
        self.built = False
        self.trainable = True
        self.generator: Any = None
        self._device: str | None = None  # as long as nobody has said

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the Variables for inputs of this shape; None stands for any length. Called by `build_once`."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        """The layer's output."""
        raise MissingRuleError(f"{self.name}: {type(self).__name__} defines no call(x, training)")

    def __call__(self, x: Any, training: bool = False, **options: Any) -> Tensor:
        if not isinstance(x, Tensor):
            x = as_tensor(x)
        if not self.built:
            self._device = self._device or x.device
            self.build_once(x.shape)
        if not options:
            return self.call(x, training)
        if unknown := options.keys() - self.options:
            raise ArgumentTypeError(f"{self.name}: got {sorted(unknown)}, call takes {sorted(self.options)} besides x")
        return self.call(x, training, **options)

    @property
    def options(self) -> frozenset[str]:
        """The names of the keyword arguments that ``call`` takes besides x and training.

        One that takes ``**options`` is taken to hand them on to the inner layers.
        """
        names, others = _options(type(self).call)
        return names.union(*(layer.options for _, layer in self.inner_layers)) if others else names

    def build_once(self, shape: Sequence[int | None]) -> None:
        """Make the Variables if there are none yet, as the first input of this shape would."""
        if not self.built:
            self._hand_down()
            self.build(tuple(shape))
            self._hand_down()  # to the layers that build made
            self.built = True

    def to(self, device: str) -> Layer:
        """Move the Variables to a device, in place, and return the layer. What is yet to be made will be made there.

        Args:
            device: as of `Tensor.to`.

        Raises:
            ArgumentError: for what names no device.
            DeviceError, OutOfMemoryError: for a GPU that is not there, or has no room.

        Example:
            >>> import minigrad as mg
            >>> mg.nn.Dense(3).to("cpu").device
            'cpu'
        """
        name = "cpu" if (index := cuda.index_of(device)) is None else cuda.name_of(index)
        for variable in self.variables.values():
            move(variable, name)
        for _, layer in self._walk():
            layer._device = name
        return self

    @property
    def device(self) -> str:
        return self._device or "cpu"

    def replaced(self, **attributes: Any) -> Any:
        """This layer with other values for some attributes, for one call; all else is shared, and itself it stays.

        How a kernel that is computed from other Variables gets into a layer: ``layer.replaced(kernel=w)(x)``. What
        `call` assigns to attributes is lost; what it assigns to Variables is not.
        """
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.__dict__.update(attributes)
        return twin

    def add_variable(
        self,
        name: str,
        shape: Sequence[int | None],
        initializer: Any,
        trainable: bool = True,
        dtype: Any = None,
        regularizer: Any = None,
        constraint: Any = None,
    ) -> Variable:
        """A Variable with first values from `initializer` (a name, or a function of shape, dtype and generator).

        Args:
            name, shape, initializer, trainable, dtype: its own; the dtype is the layer's if not given.
            regularizer: a name, or a function of the Variable that gives a penalty, one of the layer's `losses`.
            constraint: a name, or a function from its values to allowed ones, applied after each update.

        Raises:
            ShapeError: if a length is unknown, or the initializer returns another shape.
            ArgumentError, ArgumentTypeError: for an unknown name, or what is neither a name nor a function.
        """
        if any(n is None for n in shape):
            raise ShapeError(
                f"{self.name}: {name} would have shape {tuple(shape)}; this axis of the input must be known"
            )
        dtype = dtypes.as_dtype(dtype or self.dtype)
        sizes = tuple(int(n) for n in shape if n is not None)
        values = initializers.get(initializer)(sizes, dtype, self.generator)
        if np.shape(values) != sizes:
            raise ShapeError(f"{self.name}: the initializer of {name} gave shape {np.shape(values)}, expected {sizes}")
        variable = Variable(values, trainable, dtype, f"{self.name}/{name}", self.device)
        variable.regularizer, variable.constraint = regularizers.get(regularizer), constraints.get(constraint)
        return variable

    def add_parameter(self, name: str, shape: Sequence[int | None]) -> Variable:
        """A trained Variable with the layer's attributes ``<name>_initializer``, ``_regularizer`` and ``_constraint``.

        Those of regularizer and constraint may be missing.

        Raises:
            as `add_variable`.
        """
        regularizer, constraint = (getattr(self, f"{name}_{kind}", None) for kind in ("regularizer", "constraint"))
        initializer = getattr(self, f"{name}_initializer")
        return self.add_variable(name, shape, initializer, regularizer=regularizer, constraint=constraint)

    @property
    def inner_layers(self) -> list[tuple[str, Layer]]:
        """The layers inside, each with the name of its place."""
        return [(place, value) for place, value in self._held() if isinstance(value, Layer)]

    @property
    def variables(self) -> dict[str, Variable]:
        """All Variables by path, those of inner layers included; trained or not, each once, at its first path."""
        found: dict[str, Variable] = {}
        known = set()
        for prefix, layer in self._walk():
            for place, value in layer._held():
                variable = value.state if isinstance(value, Generator) else value
                if isinstance(variable, Variable) and id(variable) not in known:
                    known.add(id(variable))
                    found[prefix + place] = variable
        return found

    @property
    def trainable_variables(self) -> list[Variable]:
        """The Variables that training changes, each once, those of layers with ``trainable = False`` left out."""
        found: dict[int, Variable] = {}
        for _, layer in self._walk(frozen=False):
            for _, value in layer._held():
                if isinstance(value, Variable) and value.trainable:
                    found[id(value)] = value
        return list(found.values())

    @property
    def losses(self) -> list[Tensor]:
        """The penalties of the regularized Variables that train, here and in inner layers, computed when asked for.

        Training and `evaluate` add them to the loss; whoever writes a loop of their own adds their sum.

        Example:
            >>> import minigrad as mg
            >>> layer = mg.nn.Dense(1, kernel_initializer="ones", kernel_regularizer=mg.nn.regularizers.L2(0.5))
            >>> y = layer(mg.tensor([[1.0, 2.0]]))
            >>> layer.losses
            [tensor(1., dtype=float32, requires_grad=True)]
        """
        return [v.regularizer(v) for v in self.trainable_variables if v.regularizer is not None]

    @property
    def generators(self) -> list[Generator]:
        """The generators that `set_generator` gave to this layer and the inner ones, each once."""
        given = [layer.generator for _, layer in self._walk() if layer.generator is not None]
        return list({id(g): g for g in given}.values())

    def set_generator(self, generator: Generator | None) -> None:
        """Draw first values and noise from this generator instead of the default one, here and in all inner layers.

        Layers that are added later draw from it too, unless they were given one themselves.

        Raises:
            ArgumentTypeError: if it is no Generator.
        """
        if generator is not None and not isinstance(generator, Generator):
            raise ArgumentTypeError(f"{self.name}: generator is {generator!r}, expected a minigrad.random.Generator")
        for _, layer in self._walk():
            layer.generator = generator

    def _hand_down(self) -> None:
        """Give inner layers that have none the generator, and those that are yet to be built the device."""
        for _, layer in self._walk():
            if layer.generator is None:
                layer.generator = self.generator
            if not layer.built and layer._device is None:
                layer._device = self._device

    def _walk(self, frozen: bool = True) -> Iterator[tuple[str, Layer]]:
        """This layer and all inner ones, each once, with their paths; without `frozen`, only those that train."""
        seen: set[int] = set()
        stack: list[tuple[str, Layer]] = [("", self)]
        while stack:
            path, layer = stack.pop()
            if id(layer) in seen or not (frozen or layer.trainable):
                continue
            seen.add(id(layer))
            yield path, layer
            stack += [(f"{path}{place}/", inner) for place, inner in reversed(layer.inner_layers)]

    def _held(self) -> Iterator[tuple[str, Any]]:
        """The Layers, Variables and Generators among the attributes, except the generator to draw from."""
        for key, value in vars(self).items():
            if key != "generator":
                yield from _parts(key, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Sequential(Layer):
    """Layers one after another.

    A keyword argument of a call goes to each layer whose ``call`` takes it.

    Args:
        layers: each a Layer, or a function of a tensor.
        name: as of Layer.
        dtype: of the inputs in training; by default the widest of the layers'.

    Raises:
        ArgumentTypeError: for something that can't be called.
        ShapeError, DTypeError, ArgumentError: when a layer raises it, with the layer's place and the shape it got.

    Example:
        >>> import minigrad as mg
        >>> model = mg.nn.Sequential([mg.nn.Dense(4, activation="relu"), mg.nn.Dense(2)])
        >>> model(mg.tensor([[1.0, 2.0, 3.0]])).shape
        (1, 2)
        >>> list(model.variables)
        ['items/0/kernel', 'items/0/bias', 'items/1/kernel', 'items/1/bias']
    """

    def __init__(self, layers: Sequence[Any] = (), name: str | None = None, dtype: Any = None):
        super().__init__(name, dtype)
        self._given_dtype = dtype is not None
        self.items: list[Any] = []
        if not isinstance(layers, Iterable):
            raise ArgumentTypeError(f"{self.name}: layers is {layers!r}, expected a list")
        for layer in layers:
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Append a layer."""
        if not callable(layer):
            raise ArgumentTypeError(f"{self.name}: item {len(self.items)} is {layer!r}, expected a layer or a function")
        if isinstance(layer, type):
            raise ArgumentTypeError(
                f"{self.name}: item {len(self.items)} is the class {layer.__name__}, expected a layer"
            )
        self.items.append(layer)
        self._hand_down()
        if isinstance(layer, Layer) and not self._given_dtype:
            self.dtype = dtypes.promoted(self.dtype, layer.dtype)

    def __call__(self, x: Any, training: bool = False, **options: Any) -> Tensor:
        if not self.built:
            self._hand_down()
            self.built = True  # the items build themselves as the first input passes
        if not options:
            return self.call(x if isinstance(x, Tensor) else as_tensor(x), training)
        return super().__call__(x, training, **options)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the Variables of all layers, by passing zeros of this shape through, one for an unknown length."""
        with no_grad():
            self.call(on(self.device, np.zeros([1 if n is None else n for n in shape], self.dtype)), training=False)

    def call(self, x: Tensor, training: bool, **options: Any) -> Tensor:
        return self.pass_through(x, training, options)

    def pass_through(
        self, x: Tensor, training: bool, options: dict[str, Any], start: int = 0, stop: int | None = None
    ) -> Tensor:
        """What the layers from `start` to before `stop` make of x; errors tell which one they come from."""
        for i, item in enumerate(self.items[start:stop], start):
            try:
                if not isinstance(item, Layer):
                    x = item(x)
                elif options:
                    x = item(x, training, **{name: options[name] for name in item.options & options.keys()})
                else:
                    x = item(x, training)
            except (ShapeError, DTypeError, ArgumentError) as error:
                label = getattr(item, "name", getattr(item, "__name__", "function"))
                kind = next(k for k in (ShapeError, DTypeError, ArgumentError) if isinstance(error, k))
                raise kind(f"{self.name}: item {i} ({label}) got shape {x.shape}: {error}") from error
        return x

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


@lru_cache(maxsize=1024)
def _options(call: Callable) -> tuple[frozenset[str], bool]:
    """The keyword arguments that a layer's `call` names besides x and training, and whether it takes others too."""
    parameters = list(inspect.signature(call).parameters.values())[3:]
    others = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = (p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))
    return frozenset(named), others


def _parts(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Layer, Variable, Generator)):
        yield place, value
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _parts(f"{place}/{i}", inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _parts(f"{place}/{key}", inner)
