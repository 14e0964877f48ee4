"""Every primitive under jit: on each of its samples, a replay gives the bits that an eager call gives."""

import numpy as np
import pytest

import minigrad as mg

mg.plugins.load("norms")
PRIMITIVES = [p for p in mg.primitive.primitives() if p.name.split("::")[0] in ("mg", "norms") and p.draw_samples()]


def other_values(rng, a):
    """An array of the same form whose values stand elsewhere; integers, which may be places, stay."""
    if a is None or np.asarray(a).dtype.kind != "f":
        return a
    return rng.permutation(np.asarray(a).reshape(-1)).reshape(np.shape(a))


def variable_places(primitive, inputs):
    return set(primitive.mutated_inputs(len(inputs)))


def run(primitive, params, inputs, variables):
    tensors = [variables.get(i, None if a is None else inputs[i]) for i, a in enumerate(inputs)]
    found = primitive(*tensors, **params)
    if found is None:
        return tuple(v.copy() for v in variables.values())
    return found


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=[p.name for p in PRIMITIVES])
def test_a_replay_gives_the_bits_of_an_eager_call(primitive):
    rng = np.random.default_rng(0)
    checked = 0
    for sample in primitive.draw_samples(1):
        if sample.error is not None:
            continue
        places = variable_places(primitive, sample.inputs)
        for dtype in (np.float32, np.float64):
            first = [None if a is None else _cast(a, dtype, i, primitive, sample) for i, a in enumerate(sample.inputs)]
            given = [[mg.as_tensor(a) if a is not None else None for a in first]]
            for _ in range(2):
                given.append([None if a is None else mg.as_tensor(other_values(rng, a)) for a in first])

            def fresh(arrays, places=places):
                return {i: mg.Variable(arrays[i], trainable=False) for i in places}

            eager = [run(primitive, sample.params, xs, fresh(xs)) for xs in given]
            held = fresh(given[0])
            rest = [i for i in range(len(first)) if i not in places and first[i] is not None]

            @mg.jit
            def jitted(*tensors, held=held, rest=rest, sample=sample, first=first):
                inputs = [None] * len(first)
                for i, t in zip(rest, tensors):
                    inputs[i] = t
                for i, v in held.items():
                    inputs[i] = v
                return run(primitive, sample.params, inputs, held)

            for xs, want in zip(given, eager):
                for i, v in held.items():
                    v.assign(xs[i])
                found = jitted(*[xs[i] for i in rest])
                want = want if isinstance(want, tuple) else (want,)
                found = found if isinstance(found, tuple) else (found,)
                for f, w in zip(found, want, strict=True):
                    assert f.dtype == w.dtype
                    assert f.shape == w.shape
                    np.testing.assert_array_equal(f.numpy(), w.numpy())
                    checked += 1
            assert jitted.recordings == 1
    assert checked


def _cast(a, dtype, i, primitive, sample):
    a = np.asarray(a)
    wide = i < len(primitive.inputs) and primitive.inputs[i] in sample.wide
    return a if a.dtype != np.float64 or wide else a.astype(dtype)
