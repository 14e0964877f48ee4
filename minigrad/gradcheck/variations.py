"""Samples made of others: without optional inputs, in every combination; with axes of length 0 and 1; longer ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import MinigradError
from minigrad.primitive import Abstract, Primitive, Sample

_LARGE = 4096  # elements of an input; larger samples are of several chunks, which smaller ones of them are not


def absences(p: Primitive, samples: Sequence[Sample]) -> Iterator[tuple[str, Sample]]:
    """The combinations of absent inputs that no sample shows; an input is optional if it is absent in some sample.

    Each is made of the first good sample that has what the combination wants. What `infer` refuses is left out.
    """
    good = [s for s in samples if s.error is None]
    if not good or p.mutates:
        return
    count = min(len(s.inputs) for s in good)
    optional = [i for i in range(count) if any(s.inputs[i] is None for s in good)]
    shown = {tuple(s.inputs[i] is not None for i in optional) for s in good if s.differentiable}
    for wanted in product((True, False), repeat=len(optional)):
        if wanted in shown:
            continue
        for sample in sorted(good, key=lambda s: not s.differentiable):
            if all(sample.inputs[i] is not None for i, want in zip(optional, wanted) if want):
                absent = [i for i, want in zip(optional, wanted) if not want]
                inputs = tuple(None if i in absent else a for i, a in enumerate(sample.inputs))
                made = replace(sample, inputs=inputs, invariances=())
                if accepted(p, made):
                    yield f"without {' and '.join(p.input_name(i) for i in absent) or 'nothing'}", made
                break


def resized(p: Primitive, sample: Sample) -> Iterator[tuple[str, Sample]]:
    """The sample with each of its sizes cut to 0 and to 1, in every input; what `infer` refuses is left out."""
    arrays = [None if a is None else np.asarray(a) for a in sample.inputs]
    present = [a for a in arrays if a is not None]
    if not sample.differentiable or any(a.size > _LARGE for a in present):
        return  # what is special about a sample on a kink, or with hard data, is lost with its values
    sizes = sorted({n for a in present for n in a.shape if n > 1})
    for n in sizes:
        for short in (0, 1):
            inputs = tuple(
                None if a is None else a[tuple(slice(short if m == n else m) for m in a.shape)] for a in arrays
            )
            made = replace(sample, inputs=inputs, exact=(), invariances=(), held=None, differentiable=False)
            if accepted(p, made):
                yield f"axes of length {n} cut to {short}", made


def grown(p: Primitive, sample: Sample, most: int, seed: int) -> list[tuple[int, Sample]]:
    """The sample and, with its longest axis that can grow 4, 16, 64 ... times as long in every input, others like it.

    Each comes with the length of that axis; the largest has at most `most` elements in its inputs. New slices are the
    sample's own, each moved a little towards another one: between values that are allowed lie values that are.
    """
    arrays = [None if a is None else np.asarray(a) for a in sample.inputs]
    lengths = sorted({n for a in arrays if a is not None and dtypes.kind(a.dtype) == "f" for n in a.shape if n > 1})
    for n in reversed(lengths):
        found, rng = [(n, sample)], np.random.default_rng((seed, 13))
        while True:
            longer = 4 * found[-1][0]
            inputs = tuple(None if a is None else _stretched(a, n, longer, rng) for a in arrays)
            if sum(np.size(a) for a in inputs if a is not None) > most:
                break
            made = replace(sample, inputs=inputs, exact=(), invariances=(), held=None)
            if not accepted(p, made):
                break
            found.append((longer, made))
        if len(found) > 1:
            return found
    return []


def _stretched(a: np.ndarray, n: int, longer: int, rng: np.random.Generator) -> np.ndarray:
    """The array with each axis of length n as long as `longer`."""
    for axis in [k for k, length in enumerate(a.shape) if length == n]:
        chosen = rng.integers(n, size=longer)
        slices = a.take(chosen, axis)
        if dtypes.kind(a.dtype) == "f":
            others = a.take((chosen + rng.integers(1, n, longer)) % n, axis)
            slices = slices + (others - slices) * (rng.random(slices.shape) / 32).astype(a.dtype)
        a = slices
    return a


def accepted(p: Primitive, sample: Sample) -> bool:
    """Whether `infer` takes the sample."""
    try:
        p.abstract(*map(_abstract, sample.inputs), **sample.params)
    except MinigradError:
        return False
    return True


def _abstract(a: Any) -> Abstract | None:
    return None if a is None else Abstract(np.shape(a), np.asarray(a).dtype)
