"""The CPU kernels of standardization: threads, memory, their canonical form, and plans for any form."""

import itertools
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardize_runs import (
    CASES,
    Run,
    Truth,
    check_all,
)

from minigrad_norms.kernels import standardize_cpu as cpu
from minigrad_norms.kernels.form import NONE, Affine, Form, affine, canonical


def digest(names):
    """The bits of all results on some cases large enough to run in parallel."""
    import hashlib

    found = hashlib.sha256()
    for name in names:
        form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
        run = Run(form, table, table, np.float32)
        out = run.forward()
        got = run.backward(out.mean, out.var)
        for part in (out.y, out.mean, out.var, got.dx, got.dgamma, got.dbeta):
            found.update(part.tobytes())
    return found.hexdigest()


SHARED = [name for name, (form, _) in CASES.items() if Form(*form).size >= 1 << 15]


def test_the_same_bits_for_any_number_of_threads():
    assert {cpu.plan_for(Form(*CASES[n][0]), Affine(*CASES[n][1])).forward.__name__ for n in SHARED} == {
        "columns_forward", "lines_forward", "layers_forward"}  # fmt: skip
    before = numba.get_num_threads()
    found = set()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            found.add(digest(SHARED))
    finally:
        numba.set_num_threads(before)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_standardize_cpu_plans as t; print(t.digest(t.SHARED))"
    )
    for threads in (2, 8):
        output = subprocess.run(
            [sys.executable, "-c", script, os.path.dirname(__file__)],
            env={**os.environ, "NUMBA_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.add(output.stdout.strip())
    assert len(found) == 1


def test_arrays_of_any_shape_are_taken_as_they_lie():
    form, table = Form(*CASES["group norm NHWC"][0]), Affine(*CASES["group norm NHWC"][1])
    run = Run(form, table, table, np.float32)
    flat = run.forward()
    y, mean, var = np.empty((3, 53, 10), np.float32), np.empty((3, 1, 5, 1)), np.empty((3, 1, 5, 1))
    gamma, beta = run.gamma.reshape(5, 2), run.beta.reshape(5, 2)
    cpu.forward(y, mean, var, run.work(), run.x.reshape(3, 53, 10), gamma, beta, run.plan, run.epsilon)
    assert (y.ravel() == flat.y).all()
    assert (mean.ravel() == flat.mean).all()


def test_canonical_form_of_every_pattern():
    """The statistics of x seen in the form are those over the axes, in the order of the kept ones."""
    rng = np.random.default_rng(0)
    for shape in ((2, 3, 5, 4, 7), (2, 1, 5, 1, 7), (1, 1), (), (6,)):
        x = rng.standard_normal(shape)
        for axes in itertools.chain.from_iterable(
            itertools.combinations(range(len(shape)), n) for n in range(len(shape) + 1)
        ):
            form = canonical(shape, axes)
            seen = x if form.permutation is None else np.ascontiguousarray(x.transpose(form.permutation))
            assert form.size == x.size
            found = seen.reshape(form[:4]).mean((1, 3)).ravel()
            np.testing.assert_allclose(found, np.asarray(x.mean(axes)).ravel(), rtol=1e-12)
            if form.permutation is not None:
                again = canonical(seen.shape, tuple(range(x.ndim - len(axes), x.ndim)))
                assert again == form._replace(permutation=None)


def test_a_table_finds_the_parameter_that_broadcasting_would():
    """For every choice of reduced and spanned axes: right where there is a table, and there is one in every layer."""
    shape = (2, 3, 5, 4)
    tables = 0
    subsets = [s for n in range(5) for s in itertools.combinations(range(4), n)]
    for axes, spanned in itertools.product(subsets, subsets):
        form, table = canonical(shape, axes), affine(shape, axes, spanned)
        if table is None:
            continue
        tables += 1
        sizes = [shape[a] if a in spanned else 1 for a in range(4)]
        parameter = np.arange(np.prod(sizes)).reshape(sizes)
        expected = np.broadcast_to(parameter, shape).ravel()
        assert (Truth(form, table, table, 0).index(table).ravel() == expected).all()
    assert tables > 70
    n, h, w, g, c = 2, 5, 7, 3, 4
    assert affine((n, h, w, c), (0, 1, 2), (3,)) == (1, c, 1)
    assert affine((n, c, h, w), (0, 2, 3), (1,)) == (1, c, 1)
    assert affine((n, h, w, c), (1, 2), (3,)) == (1, c, 1)
    assert affine((n, c, h, w), (2, 3), (1,)) == (c, 1, 1)
    assert affine((n, h, w, c), (1, 2), (0, 3)) == (n, c, 1)
    assert affine((n, c, h, w), (2, 3), (0, 1)) == (n * c, 1, 1)
    assert affine((n, h), (1,), (1,)) == (1, 1, h)
    assert affine((n, h, w, g, c), (1, 2, 4), (3, 4)) == (1, g, c)
    assert affine((n, g, c, h, w), (2, 3, 4), (1, 2)) == (g, 1, c)
    assert affine((n, c, h, w), (1,), (1,)) is None  # along r0: permute first
    assert canonical((n, c, h, w), (0, 2)).permutation == (1, 3, 0, 2)
    assert affine((n, c, h, w), (0, 2), (0, 2)) is None
    assert affine((c, w, n, h), (2, 3), (2, 3)) == (1, 1, n * h)


def test_a_plan_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="permutation"):
        cpu.plan_for(canonical((2, 3, 4, 5), (0, 2)))
    for table in (Affine(2, 1, 1), Affine(1, 2, 1), Affine(1, 1, 2)):
        with pytest.raises(ValueError, match="does not fit"):
            cpu.plan_for(Form(3, 5, 7, 11), table)
    run = Run(Form(1, 5, 3, 1), Affine(1, 3, 1), Affine(1, 3, 1), np.float32, without=("gamma",))
    with pytest.raises(ValueError, match="None"):
        run.forward()
    with pytest.raises(ValueError, match="None"):
        run.backward(np.zeros(3), np.ones(3))


def test_the_workspace_does_not_depend_on_threads():
    """It is part of the engine's memory plan, which is made once."""
    before = numba.get_num_threads()
    cpu.plan_for.cache_clear()
    sizes = [cpu.plan_for(Form(*f), Affine(*t), Affine(*t)).workspace for f, t in CASES.values()]
    try:
        numba.set_num_threads(1)
        cpu.plan_for.cache_clear()
        assert [cpu.plan_for(Form(*f), Affine(*t), Affine(*t)).workspace for f, t in CASES.values()] == sizes
    finally:
        numba.set_num_threads(before)
        cpu.plan_for.cache_clear()


@st.composite
def problems(draw):
    k0, r0, k1, r1 = (draw(st.sampled_from([1, 2, 3, 5, 8, 33, 64, 130])) for _ in range(4))
    while k0 * r0 * k1 * r1 > 1 << 15:
        k0, r0, k1, r1 = (max(1, k // 2) for k in (k0, r0, k1, r1))

    def table():
        divisors = lambda n: [d for d in range(1, n + 1) if n % d == 0]  # noqa: E731
        return Affine(
            draw(st.sampled_from(divisors(k0))), draw(st.sampled_from([1, k1])), draw(st.sampled_from(divisors(r1)))
        )

    gamma = table()
    return Form(k0, r0, k1, r1), gamma, draw(st.sampled_from([gamma, NONE])), draw(st.integers(0, 99))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_any_form_with_any_table(problem):
    form, gamma, beta, seed = problem
    check_all(Run(form, gamma, beta, np.float32, seed=seed))
