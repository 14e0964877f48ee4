"""Sequential and Model: layers that are compiled, fitted, evaluated, summarized and kept as Keras's are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import checkpoint, nn, ops, random, training
from minigrad.dialects.keras import callbacks as callback_functions
from minigrad.dialects.keras import losses as loss_functions
from minigrad.dialects.keras import metrics as metric_functions
from minigrad.dialects.keras import optimizers
from minigrad.dialects.keras.callbacks import History
from minigrad.dialects.keras.layers import InputLayer, KerasLayer, with_training
from minigrad.dialects.keras.summary import summary_lines
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, as_tensor

__all__ = ["Model", "Sequential"]

Shape = tuple[int | None, ...]
_HEADS = {"softmax": ops.softmax, "sigmoid": ops.sigmoid}


class _Trained(KerasLayer):
    """What can be compiled and fitted.

    Attributes:
        optimizer, loss, metrics: as compiled; None before.
        stop_training: a callback sets it.
        history: the History of the last `fit`.
        jit: whether `fit` replays steps.
    """

    optimizer: Any = None
    loss: Any = None
    metrics: Any = None
    stop_training = False
    history: Any = None
    jit = True

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        run_eagerly: bool | None = None,
        jit_compile: Any = None,
        steps_per_execution: Any = None,
    ) -> None:
        """Say how to train.

        Args:
            optimizer, loss: names, or objects of `optimizers` and `losses`; the loss may be a function of
                (y_true, y_pred).
            metrics: a list of names, of objects of `metrics`, or functions of (y_true, y_pred).
            run_eagerly, jit_compile: True for one, or False for the other, and `fit` runs all steps as written instead
                of replaying them by `jit`; the bits are the same.
            steps_per_execution: changes nothing here.

        Raises:
            ArgumentError, ArgumentTypeError: for an unknown name, or what is none of these.
        """
        self.optimizer = optimizers.get(optimizer)
        self.loss = None if loss is None else loss_functions.get(loss)
        given = [] if metrics is None else list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
        self.metrics = [metric_functions.get(m) for m in given]
        self.jit = not run_eagerly and jit_compile is not False

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
    ) -> History:
        """Train on arrays, and return the History: one value an epoch for each of loss, metrics and ``val_`` ones.

        Args:
            x, y: arrays of the same length.
            batch_size: 32 by default.
            epochs: how often to go through the data.
            verbose: 0 for silence.
            callbacks: objects of `callbacks`.
            validation_split: the share of the samples, the last ones, to validate with instead of training.
            validation_data: (x, y) or (x, y, sample_weight).
            shuffle: whether each epoch has an order of its own.
            class_weight, sample_weight: factors of the losses, by label and by sample.

        Raises:
            ArgumentError: if the model was not compiled with a loss.
            ShapeError: for samples of another shape than the model's, with the layer, its place, and both shapes.
            TrainingError: if the loss or a gradient is not finite.
        """
        seed = int(random.integers((), 0, 2**31 - 1).item())  # another order for each fit, fixed by the random seed
        history = History()
        params = {"epochs": epochs, "verbose": verbose}
        x = self._checked("fit", x)
        model, loss, metrics = self._head("fit", x)
        training.fit(
            model,
            x,
            y,
            optimizer=self.optimizer,
            loss=loss,
            batch_size=32 if batch_size is None else batch_size,
            epochs=epochs,
            validation_data=validation_data,
            validation_split=validation_split,
            sample_weight=sample_weight,
            class_weight=class_weight,
            metrics=metrics,
            shuffle=shuffle,
            seed=seed,
            callbacks=callback_functions.bridged(callbacks, self, params, history),
            progress=verbose not in (0, False),
            jit=self.jit,
        )
        self.history = history
        return history

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss, or a list of it and the metrics, or with `return_dict` these by name.

        Raises:
            as `fit`.
        """
        x = self._checked("evaluate", x)
        model, loss, metrics = self._head("evaluate", x)
        options = {"batch_size": 32 if batch_size is None else batch_size, "sample_weight": sample_weight}
        scores = training.evaluate(model, x, y, loss=loss, metrics=metrics, **options)
        if return_dict:
            return scores
        return list(scores.values()) if len(scores) > 1 else scores["loss"]

    def predict(self, x: Any, batch_size: int | None = None, verbose: Any = "auto") -> np.ndarray:
        """The outputs for an array of inputs."""
        model: Any = self
        return training.predict(model, self._checked("predict", x), batch_size=32 if batch_size is None else batch_size)

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """One step with these samples; its loss, or a list of it and the metrics, from before the step."""
        x = self._checked("train_on_batch", x)
        model, loss, metrics = self._head("train_on_batch", x)
        options = {"batch_size": max(1, len(x)), "shuffle": False, "progress": False, "sample_weight": sample_weight}
        found = training.fit(model, x, y, optimizer=self.optimizer, loss=loss, metrics=metrics, **options).epochs
        values = [found[name][-1] for name in ("loss", *(m.name for m in self.metrics))]
        return values if len(values) > 1 else values[0]

    def test_on_batch(self, x: Any, y: Any) -> Any:
        """`evaluate` of these samples as one batch."""
        return self.evaluate(x, y, batch_size=max(1, len(x)))

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """The outputs for these samples as one batch."""
        return self.predict(x, batch_size=max(1, len(x)))

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Write all weights to a file, in the format of `minigrad.save`, whatever it is called."""
        checkpoint.save(filepath, model=self)

    def load_weights(self, filepath: Any) -> None:
        """Read what `save_weights` or a ModelCheckpoint wrote.

        Raises:
            CheckpointError: if there is no such file, it is damaged, or of another network; a model has its weights
                once it knows the shape of its inputs.
        """
        checkpoint.load(filepath, model=self)

    def summary(self, line_length: int | None = None, print_fn: Callable[[str], Any] = print) -> None:
        """Print a line for each layer: its name and kind, the shape of its output, and how many parameters it has."""
        for line in summary_lines(self, self.layers, self.shapes, line_length):
            print_fn(line)

    @property
    def layers(self) -> list[Any]:
        """The layers in their order."""
        return [layer for _, layer in self.inner_layers]  # type: ignore[attr-defined]

    @property
    def shapes(self) -> list[Shape | None]:
        """Of one sample after each layer, None where it is not known."""
        return [None] * len(self.layers)

    def _checked(self, operation: str, x: Any) -> Any:
        """The inputs, if they are samples of the model's shape."""
        shape = np.shape(x) if not isinstance(x, Tensor) else x.shape
        wanted = self.input_shape
        if wanted is not None and not _fits(shape[1:], wanted):
            first = f"item 0 ({self.layers[0].name})" if self.layers else "its input"
            raise ShapeError(
                f"{self.name}: {operation} got x with shape {shape} for {first}, expected {(None, *wanted)}"
            )
        return x

    def _head(self, operation: str, x: Any) -> tuple[Any, Callable, list[Callable]]:
        """The model, loss and metrics to train with.

        Where the model ends in the activation that the loss would undo by a logarithm, the loss takes it in, and
        the metrics get what they would have got.
        """
        if self.optimizer is None or self.loss is None:
            raise ArgumentError(f"{self.name}: {operation} needs a loss; call compile(optimizer, loss) first")
        loss, head = self.loss, None
        model: Any = self
        self._make_weights(x)  # a part of the model would keep those that it made itself
        if loss.head is not None:
            inner = self.without_head(_HEADS[loss.head])
            if inner is not None:
                model, head = inner, loss.head
        compute = loss if head is None else loss.on_logits

        def core(outputs: Tensor, targets: Tensor, sample_weight: Any = None) -> Tensor:
            return compute(targets, outputs, sample_weight)

        return model, core, [_metric(m, head) for m in self.metrics]

    def without_head(self, activation: Callable) -> Any:
        """The model without its last activation, if it is this one; else None."""
        return None

    def _make_weights(self, x: Any) -> None:
        if not self.built:  # type: ignore[attr-defined]
            with no_grad():
                self(np.asarray(x)[:1])  # type: ignore[operator]


