"""float16 and bfloat16 on the simulator: every primitive of both packages, on its first samples."""

import importlib.util

import numpy as np
import pytest
from test_sim_kernels import FakeBlas

import minigrad as mg
import minigrad_norms as norms
from minigrad import dtypes, nn, primitive
from minigrad.devices.cuda import cublas, driver
from minigrad.gradcheck import gpu, kernels
from minigrad.gradcheck.primitives import cases

LARGEST = 600  # elements
HALVES = [dtypes.float16, *([dtypes.bfloat16()] if importlib.util.find_spec("ml_dtypes") else [])]


def first_cases(p):
    """The first good sample that has a float of a few elements, without the wide ones, or else the first of all."""
    good = [c for c in cases(p) if c.sample is not None and c.sample.error is None]
    sizes = [sum(np.size(a) for a in c.sample.inputs if a is not None) for c in good]
    floats = [any(kernels.is_float(a) and np.size(a) > 1 for a in c.sample.inputs) for c in good]
    found = [c for c, n, f in zip(good, sizes, floats) if f and n <= LARGEST]
    return (found or good)[:1]


CASES = [
    c for name in ("mg", "norms") for p in primitive.primitives(name) if "cuda" in p.devices for c in first_cases(p)
]


@pytest.mark.parametrize("dtype", HALVES, ids=[dtype.name for dtype in HALVES])
@pytest.mark.parametrize("case", CASES, ids=[c.primitive.name for c in CASES])
def test_values_and_derivatives(case, dtype):
    gpu.check_half(case.primitive, case.sample, dtype, case.label).require()


LAYERS = (
    norms.BatchNormalization, norms.LayerNormalization, norms.RMSNormalization, lambda: norms.GroupNormalization(2),
)  # fmt: skip
both = pytest.mark.parametrize("dtype", HALVES, ids=[dtype.name for dtype in HALVES])


def values(*shape, dtype, seed=0):
    return dtypes.rounded(np.random.default_rng(seed).standard_normal(shape), dtype)


def close(got, want, dtype):
    """Within a unit in the last place, for results whose float32 values may differ by one in theirs."""
    got, want = (a.numpy().astype(np.float64) for a in (got, want))
    np.testing.assert_allclose(got, want, rtol=float(dtypes.finfo(dtype).eps), atol=1e-6)


@both
@pytest.mark.parametrize(
    "make",
    [norms.BatchNormalization, norms.LayerNormalization, lambda: norms.GroupNormalization(2), norms.RMSNormalization],
)
def test_norm_layers_take_half_types_beside_float32(make, dtype):
    x, ct = values(6, 40, 4, dtype=dtype), values(6, 40, 4, dtype=dtype, seed=1)
    found = []
    for device in ("cuda", "cpu"):
        layer = make()
        t = mg.tensor(x, requires_grad=True, device=device)
        layer.build_once(t.shape)
        layer.to(device)
        y = layer(t, training=True)
        y.backward(mg.tensor(ct, device=device))
        assert y.dtype == t.grad.dtype == dtype
        found.append((y, t.grad, [v.grad for v in layer.variables.values() if v.trainable]))
    (y, dx, sums), (y_cpu, dx_cpu, sums_cpu) = found
    close(y, y_cpu, dtype)
    close(dx, dx_cpu, dtype)
    for a, b in zip(sums, sums_cpu):
        assert a.dtype == dtypes.float32
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


@both
def test_sums_of_many_terms_are_carried_in_float32(dtype):
    ones = mg.tensor(np.ones((2, 3001)), dtype=dtype, device="cuda")
    want = float(dtypes.rounded(np.array(3001.0), dtype))
    assert mg.sum(ones, 1).tolist() == [want, want]
    assert (ones @ ones.T).tolist() == [[want, want]] * 2
    assert mg.mean(ones).item() == 1
    assert mg.sum(ones.reshape(3001, 2), 0).tolist() == [want, want]
    index = mg.tensor(np.zeros(3001, np.int64), device="cuda")
    scattered = mg.primitive.get("mg::scatter_add")(ones[0], index, axis=0, length=1)
    assert scattered.tolist() == [want]
    signs, kernel = np.where(np.arange(3001) < 1500, 1.0, -1.0), np.ones((1, 1, 1, 1))
    image, kernel = (mg.tensor(a, dtype=dtype, device="cuda") for a in (signs.reshape(1, 1, -1, 1), kernel))
    assert mg.grad(lambda k: mg.sum(mg.conv2d(image, k)))(kernel).item() == -1  # of sums of 272 and 273 pixels


