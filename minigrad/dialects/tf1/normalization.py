"""Batch norm with Variables of its own: what contrib.layers and tf.layers say of minigrad_norms.batch_norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import minigrad as mg
import minigrad_norms as norms
from minigrad.dialects.tf1.building import convert_to_tensor, tried
from minigrad.dialects.tf1.control_flow import with_dependencies
from minigrad.dialects.tf1.graph import GraphKeys, Tensor, get_default_graph
from minigrad.dialects.tf1.init_ops import ones_initializer, zeros_initializer
from minigrad.dialects.tf1.scopes import get_variable, variable_scope
from minigrad.errors import ArgumentError, ShapeError
from minigrad_norms.store import Scope, names_of

_WAITING = "waiting"  # where minigrad_norms leaves the update of a run


def batch_norm(
    inputs: Any,
    decay: float = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Any = None,
    param_initializers: Mapping[str, Any] | None = None,
    param_regularizers: Mapping[str, Any] | None = None,
    updates_collections: Any = GraphKeys.UPDATE_OPS,
    is_training: Any = True,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    batch_weights: Any = None,
    fused: bool | None = False,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: Any = None,
    renorm: bool = False,
    renorm_clipping: Mapping[str, Any] | None = None,
    renorm_decay: float = 0.99,
) -> Tensor:
    """f((x − μ)·γ/√(σ² + ε) + β) with the batch's moments in training, with moving ones in inference.

    All arguments are those of `minigrad_norms.batch_norm`, which computes it. Here `activation_fn` is a function of a
    tensor of the graph, initializers and regularizers are those of this dialect, and `is_training` may be a boolean
    placeholder. The moving statistics are Variables of float64, in which minigrad keeps statistics.

    With `updates_collections` None the moving statistics move whenever the output is computed in training; else the
    operation that moves them waits in those collections, to run with the training step.

    Raises:
        ShapeError: for inputs of fewer than two axes, or whose channels are not known; also a ValueError.
        ArgumentError: for Variables that exist and may not be shared, or are to be shared and do not exist.
    """
    given = {"beta": zeros_initializer(), "gamma": ones_initializer(), **(param_initializers or {})}
    with variable_scope(scope, "BatchNorm", reuse=reuse) as entered:
        return normalized(
            inputs, entered.name, is_training, given, param_regularizers or {}, variables_collections, trainable,
            names_of("batch_norm", updates_collections), names_of("batch_norm", outputs_collections), activation_fn,
            batch_weights, zero_debias_moving_mean,
            decay=decay, center=center, scale=scale, epsilon=epsilon, fused=fused, data_format=data_format,
            renorm=renorm, renorm_clipping=renorm_clipping, renorm_decay=renorm_decay,
        )  # fmt: skip


def normalized(
    inputs: Any,
    scope: str,
    is_training: Any,
    initializers: Mapping[str, Any],
    regularizers: Mapping[str, Any],
    collections: Any,
    trainable: bool,
    updates_in: list[str],
    outputs_in: list[str],
    activation: Callable | None,
    batch_weights: Any,
    zero_debias: bool,
    **options: Any,
) -> Tensor:
    """What `batch_norm` does in a scope that is open."""
    graph, x = get_default_graph(), convert_to_tensor(inputs)
    _try(x, is_training, batch_weights, zero_debias, options)
    channels = _channels(x, options["data_format"])
    names = [name for name, wanted in (("beta", options["center"]), ("gamma", options["scale"])) if wanted]
    names += ["moving_mean", "moving_variance"]
    names += ["renorm_mean", "renorm_stddev", "renorm_weight"] if options["renorm"] else []
    names += ["moving_mean/biased", "moving_mean/local_step"] if zero_debias else []
    held = []
    for name in names:
        own = name in ("beta", "gamma")
        chosen = collections.get(name) if isinstance(collections, Mapping) else collections
        held.append(
            get_variable(
                name,
                () if name == "moving_mean/local_step" else (channels,),
                x.dtype if own and x.dtype.itemsize > 2 else "float32" if own else "float64",
                initializers.get(name, ones_initializer() if name == "moving_variance" else zeros_initializer()),
                regularizers.get(name) if own else _no_penalty,
                trainable and own,
                [GraphKeys.GLOBAL_VARIABLES, GraphKeys.MODEL_VARIABLES, *names_of("batch_norm", chosen)],
            )
        )
    more = [] if batch_weights is None else [convert_to_tensor(batch_weights)]

    def run(session: Any, value: Any, is_training: Any, *rest: Any) -> tuple[mg.Tensor, Any]:
        for v in held:
            session.variable(v.op.name)  # that it has a value
        weights = rest[-1] if more else None
        if not isinstance(is_training, mg.Tensor):
            is_training = bool(is_training)
        with session.store:
            y = norms.batch_norm(
                value, is_training=is_training, scope=Scope(scope, True), updates_collections=_WAITING,
                zero_debias_moving_mean=zero_debias, batch_weights=weights, **options,
            )  # fmt: skip
            waiting = norms.get_collection(_WAITING)
            session.store.clear_collection(_WAITING)
        return y, waiting[0] if waiting else _nothing

    flag = convert_to_tensor(is_training)
    op = graph.add("BatchNorm", run, [x, flag, *held, *more], "batchnorm", in_session=True)
    y, update = op.result(x.dtype, x.lengths), op.result("float32", ())
    if is_training is not False:
        moved = graph.add("AssignMovingAvg", lambda move: move(), [update], "AssignMovingAvg")
        for collection in updates_in:
            graph.add_to_collection(collection, moved)
        if not updates_in:
            y = with_dependencies([moved], y)
    y = y if activation is None else activation(y)
    for collection in outputs_in:
        graph.add_to_collection(collection, y)
    return y


def _try(x: Tensor, is_training: Any, batch_weights: Any, zero_debias: bool, options: Mapping[str, Any]) -> None:
    """Find out now whether minigrad_norms takes these arguments, in a store that is forgotten."""
    _channels(x, options["data_format"])
    more = [] if batch_weights is None else [convert_to_tensor(batch_weights)]
    training = False if isinstance(is_training, Tensor) else is_training

    def run(value: Any, *weights: Any) -> mg.Tensor:
        with norms.VariableStore():
            given = weights[0] if weights else None
            flags: dict[str, Any] = {"is_training": training, "zero_debias_moving_mean": zero_debias}
            return norms.batch_norm(value, batch_weights=given, **flags, **options)

    tried("batch_norm", run, [x, *more])


def _channels(x: Tensor, data_format: str) -> int:
    if data_format not in ("NHWC", "NCHW"):
        raise ArgumentError(f"batch_norm: data_format has to be either NCHW or NHWC, got {data_format!r}")
    if x.lengths is None or len(x.lengths) < 2:
        raise ShapeError(f"batch_norm: inputs {x!r} has undefined rank, or fewer than two axes")
    channels = x.lengths[-1 if data_format == "NHWC" else 1]
    if channels is None:
        raise ShapeError(f"batch_norm: inputs {x!r} has an undefined channels dimension")
    return channels


def _nothing() -> None:
    """No update waits: the run was one of inference, or of no data."""


def _no_penalty(variable: Tensor) -> None:
    """In the place of a scope's regularizer: statistics are not penalized."""


