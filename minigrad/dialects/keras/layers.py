"""Layers with Keras's names and arguments: those of `minigrad.nn`, and any that a plugin offers, by their name."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from minigrad import nn, ops, plugins
from minigrad.dialects.keras import constraints, initializers, regularizers
from minigrad.dialects.keras.names import snake
from minigrad.errors import ArgumentError, ArgumentTypeError, PluginError, ShapeError
from minigrad.tensor import Variable

_ALIASES = {
    "AvgPool2D": "AveragePooling2D",
    "Convolution2D": "Conv2D",
    "Convolution2DTranspose": "Conv2DTranspose",
    "GlobalAvgPool2D": "GlobalAveragePooling2D",
    "GlobalMaxPool2D": "GlobalMaxPooling2D",
    "MaxPool2D": "MaxPooling2D",
}
_GETTERS = {"initializer": initializers.get, "regularizer": regularizers.get, "constraint": constraints.get}


class KerasLayer:
    """What every layer here can be given, and asked for, besides what its kind takes.

    Args:
        input_shape: of one sample; a Sequential that begins with this layer makes its weights at once.
        batch_input_shape: the same with the length of the batch before it. input_dim: for samples of one axis.
        trainable: whether training changes the weights.

    Attributes:
        weights, trainable_weights, non_trainable_weights: lists of Variables.
    """

    name: str
    input_shape: tuple[int | None, ...] | None

    def __init__(
        self,
        *args: Any,
        input_shape: Any = None,
        batch_input_shape: Any = None,
        input_dim: int | None = None,
        trainable: bool = True,
        **options: Any,
    ):
        kind = type(self).__name__
        self.was_named = options.get("name") is not None  # else a model may number it
        options = {name: value for name, value in options.items() if not (name in ("name", "dtype") and value is None)}
        for name, value in options.items():
            get = _GETTERS.get(name.rpartition("_")[2])
            if get is not None and value is not None:
                options[name] = get(value)
        try:
            super().__init__(*args, **options)
        except TypeError as error:
            what = str(error).partition("__init__() ")[2]  # as Python says it of arguments that are unknown or missing
            if isinstance(error, ArgumentTypeError) or not what:
                raise
            raise ArgumentTypeError(f"{kind}: {what}") from error
        if not self.was_named:
            self.name = snake(kind)
        if batch_input_shape is not None:
            input_shape = tuple(batch_input_shape)[1:]
        elif input_dim is not None:
            input_shape = (input_dim,)
        elif isinstance(input_shape, int):
            input_shape = (input_shape,)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        if not trainable:
            self.trainable = False

    @property
    def weights(self) -> list[Variable]:
        """All Variables, those that train first."""
        return [*self.trainable_weights, *self.non_trainable_weights]

    @property
    def trainable_weights(self) -> list[Variable]:
        return self.trainable_variables  # type: ignore[attr-defined]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        trained = {id(v) for v in self.trainable_weights}
        return [v for v in self.variables.values() if id(v) not in trained]  # type: ignore[attr-defined]

    def get_weights(self) -> list[np.ndarray]:
        """The values of `weights`, as copies."""
        return [v.numpy().copy() for v in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Set `weights` to these values.

        Raises:
            ShapeError: if their number or a shape differs; nothing has changed then.
        """
        given = [np.asarray(w) for w in weights]
        found, wanted = [w.shape for w in given], [v.shape for v in self.weights]
        if found != wanted:
            raise ShapeError(f"{self.name}: set_weights got shapes {found}, expected {wanted}")
        for variable, value in zip(self.weights, given):
            variable.assign(value)

    def count_params(self) -> int:
        """The number of elements of all weights."""
        return sum(v.size for v in self.weights)