class Sequential(_Trained, nn.Sequential):
    """Layers one after another, with `compile`, `fit` and the rest of Keras's words.

    Args:
        layers: layers, or functions of a tensor; the first may be an `Input`, or have an ``input_shape``, with which
            the weights are made at once.
        name: for messages and checkpoints.

    Raises:
        ArgumentTypeError: for something that can't be called.
        ShapeError: for a layer that does not fit the ones before it, with its place, its name and both shapes.

    Example:
        >>> import numpy as np
        >>> from minigrad.dialects import keras
        >>> layers = [keras.layers.Dense(8, "relu", input_shape=(3,)), keras.layers.Dense(2, "softmax")]
        >>> model = keras.Sequential(layers)
        >>> model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        >>> x = np.random.default_rng(0).standard_normal((64, 3))
        >>> history = model.fit(x, x[:, 0] > 0, epochs=2, verbose=0)
        >>> list(history.history)
        ['loss', 'accuracy']
        >>> model.predict(x).shape
        (64, 2)
    """

    def __init__(self, layers: Any = None, name: str | None = None, **options: Any):
        self.input_shape: Shape | None = None
        self._shapes: list[Shape | None] = []
        super().__init__(name=name, **options)
        for layer in [] if layers is None else layers:
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Append a layer; its weights are made if the shape of its input is known."""
        if isinstance(layer, InputLayer):
            if self.items:
                raise ArgumentError(f"{self.name}: an Input can only be the first item")
            self.input_shape = layer.input_shape
            return
        super().add(layer)
        given = getattr(layer, "input_shape", None)
        if len(self.items) == 1 and self.input_shape is None and given is not None:
            self.input_shape = given
        if isinstance(layer, KerasLayer) and not layer.was_named:
            layer.name = _unused(layer.name, [getattr(i, "name", "") for i in self.items[:-1]])
        before = self.shapes[-1] if self.shapes else self.input_shape
        try:
            self.shapes.append(None if before is None else self._shape_after(len(self.items) - 1, before))
        except Exception:
            self.items.pop()
            raise

    def pop(self) -> Any:
        """Take the last layer away."""
        if not self.items:
            raise ArgumentError(f"{self.name}: pop: there are no layers")
        self.shapes.pop()
        return self.items.pop()

    @property
    def layers(self) -> list[Any]:
        """The layers in their order."""
        return list(self.items)

    @property
    def shapes(self) -> list[Shape | None]:
        """Of one sample after each layer, None where it is not known."""
        return self._shapes

    @property
    def output_shape(self) -> Shape | None:
        """(None, ...) of the outputs, None while it is not known."""
        return None if not self.shapes or self.shapes[-1] is None else (None, *self.shapes[-1])

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """A layer by its name or its place.

        Raises:
            ArgumentError: if there is none.
        """
        for i, layer in enumerate(self.items):
            if i == index or (name is not None and getattr(layer, "name", None) == name):
                return layer
        known = [getattr(layer, "name", "function") for layer in self.items]
        raise ArgumentError(f"{self.name}: get_layer: no layer {name if index is None else index!r}, there are {known}")

    def build(self, input_shape: Any = None) -> None:
        """Make the weights for inputs of this shape, the batch's length first."""
        before = self.input_shape if input_shape is None else tuple(input_shape)[1:]
        if before is None:
            raise ArgumentError(f"{self.name}: build needs the shape of the inputs")
        for i in range(len(self.items)):
            before = self.shapes[i] = self._shape_after(i, before)

    def call(self, x: Tensor, training: bool, **options: Any) -> Tensor:
        wanted = self.input_shape
        if wanted is not None and not _fits(x.shape[1:], wanted):
            raise ShapeError(f"{self.name}: the input has shape {x.shape}, expected {(None, *wanted)}")
        return super().call(x, training, **options)

    def without_head(self, activation: Callable) -> Any:
        if not self.items:
            return None
        last = _without(self.items[-1], activation)
        return None if last is None else self.replaced(items=[*self.items[:-1], last])

    def _shape_after(self, i: int, before: Shape) -> Shape:
        """The shape of one sample after layer i, found by passing zeros through it, which makes its weights."""
        kind = np.int64 if isinstance(self.items[i], nn.Embedding) else self.dtype
        zeros = Tensor(np.zeros([1, *(1 if n is None else n for n in before)], kind))
        with no_grad():
            return self.pass_through(zeros, False, {}, i, i + 1).shape[1:]

    def _make_weights(self, x: Any) -> None:
        if None in self.shapes:
            self.build(np.shape(x))


