"""minigrad_norms: normalizations as differentiable primitives, functions and layers. A plugin of minigrad."""

from minigrad_norms import samples as _samples  # noqa: F401  (registers them)
from minigrad_norms.adaptive import AdaptiveInstanceNormalization, adaptive_instance_norm
from minigrad_norms.averages import ExponentialMovingAverage
from minigrad_norms.base import Normalization
from minigrad_norms.batch import BatchNormalization
from minigrad_norms.conditional import (
    ConditionalBatchNormalization,
    ConditionalInstanceNormalization,
    conditional_instance_norm,
)
from minigrad_norms.contrib import batch_norm
from minigrad_norms.filter_response import FilterResponseNormalization, filter_response_norm
from minigrad_norms.ghost import ghost_batch_norm
from minigrad_norms.group import GroupNormalization, group_norm
from minigrad_norms.instance import InstanceNormalization, instance_norm
from minigrad_norms.kernels import all_cuda as _all_cuda  # noqa: F401  (registers them)
from minigrad_norms.layer import LayerNormalization, layer_norm
from minigrad_norms.local_response import LocalResponseNormalization, local_response_normalization
from minigrad_norms.lp import lp_normalize
from minigrad_norms.moments import batch_normalization, moments, standardize
from minigrad_norms.picture import sharing
from minigrad_norms.renorm import batch_renorm
from minigrad_norms.rms import RMSNormalization, rms_norm
from minigrad_norms.spectral import SpectralNormalization, power_iteration, spectral_norm
from minigrad_norms.store import (
    AUTO_REUSE,
    GLOBAL_VARIABLES,
    REGULARIZATION_LOSSES,
    TRAINABLE_VARIABLES,
    UPDATE_OPS,
    VariableStore,
    add_to_collection,
    get_collection,
    get_store,
    get_variable,
    run_updates,
    variable_scope,
)
from minigrad_norms.thresholded import TLU
from minigrad_norms.unit import UnitNormalization, unit_norm
from minigrad_norms.weight import WeightNormalization, weight_norm, weight_standardization
from minigrad_norms.weighted import weighted_moments

#: The version of the plugin host that this package is written for.
MINIGRAD_API = 1

__all__ = [
    "AUTO_REUSE",
    "GLOBAL_VARIABLES",
    "MINIGRAD_API",
    "REGULARIZATION_LOSSES",
    "TLU",
    "TRAINABLE_VARIABLES",
    "UPDATE_OPS",
    "AdaptiveInstanceNormalization",
    "BatchNormalization",
    "ConditionalBatchNormalization",
    "ConditionalInstanceNormalization",
    "ExponentialMovingAverage",
    "FilterResponseNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LocalResponseNormalization",
    "Normalization",
    "RMSNormalization",
    "SpectralNormalization",
    "UnitNormalization",
    "VariableStore",
    "WeightNormalization",
    "adaptive_instance_norm",
    "add_to_collection",
    "batch_norm",
    "batch_normalization",
    "batch_renorm",
    "conditional_instance_norm",
    "filter_response_norm",
    "get_collection",
    "get_store",
    "get_variable",
    "ghost_batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_normalization",
    "lp_normalize",
    "moments",
    "power_iteration",
    "rms_norm",
    "run_updates",
    "sharing",
    "spectral_norm",
    "standardize",
    "unit_norm",
    "variable_scope",
    "weight_norm",
    "weight_standardization",
    "weighted_moments",
]
