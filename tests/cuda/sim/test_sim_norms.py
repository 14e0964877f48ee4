"""The CUDA kernels of the normalizations against their definitions: samples of each, and sizes around a block's."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import Sample, dtypes, primitive
from minigrad.gradcheck import gpu, kernels
from minigrad.gradcheck.primitives import cases
from minigrad_norms import formulas
from minigrad_norms.kernels import standardize_cuda
from minigrad_norms.standardize import moments_p, normalize_vjp_p, standardize_p, standardize_vjp_p

LARGEST = 500  # elements
#: Which samples of the primitives that have many: what the kernels tell apart.
FORMS = {
    "batch norm NHWC", "batch norm NCHW", "layer norm", "group norm NCHW", "group norm NHWC",
    "a parameter for each position", "everything", "no dimensions", "an empty batch", "no channels", "neither",
    "mean 1e6, spread 1", "scale 1e30", "scale 1e-30 without epsilon", "constant groups without epsilon",
    "NaN and infinity in two groups", "mean_square, layer norm", "sum_square, batch norm NHWC",
    "mean_square, scale 1e30",
    "relu, layer norm", "relu6, at kinks", "elu, batch norm NCHW", "tanh, no β", "sigmoid, group norm NCHW",
}  # fmt: skip


def _cases():
    for p in primitive.primitives("norms"):
        good = [
            case
            for case in cases(p)
            if case.sample is not None and case.sample.error is None
            if sum(np.size(a) for a in case.sample.inputs if a is not None) <= LARGEST
        ]
        if p.name.partition("::")[2] in ("standardize", "standardize_vjp", "normalize", "normalize_vjp", "moments"):
            # Each form once, by one or another of the primitives; without optional inputs by all of them.
            which = [c for c in good if c.sample.note in FORMS or "without" in c.label.split()[:1]]
            which = which[sum(map(ord, p.name)) % 4 :: 4]
        else:
            which = good[:: 1 + len(good) // 4]
        yield from which


CASES = list(_cases())


@pytest.mark.parametrize("case", CASES, ids=[f"{c.primitive.name} ({c.label})" for c in CASES])
def test_conformance(case):
    report = gpu.check_sample(case.primitive, case.sample, case.label)
    if not case.sample.differentiable:  # data for values alone
        report.results = [r for r in report.results if r.check != "derivative"]
    report.require()


def test_every_primitive_has_a_kernel():
    assert [p.name for p in primitive.primitives("norms") if "cuda" not in p.devices] == []


#: Shape and reduced axes: lines around a warp, a block, and what one keeps; columns likewise, of few and many.
SIZES = [
    *[((2, n), (1,)) for n in (1, 31, 32, 33, 255, 257, 1025)],
    *[((n, 3), (0,)) for n in (1, 31, 32, 33, 255, 257, 1025)],
    *[((3, n), (0,)) for n in (31, 32, 33, 257)],
    *[((9, n), (0,)) for n in (6, 64, 260)],  # columns by twos and fours
    ((9, 4, 3), (0, 2)),  # four columns of two groups
    ((33, 2), (1,)),
    ((2, 3, 33), (0, 2)),
    ((4300, 2), (0,)),  # columns in pieces
]


@pytest.mark.parametrize(("shape", "axes"), SIZES, ids=str)
def test_sizes(shape, axes):
    _check_sizes(shape, axes)


@pytest.mark.parametrize("piece", [4096, 100], ids=["whole", "pieces"])
@pytest.mark.parametrize(("shape", "axes"), [((2, 257), (1,)), ((3, 2, 64), (0, 2))], ids=str)
def test_groups_that_do_not_fit_into_shared_memory(shape, axes, piece, monkeypatch):
    monkeypatch.setattr(standardize_cuda, "_SHARED", 0)
    monkeypatch.setattr(standardize_cuda, "_PIECE", piece)
    _check_sizes(shape, axes)


def _check_sizes(shape, axes):
    rng = np.random.default_rng(sum(shape))
    x, dy = 3 + 2 * rng.standard_normal(shape), rng.standard_normal(shape)
    kept = (len(shape) - 1,) if axes != (0, 2) else (1,)
    gamma, beta = rng.standard_normal((2, shape[kept[0]]))
    mean, var = (np.asarray(v) for v in formulas.moments(np, x, axes))
    form = {"axes": axes, "parameter_axes": kept, "epsilon": 1e-3}
    wide = ("mean", "var")
    given = (dy, x, gamma, None, mean, var)
    samples = [
        (standardize_p, Sample((x, gamma, beta), form)),
        (moments_p, Sample((x,), {"axes": axes})),
        (standardize_vjp_p, Sample((*given, None, None), {**form, "wants": (True,) * 3}, wide=wide)),
        (normalize_vjp_p, Sample(given, {**form, "wants": (True,) * 5}, wide=wide)),
    ]
    for p, sample in samples if np.size(x) < 600 else samples[::2]:
        result = kernels.against_reference(p, sample, gpu.DEVICE, dtypes.float32, 0)
        assert result.verdict == "passed", (p.name, result)


@pytest.mark.parametrize("shape", [(9, 8), (9, 4, 3), (40, 257)], ids=str)
def test_bits_do_not_depend_on_where_memory_begins(shape):
    axes = (0, 2) if len(shape) == 3 else (0,)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((int(np.prod(shape)) + 1,)).astype("f4") for _ in range(2))
    found = []
    for start in (0, 1):
        shifted = [np.roll(a, start) for a in (x, dy)]
        a, b = (mg.tensor(s, device="cuda")[start : start + x.size - 1].reshape(shape) for s in shifted)
        y, pull = mg.vjp(lambda x: norms.standardize(x, axes=axes, parameter_axes=(), epsilon=1e-3)[0], a)
        found.append([t.numpy() for t in (y, *pull(b), mg.sum(a, 0), mg.argmax(a, 0))])
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


def test_labels_and_weights_out_of_range_are_reported():
    from minigrad.errors import ArgumentError, IndexRangeError

    x, gamma = mg.tensor(np.ones((2, 3, 1), np.float32), device="cuda"), mg.tensor(np.ones((2, 1), "f4"), device="cuda")
    with pytest.raises(IndexRangeError, match="label 5 is out of range for 2 styles"):
        norms.conditional_instance_norm(x, gamma, labels=mg.tensor([0, 5], device="cuda")).numpy()
    with pytest.raises(ArgumentError, match="group 0 of 2 add up to 0"):
        norms.weighted_moments(x, (1, 2), mg.tensor(np.zeros((2, 1, 1), "f4"), device="cuda"))[0].numpy()


def test_layers_run_on_the_gpu():
    x = mg.tensor(np.random.default_rng(0).standard_normal((4, 6)).astype("f4"))
    for function in (
        lambda x: norms.layer_norm(x, axis=-1),
        lambda x: norms.rms_norm(x, axis=-1),
        lambda x: norms.group_norm(x, groups=2),
        lambda x: norms.unit_norm(x),
    ):
        wanted = function(x).numpy()
        assert np.allclose(function(x.to("cuda")).numpy(), wanted, atol=1e-6)
