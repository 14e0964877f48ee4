"""Philox 4x32-10 (Salmon et al. 2011) in NumPy: the definition that the devices' kernels are held to."""

import numpy as np

_u = np.uint64


def words(start: np.ndarray, count: int) -> np.ndarray:
    """The first `count` words of a draw, as uint64: Philox 4x32-10 in NumPy."""
    mask, s = _u(0xFFFFFFFF), _u(32)
    position = start[1] + np.arange(-(-count // 4), dtype=np.uint64)
    c0, c1 = position & mask, position >> s
    c2 = c3 = np.zeros_like(position)
    key0, key1 = int(start[0]) & 0xFFFFFFFF, int(start[0]) >> 32
    for r in range(10):
        k0, k1 = _u((key0 + r * 0x9E3779B9) & 0xFFFFFFFF), _u((key1 + r * 0xBB67AE85) & 0xFFFFFFFF)
        p0, p1 = c0 * _u(0xD2511F53), c2 * _u(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> s) ^ c1 ^ k0, p1 & mask, (p0 >> s) ^ c3 ^ k1, p0 & mask
    return np.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:count]


def pairs(start: np.ndarray, count: int) -> np.ndarray:
    """The first `count` pairs of words of a draw, each as one number."""
    drawn = words(start, 2 * count)
    return drawn[::2] | (drawn[1::2] << _u(32))
