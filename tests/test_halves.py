"""float16 and bfloat16 on the CPU: float32 between two casts, in every primitive, and what else must know of them."""

import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import dtypes, nn, primitive
from minigrad.errors import DTypeError
from minigrad.gradcheck import kernels
from minigrad.gradcheck.primitives import cases
from minigrad.gradcheck.result import PASSED

pytest.importorskip("ml_dtypes")
BFLOAT16 = dtypes.bfloat16()
HALVES = [dtypes.float16, BFLOAT16]
both = pytest.mark.parametrize("dtype", HALVES, ids=["float16", "bfloat16"])
PRIMITIVES = [p for name in ("mg", "norms") for p in primitive.primitives(name)]


def values(*shape, dtype, seed=0):
    return dtypes.rounded(np.random.default_rng(seed).standard_normal(shape), dtype)


@both
@pytest.mark.parametrize("p", PRIMITIVES, ids=[p.name for p in PRIMITIVES])
def test_every_primitive_rounds_once(p, dtype):
    good = [c.sample for c in cases(p) if c.sample is not None and c.sample.error is None]
    for sample in good[:2]:
        result = kernels.against_reference(p, sample, "cpu", dtype, 0)
        assert result.verdict == PASSED, result


@both
def test_sums_are_carried_in_float32(dtype):
    many = mg.tensor(np.ones(70_000), dtype=dtype)  # float16 counts to 2048 in steps of 1, and bfloat16 to 256
    assert mg.mean(many).item() == 1
    ones = mg.tensor(np.ones((1, 3001)), dtype=dtype)
    assert (ones @ ones.T).item() == dtypes.rounded(np.array(3001.0), dtype).item()
    with mg.primitive.on_device("reference"):
        assert mg.sum(ones).item() == (ones @ ones.T).item()


@both
def test_a_network_is_trained(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 5))
    labels = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    losses = {}
    for kind in (dtype, dtypes.float32):
        mg.random.seed(0)
        model = nn.Sequential([
            nn.Dense(16, activation="relu", dtype=kind), norms.BatchNormalization(dtype=kind), nn.Dense(3, dtype=kind),
        ])  # fmt: skip
        data, targets, optimizer = mg.tensor(x, dtype=kind), mg.tensor(labels), mg.optim.Adam(0.01)
        model.build_once(data.shape)
        trained = [v for v in model.variables.values() if v.trainable]

        def step(data, model=model, targets=targets, optimizer=optimizer, trained=trained):
            loss = mg.mean(mg.softmax_cross_entropy(model(data, training=True), targets))
            loss.backward()
            optimizer.step(trained)
            return loss

        jitted = mg.jit(step)
        losses[kind] = [jitted(data).item() for _ in range(20)]
        assert jitted.recordings == 1
        assert {s.dtype for slots in optimizer.slots for s in slots} == {dtypes.float32}
        assert losses[kind][-1] < 0.4 * losses[kind][0]
    np.testing.assert_allclose(losses[dtype], losses[dtypes.float32], rtol=8 * float(dtypes.finfo(dtype).eps))


@both
@pytest.mark.parametrize(
    "make",
    [
        lambda: mg.optim.SGD(0.1, momentum=0.9, nesterov=True), lambda: mg.optim.AdamW(0.1),
        lambda: mg.optim.RMSprop(0.1), lambda: mg.optim.Adagrad(0.1),
    ],
)  # fmt: skip
def test_optimizers_keep_small_squares(make, dtype):
    """Gradients of 1e-4 have squares of which float16 knows nothing."""
    found = []
    for kind in (dtype, dtypes.float32):
        w, optimizer = mg.Variable([1.0, -2.0], dtype=kind), make()
        for _ in range(3):
            optimizer.update([w], [mg.tensor([1.0, 1e-4], dtype=kind)])
        found.append(w.numpy().astype(np.float64))
    np.testing.assert_allclose(*found, rtol=6 * float(dtypes.finfo(dtype).eps), atol=1e-3)


def test_gradients_have_the_type_of_what_they_belong_to():
    x, w = (mg.Variable(values(3, 3, dtype=BFLOAT16, seed=s)) for s in (0, 1))
    loss = mg.sum(mg.tanh(x @ w) * 2.0 + mg.softmax(x))
    loss.backward()
    assert loss.dtype == x.grad.dtype == w.grad.dtype == BFLOAT16
    tangent = mg.jvp(lambda x: mg.exp(x) * x, (x,), (mg.tensor(np.ones((3, 3)), dtype=BFLOAT16),))[1]
    want = np.exp(x.numpy().astype(float)) * (1 + x.numpy().astype(float))
    np.testing.assert_allclose(tangent.numpy().astype(float), want, rtol=0.02, atol=0.01)