def batch_normalization(
    inputs: Any,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Any = None,
    gamma_initializer: Any = None,
    moving_mean_initializer: Any = None,
    moving_variance_initializer: Any = None,
    beta_regularizer: Any = None,
    gamma_regularizer: Any = None,
    beta_constraint: Any = None,
    gamma_constraint: Any = None,
    training: Any = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
    renorm: bool = False,
    renorm_clipping: Mapping[str, Any] | None = None,
    renorm_momentum: float = 0.99,
    fused: bool | None = None,
) -> Tensor:
    """tf.layers.batch_normalization: as `batch_norm`, with the defaults of tf.layers; updates wait in UPDATE_OPS.

    Raises:
        ArgumentError: for an axis other than the last one or 1, and for constraints, which are not offered.
    """
    x = convert_to_tensor(inputs)
    rank = len(x.lengths or ())
    if axis not in (-1, rank - 1, 1):
        raise ArgumentError(f"batch_normalization: axis is {axis}, expected -1 (NHWC) or 1 (NCHW)")
    if beta_constraint is not None or gamma_constraint is not None:
        raise ArgumentError("batch_normalization: constraints are not offered")
    first = {
        "beta": beta_initializer or zeros_initializer(),
        "gamma": gamma_initializer or ones_initializer(),
        "moving_mean": moving_mean_initializer or zeros_initializer(),
        "moving_variance": moving_variance_initializer or ones_initializer(),
    }
    penalties = {"beta": beta_regularizer, "gamma": gamma_regularizer}
    with variable_scope(name, "batch_normalization", reuse=reuse) as entered:
        return normalized(
            x, entered.name, training, first, penalties, None, trainable, [GraphKeys.UPDATE_OPS], [], None, None, False,
            decay=momentum, center=center, scale=scale, epsilon=epsilon, fused=fused,
            data_format="NHWC" if axis in (-1, rank - 1) else "NCHW", renorm=renorm, renorm_clipping=renorm_clipping,
            renorm_decay=renorm_momentum,
        )  # fmt: skip
