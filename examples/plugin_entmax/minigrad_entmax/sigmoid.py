"""The sigmoid of 1.5-entmax: an elementwise primitive, which is one scalar function."""

import numpy as np

import minigrad as mg
from minigrad import scalar


def _samples(rng):
    for shape in [(), (1,), (0,), (2, 3)]:
        yield mg.Sample((rng.uniform(-1.9, 1.9, shape),))
    yield mg.Sample((np.array([-3.0, 3.0, 0.5])[::-1],), note="saturated, and reversed in memory")
    yield mg.Sample((np.array([-2.0, 2.0, np.inf, -np.inf, np.nan]),), differentiable=False, note="the ends")


@mg.elementwise("entmax::sigmoid15", samples=_samples)
def sigmoid15(x):
    """The first entry of 1.5-entmax of (x, 0): a sigmoid that is exactly 0 below -2 and exactly 1 above 2.

    With u = x/2 clipped to [-1, 1]: (u + √(2 − u²))²/4 (Peters, Niculae & Martins 2019, α = 3/2 in two classes).
    """
    u = scalar.maximum(scalar.minimum(x / 2, 1), -1)
    root = u + scalar.sqrt(2 - u * u)
    return root * root / 4
