"""CUDA kernels of normalizations of columns, and of groups across short rows, at the edges of each way there is."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import Sample, dtypes
from minigrad.devices.cuda import driver, simulator
from minigrad.gradcheck import gpu, kernels
from minigrad_norms import formulas
from minigrad_norms.kernels import standardize_cuda
from minigrad_norms.standardize import moments_p, normalize_p, normalize_vjp_p, standardize_p, standardize_vjp_p

#: Shape, reduced axes and those of γ, where blocks may have whole columns.
WHOLE = [
    ((2, 16), (0,), (1,)),  # fewer rows than a thread has columns
    ((2, 5), (0,), (1,)),
    ((2, 2), (0,), ()),
    ((33, 12), (0,), (1,)),  # a row for a thread
    ((67, 68), (0,), (1,)),  # three rows for some threads, and a block that has few columns
    ((2, 5, 6), (1,), (2,)),  # γ for columns of several groups
    ((2, 5, 6), (1,), (0, 2)),
]
#: Where they have not: a piece has one row for each of its threads, if there are as many.
PIECES = [
    ((81, 72), (0,), (1,)),  # nine pieces, of the ten that there might be
    ((300, 3), (0,), ()),
    ((2, 67, 5), (1,), (2,)),
    ((2, 67, 5), (1,), (0, 2)),
    ((67, 5, 4), (0, 2), (1,)),  # four neighbours of a group
    ((67, 4, 6), (0, 2), (1, 2)),  # each with a γ of its own
    ((37, 36), (1,), (1,)),  # the sums for γ alone, of lines that are groups,
    ((5, 7, 2, 36), (1, 3), (2, 3)),  # of lines of other groups in between,
    ((5, 7, 2, 36), (1, 3), (3,)),  # and of all lines
]
BACKWARD = ["columns_backward_sums", "finish_columns", "columns_backward_apply"]
CASES = [*[(32, *case) for case in WHOLE], *[(0, *case) for case in PIECES]]


@pytest.fixture
def cut(monkeypatch):
    """Say how many rows a thread has at most where blocks have whole columns. Pieces are as small as can be."""

    def cut(whole):
        monkeypatch.setattr(standardize_cuda, "_WHOLE", whole)
        monkeypatch.setattr(standardize_cuda, "_ROWS", 1)
        driver.use(simulator.Simulator())  # which has no programs yet

    return cut


def check(primitive, sample, dtype=dtypes.float32):
    result = kernels.against_reference(primitive, sample, gpu.DEVICE, dtype, 0)
    assert result.verdict == "passed", (primitive.name, result)


def samples(shape, axes, parameter_axes, wild=False):
    """All primitives with all their inputs; where `wild`, next to ordinary groups some that need float64."""
    rng = np.random.default_rng(sum(shape))
    x, dy = 3 + 2 * rng.standard_normal(shape), rng.standard_normal(shape)
    if wild:
        x[..., 1] *= 1e-40
        dy[..., 1] *= 1e-20
        x[..., 5] *= 1e-5
        x[..., 9] += 1e5
    gamma, beta = rng.standard_normal((2, *[shape[a] for a in parameter_axes]))
    mean, var = (np.asarray(v) for v in formulas.moments(np, x, axes))
    dmean, dvar = rng.standard_normal((2, *mean.shape))
    if wild:
        dvar[..., 5] = 1e41  # times 2·(x − mean)/n within float32's range, which the first factors are not
    form = {"axes": axes, "parameter_axes": parameter_axes, "epsilon": 0.0 if wild else 1e-3}
    wide, given = ("mean", "var", "dmean", "dvar"), (dy, x, gamma, beta, mean, var)
    yield standardize_p, Sample((x, gamma, beta), form)
    yield standardize_vjp_p, Sample((*given, dmean, dvar), {**form, "wants": (True,) * 3}, wide=wide)
    yield normalize_vjp_p, Sample(given, {**form, "wants": (True,) * 5}, wide=wide[:2])
    if not wild:
        yield moments_p, Sample((x,), {"axes": axes})
        yield normalize_p, Sample((x, gamma, beta, mean, var), form, wide=wide[:2])


@pytest.mark.parametrize(("whole", "shape", "axes", "parameter_axes"), CASES, ids=str)
def test_values_and_gradients_are_those_of_the_definitions(whole, shape, axes, parameter_axes, cut):
    cut(whole)
    for primitive, sample in samples(shape, axes, parameter_axes):
        check(primitive, sample)


@pytest.mark.parametrize("whole", [32, 0])
def test_wild_groups_and_float64(whole, cut):
    cut(whole)
    for primitive, sample in samples((67, 12), (0,), (1,), wild=True):
        check(primitive, sample)
    for primitive, sample in samples((67, 6), (0,), (1,)):
        check(primitive, sample, dtypes.float64)


@pytest.mark.parametrize("whole", [32, 0])
@pytest.mark.parametrize("statistic", ["mean_square", "sum_square"])
def test_other_statistics(statistic, whole, cut):
    cut(whole)
    for primitive, sample in list(samples((35, 8), (0,), (1,)))[:2]:
        x, form = sample.inputs[primitive is standardize_vjp_p], {**sample.params, "statistic": statistic}
        inputs = list(sample.inputs)
        if primitive is standardize_vjp_p:
            inputs[4], inputs[5] = 0 * inputs[4], (x * x).sum(0) / (1 if statistic == "sum_square" else len(x))
        check(primitive, Sample(tuple(inputs), form, wide=sample.wide), dtypes.float64)


def test_float64_keeps_the_digits_of_a_variance(cut):
    x = np.random.default_rng(0).standard_normal((40, 6))
    x[0] += 1e6  # which sums are taken about
    for whole in (32, 0):
        cut(whole)
        var = norms.moments(mg.tensor(x, device="cuda"), 0)[1].numpy()
        np.testing.assert_allclose(var, np.var(x.astype(np.longdouble), 0).astype("f8"), rtol=1e-14)


@pytest.mark.parametrize("whole", [32, 0])
def test_gradients_that_are_not_wanted(whole, cut):
    cut(whole)
    x, gamma = (mg.tensor(a, device="cuda") for a in np.random.default_rng(0).standard_normal((2, 70, 4)).astype("f4"))

    def loss(x, gamma):
        return (norms.standardize(x, gamma, None, axes=(0,), parameter_axes=(1,), epsilon=1e-3)[0] ** 3).sum()

    both = mg.grad(loss, (0, 1))(x, gamma[0])
    for k in (0, 1):
        np.testing.assert_array_equal(mg.grad(loss, k)(x, gamma[0]).numpy(), both[k].numpy())


@pytest.mark.parametrize("whole", [32, 0])
def test_bits_do_not_depend_on_where_memory_begins(whole, cut):
    cut(whole)
    x = np.random.default_rng(0).standard_normal((70, 8)).astype("f4")
    x[:, 1] *= 1e-20
    found = []
    for start in (0, 1):
        there = mg.tensor(np.concatenate([x.ravel()[:start], x.ravel()]), device="cuda")[start:].reshape(x.shape)
        y, pull = mg.vjp(lambda x: norms.standardize(x, axes=(0,), parameter_axes=(), epsilon=0.0)[0], there)
        found.append([t.numpy() for t in (y, *pull(there * there))])
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("whole", [32, 0])
def test_a_mean_is_not_rounded(whole, cut):
    cut(whole)
    x = (1e5 + np.random.default_rng(0).standard_normal((67, 4))).astype("f4")
    ct = 1 + np.arange(x.size, dtype="f4").reshape(x.shape) % 7
    d = x - x.mean(0, dtype="f8")
    wanted = d / d.std(0)
    slope = (ct - ct.mean(0, dtype="f8") - wanted * (ct * wanted).mean(0)) / d.std(0)
    form = {"axes": (0,), "parameter_axes": (), "epsilon": 0.0}
    y, pull = mg.vjp(lambda x: norms.standardize(x, **form)[0], mg.tensor(x, device="cuda"))
    np.testing.assert_allclose(y.numpy(), wanted, atol=1e-6)
    np.testing.assert_allclose(pull(mg.tensor(ct, device="cuda"))[0].numpy(), slope, atol=1e-6)


@pytest.mark.parametrize("whole", [32, 0])
def test_threads_may_run_from_the_last_to_the_first(whole, cut, monkeypatch):
    cut(whole)
    monkeypatch.setattr(driver.get(), "backwards", True)
    for rows in (33, 34):  # the second time, what is not written yet has another value from before
        for primitive, sample in list(samples((rows, 12), (0,), (1,)))[:2]:
            check(primitive, sample)


@pytest.mark.parametrize("shape", [(2, 16), (2, 8), (9, 4), (2, 1024)], ids=str)
def test_a_block_has_a_thread_for_each_of_its_columns(shape):
    run = standardize_cuda._Run(kernels.placed(np.ones(shape, "f4"), "cuda"), (0,), (), None)
    assert run.whole
    assert run.width == 4
    assert run.grid()[1][1] >= 4
    assert run.whole_grid()[2][1] >= 4


def test_how_many_kernels_run(cut, monkeypatch):
    names, launch = [], simulator.Simulator.launch

    def noted(self, device, kernel, *arguments):
        names.append(kernel.__name__)
        launch(self, device, kernel, *arguments)

    monkeypatch.setattr(simulator.Simulator, "launch", noted)
    x, gamma = mg.tensor(np.ones((70, 4), "f4"), device="cuda"), mg.tensor(np.ones(4, "f4"), device="cuda")
    for whole, forward, backward in (
        (32, ["columns_forward"], ["columns_backward"]),
        (0, ["columns_sums", "moments", "columns_apply"], BACKWARD),
    ):
        cut(whole)
        names.clear()
        form = {"axes": (0,), "parameter_axes": (1,), "epsilon": 1e-3}
        _, pull = mg.vjp(lambda x, gamma, form=form: norms.standardize(x, gamma, gamma, **form)[0], x, gamma)
        assert [n for n in names if n in {*forward, *backward}] == forward
        names.clear()
        pull(x)
        assert [n for n in names if n in {*forward, *backward}] == backward
