"""Losses as functions of (y_true, y_pred), in Keras's order, that give the mean over the batch; and as classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import ops
from minigrad.dialects.keras.names import by_name
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.nn import losses as functions
from minigrad.tensor import Tensor, as_tensor

__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "CategoricalHinge", "CosineSimilarity", "Hinge", "Huber",
    "KLDivergence", "LogCosh", "Loss", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson", "SparseCategoricalCrossentropy", "SquaredHinge", "binary_crossentropy",
    "categorical_crossentropy", "categorical_hinge", "cosine_similarity", "get", "hinge", "huber", "kl_divergence",
    "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "poisson", "sparse_categorical_crossentropy", "squared_hinge",
]  # fmt: skip


class Loss:
    """The base of losses of one's own: define ``call(y_true, y_pred)``, which gives a loss a sample, or their mean.

    Args:
        name: for messages.
        reduction: ``"sum_over_batch_size"``, the mean over the batch; there is no other.

    Attributes:
        head: the activation, ``"softmax"`` or ``"sigmoid"``, that a model may leave to the loss: `on_logits` is then
            the loss of what that activation would get, exact where the activation has no digits left.
    """

    head: str | None = None

    def __init__(self, name: str | None = None, reduction: str = "sum_over_batch_size"):
        if reduction not in ("sum_over_batch_size", "auto"):
            raise ArgumentError(f"{type(self).__name__}: reduction is {reduction!r}, expected 'sum_over_batch_size'")
        self.name = name or type(self).__name__
        self.reduction = reduction

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses."""
        raise NotImplementedError(f"{self.name}: defines no call(y_true, y_pred)")

    def on_logits(self, y_true: Any, y_pred: Tensor, sample_weight: Any = None) -> Tensor:
        """The loss of outputs before the activation `head`."""
        raise NotImplementedError(f"{self.name}: has no head")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        return averaged(self.name, self.call(y_true, as_tensor(y_pred)), sample_weight)


class _Plain(Loss):
    """A loss of `minigrad.nn.losses`."""

    function: Callable

    def __init__(self, name: str | None = None, reduction: str = "sum_over_batch_size", **options: Any):
        super().__init__(name, reduction)
        self.options = options

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        y_pred = as_tensor(y_pred)
        return type(self).function(y_pred, alike(y_true, y_pred), sample_weight, **self.options)


