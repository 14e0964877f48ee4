"""Layer: what every layer is. Sequential: layers one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, MissingRuleError, ShapeError
from minigrad.nn import initializers
from minigrad.ops.generator import Generator
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, Variable, as_tensor


class Layer:
    """A function of tensors with Variables of its own, which it makes when it sees its first input.

    A layer defines ``call(x, training)`` and, if it has Variables, ``build(shape)``, which makes them with
    `add_variable` and is called by `build_once`. Layers, Variables and Generators that are attributes of a layer,
    alone or in lists, tuples and dicts, are found by it. A layer that is used in several places is one layer: its
    Variables are listed and trained once.

    Args:
        name: for summaries, messages and checkpoints; by default the class's name.
        dtype: of the Variables.

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

    def __init__(self, name: str | None = None, dtype: Any = None):
        self.name = name or type(self).__name__.lower()
        self.dtype = dtypes.as_dtype(dtype or dtypes.default_float)
        self.built = False
        self.trainable = True
        self.generator: Any = None

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the Variables for inputs of this shape; None stands for any length. Called by `build_once`."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        """The layer's output."""
        raise MissingRuleError(f"{self.name}: {type(self).__name__} defines no call(x, training)")

    def __call__(self, x: Any, training: bool = False) -> Tensor:
        if not isinstance(x, Tensor):
            x = as_tensor(x)
        if not self.built:
            self.build_once(x.shape)
        return self.call(x, training)

    def build_once(self, shape: Sequence[int | None]) -> None:
        """Make the Variables if there are none yet, as the first input of this shape would."""
        if not self.built:
            self._hand_down_generator()
            self.build(tuple(shape))
            self._hand_down_generator()  # to the layers that build made
            self.built = True

    def add_variable(
        self, name: str, shape: Sequence[int | None], initializer: Any, trainable: bool = True, dtype: Any = None
    ) -> Variable:
        """A Variable with first values from `initializer` (a name, or a function of shape, dtype and generator).

        Raises:
            ShapeError: if a length is unknown, or the initializer returns another shape.
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
        return Variable(values, trainable, dtype, f"{self.name}/{name}")

    @property
    def layers(self) -> list[tuple[str, Layer]]:
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

    def _hand_down_generator(self) -> None:
        if self.generator is not None:
            for _, layer in self._walk():
                if layer.generator is None:
                    layer.generator = self.generator

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
            stack += [(f"{path}{place}/", inner) for place, inner in reversed(layer.layers)]

    def _held(self) -> Iterator[tuple[str, Any]]:
        """The Layers, Variables and Generators among the attributes, except the generator to draw from."""
        for key, value in vars(self).items():
            if key != "generator":
                yield from _parts(key, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Sequential(Layer):
    """Layers one after another.

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
        self._hand_down_generator()
        if isinstance(layer, Layer) and not self._given_dtype:
            self.dtype = np.promote_types(self.dtype, layer.dtype)

    def __call__(self, x: Any, training: bool = False) -> Tensor:
        if not self.built:
            self._hand_down_generator()
            self.built = True  # the items build themselves as the first input passes
        return self.call(x if isinstance(x, Tensor) else as_tensor(x), training)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the Variables of all layers, by passing zeros of this shape through, one for an unknown length."""
        with no_grad():
            self.call(Tensor(np.zeros([1 if n is None else n for n in shape], self.dtype)), training=False)

    def call(self, x: Tensor, training: bool) -> Tensor:
        for i, item in enumerate(self.items):
            try:
                x = item(x, training) if isinstance(item, Layer) else item(x)
            except (ShapeError, DTypeError, ArgumentError) as error:
                label = getattr(item, "name", getattr(item, "__name__", "function"))
                kind = next(k for k in (ShapeError, DTypeError, ArgumentError) if isinstance(error, k))
                raise kind(f"{self.name}: item {i} ({label}) got shape {x.shape}: {error}") from error
        return x

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


def _parts(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Layer, Variable, Generator)):
        yield place, value
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _parts(f"{place}/{i}", inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _parts(f"{place}/{key}", inner)
