"""Every registered primitive passes every check; none is inconclusive."""

import pytest

import minigrad as mg

mg.plugins.load("norms")
NAMES = [p.name for p in mg.primitive.primitives() if p.name.split("::")[0] in ("mg", "norms")]


@pytest.mark.parametrize("name", NAMES)
def test_primitive(name):
    mg.gradcheck.check_primitive(name).require()


@pytest.mark.parametrize("name", NAMES)
def test_primitive_is_complete(name):
    p = mg.primitive.get(name)
    assert set(p.devices) >= {"reference", "cpu"}
    good = [s for s in p.draw_samples() if s.error is None]
    assert good
    outputs = p.abstract(*_abstract(good[0]), **good[0].params) if p.outputs else ()
    if any(mg.dtypes.is_differentiable(o.dtype) for o in outputs) and any(_floats(s) for s in good):
        assert p.has_vjp
        assert p.has_jvp


def _abstract(sample):
    import numpy as np

    arrays = [None if a is None else np.asarray(a) for a in sample.inputs]
    return [None if a is None else mg.Abstract(a.shape, a.dtype) for a in arrays]


def _floats(sample):
    return any(a is not None and a.dtype.kind == "f" for a in _abstract(sample))