class _Crossentropy(Loss):
    logits: Callable
    probabilities: Callable

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ):
        super().__init__(name, reduction)
        self.from_logits, self.label_smoothing = bool(from_logits), label_smoothing
        if not 0 <= label_smoothing <= 1:
            raise ArgumentError(f"{self.name}: label_smoothing is {label_smoothing!r}, expected a number in [0, 1]")
        if from_logits:
            self.head = None

    def targets(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """The targets as the functions take them, smoothed."""
        y_true = alike(y_true, y_pred)
        if not self.label_smoothing:
            return y_true
        classes = 2 if self.head == "sigmoid" or type(self) is BinaryCrossentropy else y_pred.shape[-1]
        return y_true.astype(y_pred.dtype) * (1.0 - self.label_smoothing) + self.label_smoothing / classes

    def on_logits(self, y_true: Any, y_pred: Tensor, sample_weight: Any = None) -> Tensor:
        return type(self).logits(y_pred, self.targets(y_true, y_pred), sample_weight)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        y_pred = as_tensor(y_pred)
        if self.from_logits:
            return self.on_logits(y_true, y_pred, sample_weight)
        return type(self).probabilities(y_pred, self.targets(y_true, y_pred), sample_weight)


class CategoricalCrossentropy(_Crossentropy):
    """−Σ t·log p over the classes; targets are one-hot rows, or probabilities."""

    head = "softmax"
    logits = staticmethod(functions.softmax_cross_entropy)
    probabilities = staticmethod(functions.cross_entropy)

    def targets(self, y_true: Any, y_pred: Tensor) -> Tensor:
        y_true = super().targets(y_true, y_pred)
        if y_true.shape != y_pred.shape:
            raise ShapeError(
                f"{self.name}: y_true has shape {y_true.shape} and y_pred {y_pred.shape}, expected the same; integer "
                "labels go with sparse_categorical_crossentropy"
            )
        return y_true


class SparseCategoricalCrossentropy(_Crossentropy):
    """−log p[label]; targets are integers of shape (n,) or (n, 1)."""

    head = "softmax"
    logits = staticmethod(functions.softmax_cross_entropy)
    probabilities = staticmethod(functions.cross_entropy)

    def __init__(self, from_logits: bool = False, name: str | None = None, reduction: str = "sum_over_batch_size"):
        super().__init__(from_logits, 0.0, name, reduction)

    def targets(self, y_true: Any, y_pred: Tensor) -> Tensor:
        labels = as_labels(y_true, y_pred)
        if labels.shape != y_pred.shape[:-1]:
            raise ShapeError(
                f"{self.name}: y_true has shape {labels.shape} and y_pred {y_pred.shape}, expected labels of shape "
                f"{y_pred.shape[:-1]}; one-hot rows go with categorical_crossentropy"
            )
        return labels


class BinaryCrossentropy(_Crossentropy):
    """−t·log p − (1−t)·log(1−p)."""

    head = "sigmoid"
    logits = staticmethod(functions.sigmoid_cross_entropy)
    probabilities = staticmethod(functions.binary_cross_entropy)


class Huber(_Plain):
    """e²/2 where |e| ≤ delta, else delta·(|e| − delta/2)."""

    function = staticmethod(functions.huber)

    def __init__(self, delta: float = 1.0, name: str | None = None, reduction: str = "sum_over_batch_size"):
        super().__init__(name, reduction, delta=delta)


def _class(name: str, function: Callable) -> Any:
    return type(
        name, (_Plain,), {"function": staticmethod(function), "__doc__": function.__doc__, "__module__": __name__}
    )


MeanSquaredError = _class("MeanSquaredError", functions.mean_squared_error)
MeanAbsoluteError = _class("MeanAbsoluteError", functions.mean_absolute_error)
MeanAbsolutePercentageError = _class("MeanAbsolutePercentageError", functions.mean_absolute_percentage_error)
MeanSquaredLogarithmicError = _class("MeanSquaredLogarithmicError", functions.mean_squared_logarithmic_error)
LogCosh = _class("LogCosh", functions.log_cosh)
Hinge = _class("Hinge", functions.hinge)
SquaredHinge = _class("SquaredHinge", functions.squared_hinge)
CategoricalHinge = _class("CategoricalHinge", functions.categorical_hinge)
KLDivergence = _class("KLDivergence", functions.kl_divergence)
Poisson = _class("Poisson", functions.poisson)
CosineSimilarity = _class("CosineSimilarity", functions.cosine_similarity)

categorical_crossentropy = CategoricalCrossentropy(name="categorical_crossentropy")
sparse_categorical_crossentropy = SparseCategoricalCrossentropy(name="sparse_categorical_crossentropy")
binary_crossentropy = BinaryCrossentropy(name="binary_crossentropy")
mean_squared_error = MeanSquaredError("mean_squared_error")
mean_absolute_error = MeanAbsoluteError("mean_absolute_error")
mean_absolute_percentage_error = MeanAbsolutePercentageError("mean_absolute_percentage_error")
mean_squared_logarithmic_error = MeanSquaredLogarithmicError("mean_squared_logarithmic_error")
huber = Huber(name="huber")
log_cosh = LogCosh("log_cosh")
hinge = Hinge("hinge")
squared_hinge = SquaredHinge("squared_hinge")
categorical_hinge = CategoricalHinge("categorical_hinge")
kl_divergence = KLDivergence("kl_divergence")
poisson = Poisson("poisson")
cosine_similarity = CosineSimilarity("cosine_similarity")

_BY_NAME: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        categorical_crossentropy, sparse_categorical_crossentropy, binary_crossentropy, mean_squared_error,
        mean_absolute_error, mean_absolute_percentage_error, mean_squared_logarithmic_error, huber, log_cosh, hinge,
        squared_hinge, categorical_hinge, kl_divergence, poisson, cosine_similarity,
    )
}  # fmt: skip
_BY_NAME |= {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "msle": mean_squared_logarithmic_error,
    "logcosh": log_cosh,
    "kld": kl_divergence,
    "kldivergence": kl_divergence,
}


def get(identifier: Any) -> Loss:
    """The loss of that name, a Loss itself, or a function of (y_true, y_pred) as a Loss.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is none of these.
    """
    return by_name(_known, identifier)


def _known(identifier: Any) -> Loss:
    if isinstance(identifier, str):
        if identifier not in _BY_NAME:
            raise ArgumentError(f"loss: {identifier!r} is unknown, expected one of {sorted(_BY_NAME)}")
        return _BY_NAME[identifier]
    if isinstance(identifier, Loss):
        return identifier
    if callable(identifier):
        found = Loss(getattr(identifier, "__name__", "loss"))
        found.call = identifier  # type: ignore[method-assign]
        return found
    raise ArgumentTypeError(f"loss: got {identifier!r}, expected a name, a Loss or a function of (y_true, y_pred)")


def alike(y_true: Any, y_pred: Tensor) -> Tensor:
    """Targets with an axis of length 1 at the end where the outputs have one, and without where they have none."""
    y_true = as_tensor(y_true)
    if y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        return ops.expand_dims(y_true, -1)
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        return ops.squeeze(y_true, -1)
    return y_true


def as_labels(y_true: Any, y_pred: Tensor) -> Tensor:
    """Labels (n,) from (n,) or (n, 1), as integers."""
    y_true = as_tensor(y_true)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    return y_true if y_true.dtype.kind in "iu" else y_true.astype("int64")


def averaged(name: str, values: Any, sample_weight: Any) -> Tensor:
    """The mean of losses, weighted if weights are given."""
    if not isinstance(values, Tensor):
        raise ArgumentTypeError(f"loss {name}: returned {type(values).__name__}, expected a tensor")
    return functions.averaged(name, values, sample_weight)