@both
def test_jit_has_the_bits_of_calls(dtype):
    def f(x):
        return mg.exp(x) * x + 1, mg.sum(x, 0), x.T[::2], mg.where(x > 0, x, 0.5)

    x, jitted = mg.tensor(values(6, 5, dtype=dtype)), mg.jit(f)
    for factor in (1.0, 2.0, -1.0):
        for got, want in zip(jitted(x * factor), f(x * factor)):
            assert got.dtype == want.dtype
            assert got.numpy().tobytes() == want.numpy().tobytes()


def test_dtypes_meet():
    half, brain, single = (mg.tensor([1.0, 2.0], dtype=d) for d in ("float16", "bfloat16", "float32"))
    assert (half + brain).dtype == (brain * single).dtype == (half - single).dtype == dtypes.float32
    assert (brain * 2).dtype == (2.5 * brain).dtype == (brain / 3).dtype == mg.exp(brain).dtype == BFLOAT16
    assert (brain * mg.tensor([1, 2], dtype="int8")).dtype == (brain + mg.tensor([True, False])).dtype == BFLOAT16
    assert (brain * mg.tensor([1, 2])).dtype == (half * mg.tensor([1, 2])).dtype == dtypes.float64
    assert (brain * np.float64(2)).dtype == (half * np.float64(2)).dtype
    assert (brain < half).dtype == dtypes.bool_
    assert mg.concatenate([half, brain]).dtype == dtypes.float32
    assert (brain * 1.005).tolist() == [1.0078125, 2.015625]  # the number is rounded, as NumPy does for float16


def test_tensors_of_bfloat16():
    x = mg.tensor([[1.0, 3.3, 65504.0], [-0.1, np.nan, -np.inf]], dtype="bfloat16", requires_grad=True)
    first, second = (
        "tensor([[1., 3.297, 6.554e+04],",
        "        [-0.1001, nan, -inf]], dtype=bfloat16, requires_grad=True)",
    )
    assert repr(x) == f"{first}\n{second}"
    assert x[0].tolist() == [1.0, 3.296875, 65536.0]
    assert x.numpy().dtype == BFLOAT16
    assert float(x[0, 1]) == x[0, 1].item() == 3.296875
    assert mg.tensor(x.numpy()).dtype == mg.tensor(np.ones(2, BFLOAT16)).dtype == BFLOAT16
    assert x.astype("float32").dtype == dtypes.float32
    assert mg.tensor([1.7, -1.7], dtype="bfloat16").astype("int32").tolist() == [1, -1]
    assert mg.tensor([1 + 2.0**-8 + 2.0**-40]).astype("float64").astype("bfloat16").item() == 1.0  # via float32: a tie
    assert mg.tensor(np.array([1 + 2.0**-8 + 2.0**-40])).astype("bfloat16").item() == 1 + 2.0**-7


@both
def test_random_numbers(dtype):
    for draw in (mg.random.normal, mg.random.truncated_normal):
        mg.random.seed(1)
        wide = draw(4096, dtype="float32")
        mg.random.seed(1)
        narrow = draw(4096, dtype=dtype)
        assert narrow.dtype == dtype
        assert narrow.numpy().tobytes() == wide.astype(dtype).numpy().tobytes()
    mg.random.seed(1)
    drawn = mg.random.uniform(1 << 16, dtype=dtype).numpy()  # float32's nearest to 1 would be rounded to 1
    assert drawn.max() == np.nextafter(dtype.type(1), dtype.type(0))
    assert drawn.min() >= 0


@both
def test_checkpoints(dtype, tmp_path):
    w = mg.Variable(values(3, 2, dtype=dtype))
    optimizer = mg.optim.Adam(0.1)
    optimizer.update([w], [mg.tensor(values(3, 2, dtype=dtype, seed=1))])
    want = [v.numpy().tobytes() for v in (w, *optimizer.variables.values())]
    mg.save(tmp_path / "run.npz", w=w, optimizer=optimizer, epoch=2)
    w.assign(np.zeros((3, 2)))
    optimizer.update([w], [mg.tensor(values(3, 2, dtype=dtype, seed=2))])
    assert mg.load(tmp_path / "run.npz", w=w, optimizer=optimizer) == {"epoch": 2}
    assert [v.numpy().tobytes() for v in (w, *optimizer.variables.values())] == want
    with pytest.raises(mg.errors.CheckpointError, match=rf"w/value is {dtype}\(3, 2\), expected float32\(3, 2\)"):
        mg.load(tmp_path / "run.npz", w=mg.Variable(np.zeros((3, 2), np.float32)))