class Model(_Trained, nn.Layer):
    """The base of models of one's own: layers as attributes, and ``call(inputs, training)``, which uses them."""

    def __init__(self, *args: Any, **options: Any):
        if args or {"inputs", "outputs"} & options.keys():
            raise ArgumentTypeError(
                "Model: takes no inputs and outputs, there is no functional API; use Sequential or a subclass with call"
            )
        super().__init__(**options)

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "call" in vars(cls):
            cls.call = with_training(vars(cls)["call"])  # type: ignore[method-assign]


def _without(layer: Any, activation: Callable) -> Any:
    """A layer without its activation, if it is this one; a wrapper with such a layer inside; else None."""
    if layer is activation:
        return _same
    if not isinstance(layer, nn.Layer):
        return None
    if getattr(layer, "activation", None) is activation:
        return layer.replaced(activation=None)
    inner = getattr(layer, "layer", None)  # as wrappers call what they wrap
    found = None if inner is None else _without(inner, activation)
    return None if found is None else layer.replaced(layer=found)


def _same(x: Tensor) -> Tensor:
    return x


def _metric(metric: Any, head: str | None) -> Callable:
    """A metric as `training` takes it: a function of outputs and targets, with a name."""

    def function(outputs: np.ndarray, targets: np.ndarray) -> float:
        if head == "sigmoid" or (head == "softmax" and not metric.on_scores):
            outputs = _HEADS[head](as_tensor(outputs)).numpy()
        return metric.of(targets, outputs)

    function.__name__ = metric.name
    return function


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(n is None or n == m for m, n in zip(shape, wanted))


def _unused(name: str, taken: list[str]) -> str:
    """The name, or else the first of ``name_1``, ``name_2`` ... that is not taken."""
    if name not in taken:
        return name
    return next(f"{name}_{i}" for i in range(1, len(taken) + 2) if f"{name}_{i}" not in taken)
