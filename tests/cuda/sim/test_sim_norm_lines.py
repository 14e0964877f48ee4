"""CUDA normalizations of groups that lie in lines: which kernels run, on how many threads, and γ along the lines."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import Sample, dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import driver
from minigrad.gradcheck import gpu, kernels
from minigrad_norms import formulas
from minigrad_norms.kernels import standardize_cuda
from minigrad_norms.kernels.lines_cuda import quotient, reciprocal
from minigrad_norms.standardize import normalize_vjp_p, standardize_p, standardize_vjp_p


def check(p, sample):
    result = kernels.against_reference(p, sample, gpu.DEVICE, dtypes.float32, 0)
    assert result.verdict == "passed", (p.name, result)


#: Shape, reduced axes, those of γ and β.
LINES = [
    *[((2, 2, 2, span), (2, 3), (1, 2)) for span in (31, 32, 33, 36, 132)],  # sums for a channel of several, from 32
    ((4, 2, 2, 34), (2, 3), (0, 1, 2)),  # γ for a group and a channel
    ((2, 3, 2, 36), (0, 2, 3), (1, 2)),  # lines of several pieces of memory
    ((2, 3, 2, 33), (0, 2, 3), (2,)),
    ((2, 2, 3, 40), (0, 2, 3), (1, 2, 3)),  # γ for an element
    ((35, 1, 33), (2,), (1,)),  # more sums for an entry of γ than a warp has threads
]


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "pieces"])
@pytest.mark.parametrize("form", LINES, ids=str)
def test_parameters_along_lines(form, pieces, monkeypatch):
    if pieces:
        monkeypatch.setattr(standardize_cuda, "_SHARED", 0)
        monkeypatch.setattr(standardize_cuda, "_PIECE", 16)
    shape, axes, along = form
    rng = np.random.default_rng(sum(shape))
    x, dy = 3 + 2 * rng.standard_normal(shape), rng.standard_normal(shape)
    gamma, beta = rng.standard_normal((2, *[shape[a] for a in along]))
    mean, var = (np.asarray(v) for v in formulas.moments(np, x, axes))
    params = {"axes": axes, "parameter_axes": along, "epsilon": 1e-3, "activation": "relu"}
    given, wide = (dy, x, gamma, beta, mean, var), ("mean", "var")
    check(standardize_p, Sample((x, gamma, beta), params))
    check(standardize_vjp_p, Sample((*given, None, None), {**params, "wants": (True,) * 3}, wide=wide))
    if pieces:
        check(normalize_vjp_p, Sample(given, {**params, "wants": (True,) * 5}, wide=wide))


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "pieces"])
def test_deviations_beyond_float32(whole, monkeypatch):
    if not whole:
        monkeypatch.setattr(standardize_cuda, "_SHARED", 0)
    x, dy = np.full((2, 33), 3e38), 1e30 * np.random.default_rng(0).standard_normal((2, 33))
    x[:, 5] = -3e38
    mean, var = (np.asarray(v) for v in formulas.moments(np, x, (1,)))
    form = {"axes": (1,), "parameter_axes": (), "epsilon": 0.0}
    check(standardize_p, Sample((x, None, None), form))
    given = (dy, x, None, None, mean, var, None, None)
    check(standardize_vjp_p, Sample(given, {**form, "wants": (True, False, False)}, wide=("mean", "var")))


WHOLE, IN_PIECES = ["rows_forward", "rows_backward"], ["rows_backward_sums", "slopes", "rows_backward_apply"]


@pytest.mark.parametrize(
    ("shape", "groups", "shared", "kernels"),
    [
        ((1, 64), 0, None, [*WHOLE, "parameter_sums", "parameters"]),  # layer norm
        ((2, 4, 2, 8), 2, None, [*WHOLE, "parameter_sums", "parameters"]),  # lines of 16 for an entry of γ
        ((2, 4, 4, 8), 2, None, [*WHOLE, "parameters"]),
        ((2, 4, 4, 8), 2, 256, ["rows_forward", *IN_PIECES, "parameters"]),  # of 32; x fits, but not x and dy
    ],
    ids=str,
)
def test_which_kernels_run(shape, groups, shared, kernels, monkeypatch):
    found, real = [], driver.get()
    launch = real.launch
    monkeypatch.setattr(real, "launch", lambda *args: found.append(args[1].__name__) or launch(*args))
    if shared:
        monkeypatch.setattr(standardize_cuda, "_SHARED", shared)
    x, gamma = (mg.tensor(np.ones(s, "f4"), device="cuda") for s in (shape, shape[1:2]))

    def f(x, gamma):
        return norms.group_norm(x, gamma, gamma, groups=groups, axis=1) if groups else norms.layer_norm(x, gamma, gamma)

    mg.vjp(f, x, gamma)[1](x)
    assert [name for name in found if name.startswith(("rows", "slopes", "param"))] == kernels


def test_threads_on_groups_in_shared_memory():
    def staged(groups, n, arrays, kind="f4"):
        run = standardize_cuda._Run(cuda.to_device(np.ones((groups, n), kind)), (1,), (), None)
        return run.staged(arrays)

    assert staged(9, 8, 1) == (32, 8, 8 * 32)
    assert staged(3, 8, 1) == (32, 3, 3 * 32)
    assert staged(9, 1024, 1) == (32, 4, 4 * 4096)
    assert staged(9, 1024, 1, "f8") == staged(9, 1024, 2) == (64, 1, 8192)
    assert staged(9, 1025, 1) == (64, 1, 4100)
    assert staged(9, 5632, 2) == (256, 1, 44 << 10)
    assert staged(9, 5633, 2) is None


def test_gamma_may_begin_anywhere():
    rng = np.random.default_rng(0)
    x, ct, gamma = rng.standard_normal((3, 3, 264)).astype("f4")
    found = []
    for begin in (0, 2):
        flat = mg.tensor(np.roll(np.append(gamma[0], gamma[0][:8]), begin), device="cuda")
        given = mg.tensor(x, device="cuda"), flat[begin : begin + 264], flat[begin : begin + 264]
        y, pull = mg.vjp(lambda x, g, b: norms.layer_norm(x, g, b, axis=-1), *given)
        found.append([t.numpy() for t in (y, *pull(mg.tensor(ct, device="cuda")))])
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


def test_division_by_multiplication():
    divide = quotient(True).python
    for d in (1, 2, 3, 7, 49, 1000, 4097, (1 << 16) - 1, (1 << 30) + 1, (1 << 31) - 1):
        for n in {0, 1, d - 1, d, d + 1, 5 * d - 1, 5 * d, (1 << 31) // d * d - 1, (1 << 31) // d * d, (1 << 31) - 1}:
            if 0 <= n < 1 << 31:
                assert divide(n, *reciprocal(d, True)) == n // d
    n, d = (1 << 40) + 5, (1 << 33) + 1
    assert quotient(False).python(n, *reciprocal(d, False)) == n // d