def test_dlpack_and_layouts():
    x = mg.tensor(values(4, 3, dtype=BFLOAT16))
    for t in (x, x.T, x[::-1, ::2], x[:0], x[1, 2]):
        back = mg.from_dlpack(Wrapped(t))
        assert (back.dtype, back.shape) == (BFLOAT16, t.shape)
        assert back.tolist() == t.tolist()
        assert mg.exp(t).tolist() == dtypes.rounded(np.exp(t.numpy().astype(np.float32)), BFLOAT16).tolist()
    assert x.__dlpack_device__() == (1, 0)


class Wrapped:
    """A tensor of which others see no more than DLPack."""

    def __init__(self, x):
        self.dtype, self.__dlpack__, self.__dlpack_device__ = "bfloat16", x.__dlpack__, x.__dlpack_device__


def test_without_ml_dtypes():
    program = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import minigrad as mg, minigrad_norms\n"
        "assert mg.exp(mg.tensor([1.0], dtype='float16')).dtype == 'float16'\n"
        "try:\n    mg.tensor([1.0], dtype='bfloat16')\nexcept mg.errors.DTypeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "dtype: bfloat16 needs ml_dtypes; pip install 'minigrad[half]' brings it"


LAYERS = {
    "batch": lambda: norms.BatchNormalization(),
    "layer": lambda: norms.LayerNormalization(),
    "rms scaling": lambda: norms.LayerNormalization(rms_scaling=True),
    "rms": lambda: norms.RMSNormalization(),
    "group": lambda: norms.GroupNormalization(2),
    "instance": lambda: norms.InstanceNormalization(),
    "unit": lambda: norms.UnitNormalization(),
    "filter response": lambda: norms.FilterResponseNormalization(),
}


@both
@pytest.mark.parametrize("name", LAYERS)
def test_norm_layers_take_half_types_beside_float32(name, dtype):
    """They have the bits of float32 layers on the same values, rounded; the gradients of γ and β are float32's."""
    x, ct = values(6, 5, 4, dtype=dtype), values(6, 5, 4, dtype=dtype, seed=1)
    found = []
    for kind in (dtype, dtypes.float32):
        layer = LAYERS[name]()
        t = mg.tensor(x.astype(kind), requires_grad=True)
        layer.build_once(t.shape)
        y = layer(t, training=True)
        y.backward(mg.tensor(ct.astype(kind)))
        assert y.dtype == t.grad.dtype == kind
        trained = [v for v in layer.variables.values() if v.trainable]
        assert all(v.grad.dtype == v.dtype == dtypes.float32 for v in trained)
        rest = [v.grad.tolist() for v in trained] + [v.tolist() for v in layer.variables.values() if not v.trainable]
        found.append((y.astype(dtype).tolist(), t.grad.astype(dtype).tolist(), rest, layer(t).astype(dtype).tolist()))
    assert found[0] == found[1]


def test_second_derivatives_beside_float32():
    x, probe = (values(5, 4, dtype=dtypes.float16, seed=s) for s in (0, 2))
    found = []
    for kind in (dtypes.float16, dtypes.float32):
        gamma, weights = mg.Variable(np.full(4, 1.5, np.float32)), mg.tensor(probe.astype(kind))

        def loss(x, gamma=gamma, weights=weights):
            return mg.sum(norms.layer_norm(x, gamma) * weights)

        second = mg.grad(lambda x: mg.sum(mg.square(mg.grad(loss)(x))))
        result = second(mg.tensor(x.astype(kind)))
        assert result.dtype == kind
        found.append(result.numpy().astype(float))
    np.testing.assert_allclose(*found, rtol=0.02, atol=0.02 * np.abs(found[1]).max())


def test_what_takes_no_floats_says_so():
    with pytest.raises(DTypeError, match="x has dtype complex64"):
        mg.softmax(mg.tensor([1j], dtype="complex64"))
    with pytest.raises(DTypeError, match=r"indices|index"):
        mg.take(mg.tensor([1.0]), mg.tensor([0.0], dtype="bfloat16"))
