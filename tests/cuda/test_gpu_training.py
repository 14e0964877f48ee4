"""On a GPU: steps by graphs against eager ones and the CPU's, and what is left of memory after ten thousand."""

import gc
import sys

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from bench.suites import train
from bench.training import lenet, mlp, mnist
from minigrad import nn
from minigrad.devices import cuda
from minigrad.devices.cuda import driver
from minigrad.errors import IndexRangeError

pytestmark = pytest.mark.gpu
STEPS = 10_000
OPTIMIZERS = {
    "sgd": lambda: mg.optim.SGD(0.1),
    "a schedule and momentum": lambda: mg.optim.SGD(lambda step: 0.1 / (1 + step), momentum=0.9, nesterov=True),
    "adam": lambda: mg.optim.Adam(0.01, clip_norm=1.0),
    "adamw": lambda: mg.optim.AdamW(0.01, weight_decay=0.1),
    "rmsprop": lambda: mg.optim.RMSprop(0.01, momentum=0.5),
    "adagrad": lambda: mg.optim.Adagrad(0.1),
}


class Training:
    """A small network with everything in it, and a step on it."""

    def __init__(self, device, optimizer, jit, fuse=False):
        layers = []
        for width in (70, 33):
            layers += [nn.Dense(width), norms.BatchNormalization(), nn.Activation("relu"), nn.Dropout(0.25)]
        self.model = nn.Sequential([*layers, norms.LayerNormalization(), nn.Dense(10)])
        self.model.set_generator(mg.random.Generator(seed=5))
        self.model.to(device)
        rng = np.random.default_rng(0)
        self.x = mg.tensor(rng.standard_normal((64, 40)).astype(np.float32), device=device)
        self.y = mg.tensor(rng.integers(0, 10, 64), device=device)
        self.model(self.x)
        self.optimizer = optimizer
        optimizer.build(self.model.trainable_variables)
        self.step = mg.jit(self._step, fuse=fuse) if jit else self._step

    def _step(self, x, y):
        loss = nn.losses.softmax_cross_entropy(self.model(x, True), y)
        loss.backward()
        self.optimizer.step(self.model.trainable_variables)
        return loss

    def losses(self, count):
        return [self.step(self.x + 0.01 * i, self.y).item() for i in range(count)]

    def state(self):
        variables = {**self.model.variables, **self.optimizer.variables}
        return {name: v.numpy().copy() for name, v in variables.items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_graphs_have_the_bits_of_eager_steps_and_the_numbers_of_the_cpu(name):
    eager, replayed, there = (
        Training(device, OPTIMIZERS[name](), jit) for device, jit in (("cuda", False), ("cuda", True), ("cpu", False))
    )
    losses = eager.losses(20)
    assert replayed.losses(20) == losses
    for key, values in eager.state().items():
        np.testing.assert_array_equal(replayed.state()[key], values, err_msg=key)
    assert replayed.step.recordings == 1
    (launches,) = replayed.step._last.launches
    assert launches._graph is not None
    np.testing.assert_allclose(losses[:5], there.losses(5), rtol=1e-3)


@pytest.mark.parametrize("name", ["a schedule and momentum", "adam"])
def test_fused_steps_are_fewer_launches_and_agree_to_rounding(name):
    eager, fused = (Training("cuda", OPTIMIZERS[name](), jit, True) for jit in (False, True))
    np.testing.assert_allclose(fused.losses(20), eager.losses(20), rtol=1e-4)
    apart = Training("cuda", OPTIMIZERS[name](), True)
    apart.losses(1)
    counts = [sum(map(len, t.step._last.plan.steps)) for t in (fused, apart)]
    assert counts[0] < counts[1]
    (launches,) = fused.step._last.launches
    assert launches._graph is not None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (257,), (1 << 20,), (1025, 33), (128, 1024), (3, 5, 7)])
def test_fused_loops_give_the_values_of_single_ones(shape, dtype):
    rng = np.random.default_rng(0)
    forms = (shape, shape[-1:], (*shape[:-1], 1), ())
    args = [mg.tensor(rng.standard_normal(s).astype(dtype), device="cuda") for s in forms]

    def function(x, row, column, one):
        y = mg.tanh(x * 0.5 + row) * column
        z = mg.exp(y - one) + x
        return y, z, mg.sin(z) * x[..., ::-1] + y[..., :1]

    fused = mg.jit(function)
    for _ in range(3):
        for a, b in zip(fused(*args), function(*args), strict=True):
            tolerance = 1e-5 if dtype == "float32" else 1e-13
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)
    assert len(fused.plan().kernels) >= 1


