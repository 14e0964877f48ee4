"""``batch_norm`` with every argument of ``tf.contrib.layers.batch_norm``: Variables by name, updates that wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad_norms import renorm as renorms
from minigrad_norms.arguments import epsilon_of, floating, widened
from minigrad_norms.batch import fraction, lonely, weights_of
from minigrad_norms.running import update_debiased_p, update_renorm_p, update_statistics_p
from minigrad_norms.standardize import moments_p, normalize_p, standardize_p
from minigrad_norms.store import UPDATE_OPS, Update, get_store, names_of, variable_scope
from minigrad_norms.weighted import weighted_moments_p

_INITIALIZERS = {"beta": "zeros", "gamma": "ones", "moving_mean": "zeros", "moving_variance": "ones"}


def batch_norm(
    inputs: Any,
    decay: float = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Any = None,
    param_initializers: Mapping[str, Any] | None = None,
    param_regularizers: Mapping[str, Any] | None = None,
    updates_collections: Any = UPDATE_OPS,
    is_training: Any = True,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    batch_weights: Any = None,
    fused: bool | None = None,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: Any = None,
    renorm: bool = False,
    renorm_clipping: Mapping[str, Any] | None = None,
    renorm_decay: float = 0.99,
) -> Tensor:
    """f((x − μ)·γ/√(σ² + ε) + β) with the batch's moments in training, with moving ones in inference.

    The Variables beta, gamma, moving_mean (0 at first) and moving_variance (1 at first) live in the `VariableStore` in
    use, under the name of the scope. The moving ones take a value v by: moving −= (1 − decay)·(moving − v).

    Args:
        inputs: shape (batch, ..., channels) for NHWC, (batch, channels, ...) for NCHW; at least two axes. Half types
            are computed in float32.
        decay: of the moving statistics, in [0, 1].
        center, scale: whether there are β and γ. A layer that is linear can do the scaling of the next one.
        epsilon: ε ≥ 0.
        activation_fn: f, applied last: a function or a name; relu, relu6, elu, tanh and sigmoid run in the kernel.
        param_initializers: names or functions for beta, gamma, moving_mean and moving_variance.
        param_regularizers: names or functions for beta and gamma; their values are in REGULARIZATION_LOSSES.
        updates_collections: the collections, by name, in which the update of the moving statistics waits until
            `run_updates` runs it, in a function for ``mg.jit`` inside that function; None to update at once.
        is_training: a Python boolean, or a boolean scalar tensor, which decides when it is computed.
        reuse: True to share the Variables that are there, AUTO_REUSE to make or share them, as of `variable_scope`.
        variables_collections: names of collections for the Variables; or a dict from the Variables' names to them.
        outputs_collections: names of collections for the output, each of which holds the latest of a scope.
        trainable: whether gradients flow to beta and gamma.
        batch_weights: shape (batch,), how often each sample counts in the moments.
        fused: None or True for the fused path where it is possible (two or four axes, no batch_weights, no renorm),
            whose moving variance takes n/(n − 1)·σ² (Bessel's correction), as TensorFlow's does; False for σ².
        data_format: "NHWC" or "NCHW".
        zero_debias_moving_mean: keep ``moving_mean/biased``, which starts at 0, and ``moving_mean/local_step``; the
            moving mean is biased/(1 − decayᵗ).
        scope: a name, or a `Scope`; by default ``BatchNorm``, ``BatchNorm_1`` and so on, counted anew each time that a
            ``with`` block of a `VariableStore` or `variable_scope` begins: a loop over batches needs one, or a name.
        renorm: batch renormalization in training, as `batch_renorm`, with the averages ``renorm_mean``,
            ``renorm_stddev`` and ``renorm_weight``, from which the moving statistics are taken.
        renorm_clipping: its ``rmin``, ``rmax`` and ``dmax``.
        renorm_decay: of its averages, in [0, 1].

    Raises:
        ArgumentError: for values out of range; renorm with batch_weights or zero_debias_moving_mean; unknown keys;
            weights that add up to 0; a batch with one value a channel; a Variable that exists and may not be shared,
            or is to be shared and does not exist.
        ShapeError: for inputs of fewer than two axes, batch_weights that do not fit, shared Variables of other shape.

    Where it differs from tf.contrib: regularizers are applied on every path.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> x = mg.tensor([[1.0], [3.0]])
        >>> with norms.VariableStore():
        ...     y = norms.batch_norm(x, decay=0.5, updates_collections=None, scope="bn")
        ...     z = norms.batch_norm(x, epsilon=0.5, is_training=False, reuse=True, scope="bn", activation_fn=mg.relu)
        >>> z.numpy()  # moving_mean is 1, moving_variance 1.5: half of 1 and of the batch's 2, which is unbiased
        array([[0.       ],
               [1.4142135]], dtype=float32)
    """
    x, narrow = widened(floating(inputs))
    axis = _channel_axis(x, data_format)
    decay, renorm_decay = fraction("batch_norm", "decay", decay), fraction("batch_norm", "renorm_decay", renorm_decay)
    epsilon = epsilon_of("batch_norm", epsilon)
    limits = renorms.clipping_of("batch_norm", renorm_clipping)
    if renorm and (batch_weights is not None or zero_debias_moving_mean):
        other = "batch_weights" if batch_weights is not None else "zero_debias_moving_mean"
        raise ArgumentError(f"batch_norm: renorm and {other} exclude one another")
    fusable = x.ndim in (2, 4) and batch_weights is None and not renorm
    activation, after = _activation(activation_fn)
    initializers = _by_name("param_initializers", param_initializers, _INITIALIZERS)
    regularizers = _by_name("param_regularizers", param_regularizers, {"beta": None, "gamma": None})

    waits_in, ends_in = names_of("batch_norm", updates_collections), names_of("batch_norm", outputs_collections)
    axes = tuple(a for a in range(x.ndim) if a != axis)
    weights = _batch_weights(x, axes, batch_weights)
    count = prod([x.shape[a] for a in axes])  # of the values of a channel
    training = not _is_false(is_training)
    if training and count == 1 and bool(is_training):
        raise lonely("batch_norm", x.shape)

    with variable_scope(scope, "BatchNorm", reuse=reuse) as entered:
        make = partial(_variable, (x.shape[axis],), initializers, regularizers, variables_collections)
        beta = make("beta", x.dtype, trainable) if center else None
        gamma = make("gamma", x.dtype, trainable) if scale else None
        moving = [make(name, "float64", False) for name in ("moving_mean", "moving_variance")]
        averages = [make(f"renorm_{name}", "float64", False) for name in ("mean", "stddev", "weight") if renorm]
        debiased = [
            make(f"moving_mean/{name}", "float64", False, shape)
            for name, shape in (("biased", None), ("local_step", ()))
            if zero_debias_moving_mean
        ]

    options: dict[str, Any] = {"axes": axes, "parameter_axes": (axis,), "epsilon": epsilon, "activation": activation}
    if not training:
        y = normalize_p(x, gamma, beta, *moving, **options)
    else:
        y, mean, var = _in_training(x, gamma, beta, weights, moving, averages, is_training, limits, options)
        if renorm:
            rates: Any = {"momentum": decay, "renorm_momentum": renorm_decay, "epsilon": epsilon}
            run = partial(update_renorm_p, *moving, *averages, mean, var, **rates)
        else:
            correction = count / (count - 1) if fusable and fused is not False and count > 1 else 1.0
            run = partial(_move, moving, debiased, mean, var, decay, correction)
        if count:
            _run_or_wait(f"{entered.name}/update", run, waits_in)
    y = y if after is None else after(y)
    y = y if narrow is None else y.astype(narrow)
    for name in ends_in:
        get_store().add(name, y, entered.name)
    return y


def _in_training(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weights: Tensor | None,
    moving: list,
    averages: list,
    is_training: Any,
    limits: tuple,
    options: dict,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and the mean and variance that the moving statistics take.

    Where a tensor decides, both ways are computed and it selects between their statistics; NaN is what moves nothing.
    """
    axes, decided = options["axes"], not isinstance(is_training, Tensor)
    if weights is not None:
        mean, var, _ = weighted_moments_p(x, weights, axes=axes)
    elif averages or not decided:
        mean, var = moments_p(x.detach() if decided else x, axes=axes)
    if averages:
        batch = (mean.detach(), var.detach())
        scale, shift = renorms.corrected(gamma, beta, x.dtype, batch, averages, options["epsilon"], limits)
        if not decided:
            one, zero = mg.tensor(1.0, x.dtype), mg.tensor(0.0, x.dtype)
            scale = mg.where(is_training, scale, one if gamma is None else gamma)
            shift = mg.where(is_training, shift, zero if beta is None else beta)
        gamma, beta = scale, shift
    if decided and weights is None:  # in one, with one gradient
        y, mean, var = standardize_p(x, gamma, beta, **options)
        return y, mean.detach(), var.detach()
    batch = (mean.detach(), var.detach())
    if not decided:
        mean, var = (mg.where(is_training, new, old) for new, old in zip((mean, var), moving))
        batch = tuple(mg.where(is_training, new, float("nan")) for new in batch)  # type: ignore[assignment]
    return normalize_p(x, gamma, beta, mean, var, **options), *batch


def _move(moving: list, debiased: list, mean: Tensor, var: Tensor, decay: float, correction: float) -> None:
    update_statistics_p(*moving, mean, var, momentum=decay, correction=correction)
    if debiased:  # the mean that has just been moved is overwritten by the one without bias
        update_debiased_p(moving[0], *debiased, mean, momentum=decay)


def _run_or_wait(name: str, run: Callable[[], None], collections: list[str]) -> None:
    if not collections:
        run()
        return
    update, store = Update(name, run), get_store()
    for collection in collections:
        store.add(collection, update)


# Arguments


def _channel_axis(x: Tensor, data_format: str) -> int:
    if data_format not in ("NHWC", "NCHW"):
        raise ArgumentError(f"batch_norm: data_format is {data_format!r}, expected 'NHWC' or 'NCHW'")
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: inputs has shape {x.shape}, expected at least two axes")
    return x.ndim - 1 if data_format == "NHWC" else 1


def _is_false(is_training: Any) -> bool:
    if isinstance(is_training, Tensor):
        if is_training.ndim or is_training.dtype != mg.dtypes.as_dtype(bool):
            raise ArgumentTypeError(
                f"batch_norm: is_training is {is_training.dtype}{is_training.shape}, expected a boolean scalar"
            )
        return False
    if not isinstance(is_training, (bool, np.bool_)):
        raise ArgumentTypeError(f"batch_norm: is_training is {is_training!r}, expected a boolean or a tensor")
    return not is_training


def _activation(function: Any) -> tuple[str | None, Callable | None]:
    """The activation's name where the kernels have it, else the function that comes after."""
    function = mg.nn.activations.get(function)
    fused = next((name for name, known in _FUSED.items() if known is function), None)
    return fused, function if fused is None else None


_FUSED = {"relu": mg.relu, "relu6": mg.relu6, "elu": mg.elu, "tanh": mg.tanh, "sigmoid": mg.sigmoid}


def _by_name(argument: str, given: Mapping[str, Any] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [key for key in given or {} if key not in known]
    if unknown:
        raise ArgumentError(f"batch_norm: {argument} has unknown keys {unknown}, expected some of {list(known)}")
    return {**known, **(given or {})}


def _batch_weights(x: Tensor, axes: tuple[int, ...], weights: Any) -> Tensor | None:
    if weights is None:
        return None
    weights = mg.as_tensor(weights)
    if weights.shape != x.shape[:1]:
        raise ShapeError(f"batch_norm: batch_weights has shape {weights.shape}, expected {x.shape[:1]}")
    return weights_of("batch_norm", x, axes, None, weights)


def _variable(
    channels: tuple[int, ...],
    initializers: dict,
    regularizers: dict,
    collections: Any,
    name: str,
    dtype: Any,
    trainable: bool,
    shape: tuple[int, ...] | None = None,
) -> Variable:
    chosen = collections.get(name) if isinstance(collections, Mapping) else collections
    return get_store().get_variable(
        name,
        channels if shape is None else shape,
        dtype,
        initializers.get(name, "zeros"),
        regularizers.get(name),
        trainable,
        names_of("batch_norm", chosen),
    )
