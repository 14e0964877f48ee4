"""tf.train: optimizers, learning-rate schedules, moving averages, and files of Variables."""

from minigrad.dialects.tf1.train.averages import ExponentialMovingAverage
from minigrad.dialects.tf1.train.optimizers import (
    AdagradOptimizer,
    AdamOptimizer,
    GradientDescentOptimizer,
    MomentumOptimizer,
    Optimizer,
    RMSPropOptimizer,
)
from minigrad.dialects.tf1.train.saver import Saver, checkpoint_exists, latest_checkpoint
from minigrad.dialects.tf1.train.steps import (
    create_global_step,
    exponential_decay,
    get_global_step,
    get_or_create_global_step,
    global_step,
    inverse_time_decay,
    piecewise_constant,
    polynomial_decay,
)

__all__ = [
    "AdagradOptimizer",
    "AdamOptimizer",
    "ExponentialMovingAverage",
    "GradientDescentOptimizer",
    "MomentumOptimizer",
    "Optimizer",
    "RMSPropOptimizer",
    "Saver",
    "checkpoint_exists",
    "create_global_step",
    "exponential_decay",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
    "inverse_time_decay",
    "latest_checkpoint",
    "piecewise_constant",
    "polynomial_decay",
]