@pytest.mark.parametrize(
    ("network", "batch"),
    [(mlp(), 60), (mnist("group"), 32), (mnist("instance"), 32), (lenet(False), 32), (lenet(True), 32)],
    ids=["mlp", "group norm", "instance norm", "lenet", "weight norm"],
)
def test_the_networks_that_are_timed(network, batch):
    eager, jitted, here = (
        train.step_of(network, batch, jit, device) for jit, device in ((False, "cuda"), (True, "cuda"), (False, "cpu"))
    )
    losses = [eager() for _ in range(5)]
    np.testing.assert_allclose([jitted() for _ in range(5)], losses, rtol=1e-5)
    np.testing.assert_allclose([here() for _ in range(5)], losses, rtol=1e-2)


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_ten_thousand_steps_leave_no_memory_behind(jit):
    training = Training("cuda", mg.optim.Adam(1e-4), jit)
    training.losses(100)
    before, objects = _used()
    for _ in range(STEPS // 100):
        assert np.isfinite(training.losses(100)).all()
    after, now = _used()
    assert after - before < 512 * STEPS // 4  # a block that each step leaves behind would be 512 bytes
    assert now <= objects + STEPS // 4


def _used():
    """Bytes of the GPU's memory that are not free, and Python's objects."""
    gc.collect()
    cuda.current(0).synchronize()
    free, total = driver.get().memory(0)
    return total - free, len(gc.get_objects())


def test_graphs_are_destroyed_with_their_functions():
    x = mg.tensor(np.ones((1 << 20,), np.float32), device="cuda")

    def once():
        jitted = mg.jit(lambda x: (x * 2 + 1).sum())
        assert jitted(x).item() == jitted(x).item() == 3 * (1 << 20)

    for _ in range(10):
        once()
    before, _ = _used()
    for _ in range(200):
        once()
    assert _used()[0] - before < 1 << 22  # one recording's values


def test_streams_and_threads_replay_one_function():
    from concurrent.futures import ThreadPoolExecutor

    w = mg.Variable(np.zeros(1 << 16, np.float32), device="cuda")

    @mg.jit
    def step(x):
        w.assign(w + x)
        return (w * 1).sum()

    x = mg.tensor(np.ones(1 << 16, np.float32), device="cuda")
    step(x)

    def work(number):
        with cuda.Stream(0):
            for _ in range(50):
                step(x)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert step(x).item() == 202 * (1 << 16)


def test_faults_of_graphs_are_told():
    jitted = mg.jit(lambda x, i: x[i])
    x, inside = mg.tensor([1.0, 2.0], device="cuda"), mg.tensor([0, 1], device="cuda")
    assert jitted(x, inside).tolist() == jitted(x, inside).tolist() == [1.0, 2.0]
    with pytest.raises(IndexRangeError, match="index 7 is out of range"):
        jitted(x, inside * 7).numpy()
    assert jitted(x, inside).tolist() == [1.0, 2.0]


def test_cublas_is_there_and_right():
    from minigrad.devices.cuda import cublas

    if cublas.binding() is None:
        pytest.skip("nvmath-python is not installed: pip install 'minigrad[cuda]'")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 200)), rng.standard_normal((200, 100))
    for dtype, tolerance in (("f4", 1e-4), ("f8", 1e-12)):
        a, b = (mg.tensor(v.astype(dtype), device="cuda") for v in (x, y))
        np.testing.assert_allclose((a @ b).numpy(), x @ y, atol=tolerance)
        jitted = mg.jit(lambda a, b: a @ b)
        for _ in range(3):
            np.testing.assert_array_equal(jitted(a, b).numpy(), (a @ b).numpy())


def test_libraries_share_memory():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip(f"torch finds no GPU ({sys.version})")
    x = mg.from_dlpack(torch.arange(6.0, device="cuda").reshape(2, 3))
    assert (x * 2).tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
    assert torch.from_dlpack(x * 3).tolist() == [[0.0, 3.0, 6.0], [9.0, 12.0, 15.0]]