class Layer(KerasLayer, nn.Layer):
    """The base of layers of one's own: ``build(input_shape)`` with `add_weight`, and ``call(inputs)``.

    `call` may name ``training``, and further arguments that are given by keyword.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "call" in vars(cls):
            cls.call = with_training(vars(cls)["call"])  # type: ignore[method-assign]

    def add_weight(self, *args: Any, **options: Any) -> Variable:
        """A Variable: ``add_weight(shape, initializer, dtype, trainable, regularizer, constraint, name)``.

        All have defaults. A text as the first argument is the name, as it once was in Keras.
        """
        if args and isinstance(args[0], str):
            options["name"], args = args[0], args[1:]
        name, shape, initializer, trainable, dtype, kinds = _weight(*args, **options)
        return self.add_variable(name, shape, initializer, trainable, dtype, **kinds)


class InputLayer:
    """What a Sequential may begin with to say the shape of its samples; `Input` makes one."""

    def __init__(self, shape: Any = None, input_shape: Any = None, batch_size: int | None = None, name: Any = None):
        given = shape if shape is not None else input_shape
        if given is None:
            raise ArgumentTypeError("Input: shape is None, expected the shape of one sample")
        self.input_shape = (given,) if isinstance(given, int) else tuple(given)
        self.name = name or "input"


def Input(shape: Any = None, batch_size: int | None = None, name: Any = None, **options: Any) -> InputLayer:
    """The shape of one sample, as the first item of a Sequential."""
    return InputLayer(shape, batch_size=batch_size, name=name, **options)


class Softmax(KerasLayer, nn.Activation):
    """exp(x)/Σ exp(x) over an axis."""

    def __init__(self, axis: int = -1, **options: Any):
        super().__init__(ops.softmax if axis == -1 else lambda x: ops.softmax(x, axis), **options)


class ReLU(KerasLayer, nn.Activation):
    """max(x, 0), up to max_value; negative_slope·(x − threshold) below the threshold."""

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **options: Any
    ):
        if (max_value is not None and max_value < 0) or negative_slope < 0:
            raise ArgumentError(
                f"ReLU: max_value is {max_value} and negative_slope {negative_slope}, expected none below 0"
            )
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold
        plain = max_value is None and not negative_slope and not threshold
        super().__init__(ops.relu if plain else self._cut, **options)

    def _cut(self, x: Any) -> Any:
        high = ops.minimum(x, self.max_value) if self.max_value is not None else x
        low = self.negative_slope * (x - self.threshold)
        return ops.where(x >= self.threshold, high, low)


class LeakyReLU(KerasLayer, nn.Activation):
    """x where x > 0, else negative_slope·x; ``alpha`` is the slope's old name."""

    def __init__(self, negative_slope: float = 0.3, alpha: float | None = None, **options: Any):
        slope = negative_slope if alpha is None else alpha
        super().__init__(lambda x: ops.leaky_relu(x, slope), **options)


class ELU(KerasLayer, nn.Activation):
    """x where x > 0, else alpha·(eˣ − 1)."""

    def __init__(self, alpha: float = 1.0, **options: Any):
        super().__init__(lambda x: ops.elu(x, alpha), **options)


def _weight(
    shape: Any = (),
    initializer: Any = "glorot_uniform",
    dtype: Any = None,
    trainable: bool = True,
    regularizer: Any = None,
    constraint: Any = None,
    name: str = "weight",
) -> tuple:
    """The arguments of `add_weight`, as `add_variable` takes them."""
    kinds = {"regularizer": regularizers.get(regularizer), "constraint": constraints.get(constraint)}
    return name, tuple(shape), initializers.get(initializer), trainable, dtype, kinds


def adopted(kind: type[nn.Layer]) -> Any:
    """A layer's class with what every Keras layer takes."""
    return type(kind.__name__, (KerasLayer, kind), {"__doc__": kind.__doc__, "__module__": __name__})


def with_training(call: Any) -> Any:
    """A layer's `call` as ``call(self, x, training, **options)``, whatever it takes besides its input."""
    parameters = list(inspect.signature(call).parameters.values())
    if (
        len(parameters) > 2
        and parameters[2].name == "training"
        and parameters[2].kind is not inspect.Parameter.KEYWORD_ONLY
    ):
        return call
    named = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)
    further = [p for p in parameters[2:] if p.name != "training"]

    def adapted(self: Any, x: Any, training: bool, **options: Any) -> Any:
        return call(self, x, training=training, **options) if named else call(self, x, **options)

    flag = inspect.Parameter("training", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    keywords = [p if p.kind is p.VAR_KEYWORD else p.replace(kind=p.KEYWORD_ONLY) for p in further]
    adapted.__signature__ = inspect.Signature([*parameters[:2], flag, *keywords])  # type: ignore[attr-defined]
    return adapted


def __getattr__(name: str) -> Any:
    kind = None if name.startswith("_") else _found(_ALIASES.get(name, name))
    if kind is None:
        raise AttributeError(
            f"minigrad.dialects.keras.layers has no {name!r}; neither minigrad.nn nor a plugin offers it"
        )
    globals()[name] = kind = adopted(kind)
    return kind


def __dir__() -> list[str]:
    ours = [name for name in nn.__all__ if _is_layer(getattr(nn, name))]
    theirs = [n for plugin in plugins.names() for n in _offered(plugin)]
    return sorted({*globals(), *_ALIASES, *ours, *theirs})


def _found(name: str) -> Any:
    """The class of that name, in `minigrad.nn` or else in the first plugin that has it."""
    if name != "Sequential" and _is_layer(getattr(nn, name, None)):
        return getattr(nn, name)
    return next((_offered(plugin)[name] for plugin in plugins.names() if name in _offered(plugin)), None)


def _offered(plugin: str) -> dict[str, Any]:
    """A plugin's layers by name; one that can't be loaded has none."""
    try:
        module = plugins.load(plugin)
    except PluginError:  # `python -m minigrad info` tells why
        return {}
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and _is_layer(value)}


def _is_layer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Layer)