def test_cublas_adds_up_in_float32(monkeypatch):
    fake = FakeBlas()
    monkeypatch.setattr(cublas, "binding", lambda: fake)
    x = mg.tensor(np.arange(6, dtype=np.float32).reshape(2, 3), device="cuda")
    for dtype in HALVES:
        h = x.astype(dtype)
        assert (h[:, :2] @ h[:, 1:].T).dtype == dtype
        assert (h[:, :2] @ h[:, 1:].T).tolist() == (x[:, :2] @ x[:, 1:].T).tolist()
        assert fake.calls
    monkeypatch.setattr(driver.get(), "capability", lambda device: (7, 5))
    for dtype in HALVES:  # an older GPU's cuBLAS has no bfloat16
        h, calls = x.astype(dtype), fake.calls
        assert (h @ h.T).tolist() == (h.to("cpu") @ h.T.to("cpu")).tolist()
        assert fake.calls == calls + (dtype == dtypes.float16)


@both
def test_training_steps(dtype):
    """Eager and replayed on the GPU as on the CPU."""
    rng = np.random.default_rng(0)
    x, labels = values(16, 5, dtype=dtype), rng.integers(0, 3, 16)
    losses = []
    for device, wrap in (("cpu", lambda f: f), ("cuda", lambda f: f), ("cuda", mg.jit)):
        mg.random.seed(0)
        model = nn.Sequential([nn.Dense(8, activation="relu", dtype=dtype), nn.Dense(3, dtype=dtype)])
        model.build_once((None, 5))
        model.to(device)
        trained, optimizer = list(model.variables.values()), mg.optim.Adam(0.05)
        data, targets = mg.tensor(x, device=device), mg.tensor(labels, device=device)

        def step(data, targets, model=model, trained=trained, optimizer=optimizer):
            loss = mg.mean(mg.softmax_cross_entropy(model(data), targets))
            loss.backward()
            optimizer.step(trained)
            return loss

        run = wrap(step)
        losses.append([run(data, targets).item() for _ in range(4)])
        assert {s.dtype for slots in optimizer.slots for s in slots} == {dtypes.float32}
    np.testing.assert_allclose(losses[1], losses[0], rtol=2 * float(dtypes.finfo(dtype).eps))
    assert losses[1] == losses[2]
    assert losses[0][-1] < losses[0][0]


@both
def test_random_numbers_are_the_cpus(dtype):
    for draw in (mg.random.uniform, mg.random.truncated_normal):
        got, want = (draw(1000, dtype=dtype, generator=mg.random.Generator(3), device=d) for d in ("cuda", "cpu"))
        assert got.dtype == dtype
        assert np.mean(got.numpy() == want.numpy()) > 0.99
        close(got, want, dtype)
    x = mg.tensor(values(100, dtype=dtype))
    got, want = (mg.dropout(x.to(d), 0.5, mg.random.Generator(3)) for d in ("cuda", "cpu"))
    assert got.tolist() == want.tolist()


@both
def test_values_go_everywhere(dtype):
    x = mg.tensor(values(3, 4, dtype=dtype), requires_grad=True)
    y = x.to("cuda")
    (y * 2).to("cpu").backward(mg.tensor(np.ones((3, 4)), dtype=dtype))
    assert x.grad.tolist() == [[2.0] * 4] * 3
    assert repr(y.detach()).endswith(f"dtype={dtype}, device='cuda')")
    assert y.__cuda_array_interface__["typestr"] == ("<V2" if dtype.kind == "V" else "<f2")
    taken = mg.tensor(Exported(y))
    assert (taken.dtype, taken.device, taken.tolist()) == (dtype, "cuda", x.tolist())
    back = mg.from_dlpack(y[:, ::2])
    assert (back.dtype, back.tolist()) == (dtype, x[:, ::2].tolist())
    for other in (*HALVES, "float32", "float64", "int32", "bool"):
        assert y.astype(other).tolist() == x.astype(other).tolist()
    wide = mg.tensor(np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-11 + 2.0**-40, -1e-9, 70000.0]))
    assert wide.to("cuda").astype(dtype).tolist() == wide.astype(dtype).tolist()


class Exported:
    """What another library has in a GPU's memory."""

    def __init__(self, x):
        self.__cuda_array_interface__ = x.__cuda_array_interface__
