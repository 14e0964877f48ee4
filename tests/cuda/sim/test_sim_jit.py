"""jit on a GPU: replays have the bits of calls, one launch a step, and state goes on from replay to replay."""

import types
import weakref

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import _replayed, nn, primitive, training
from minigrad.devices import cuda
from minigrad.devices.cuda import driver, simulator
from minigrad.errors import ArgumentError, CaptureError, DeviceError, IndexRangeError
from minigrad.gradcheck import gpu
from minigrad.jit.bind import Plain
from minigrad.jit.gpu import Work


class Graphs(simulator.Simulator):
    """A simulator with graphs: what a stream is given under capture is kept, and runs when the graph is launched.

    It stands for the few functions of the driver that graphs take, and raises where a real driver would end a capture.

    Attributes:
        calls: the names of those functions, as they were called.
        fails: those that return an error instead, by name.
    """

    def __init__(self):
        super().__init__(devices=2)
        self.calls, self.fails = [], {}
        self._captured = None  # what the stream under capture was given
        self._graphs = {}
        self.default_stream = types.SimpleNamespace(handle=1)

    has_graphs, relaxed_capture = True, 2

    def ask(self, name, *args):
        self.calls.append(name)
        if name in self.fails:
            raise DeviceError(f"cuda: {name} failed: {self.fails[name]}")
        return getattr(self, "_" + name)(*args)

    def stream(self, device, *, waits=True):
        if not waits:
            self.ask("cuStreamCreate")
        return types.SimpleNamespace(handle=2 if waits else 77)

    def handle(self, stream):
        return stream.handle

    def _cuStreamCreate(self):
        """Nothing to make."""

    def _cuStreamBeginCapture(self, stream, mode):
        assert (stream, mode, self._captured) == (77, 2, None)
        self._captured = []

    def _cuStreamEndCapture(self, stream):
        number, self._graphs[number] = len(self.calls), self._captured
        self._captured = None
        return number

    def _cuGraphInstantiate(self, graph, flags):
        self._graphs[-graph] = self._graphs[graph]
        return -graph

    def _cuGraphDestroy(self, graph):
        del self._graphs[graph]

    _cuGraphExecDestroy = _cuGraphDestroy

    def _cuGraphLaunch(self, executable, stream):
        assert stream == 1
        for work in self._graphs[executable]:
            super().launch(*work)

    def launch(self, device, kernel, grid, block, stream, shared, args):
        work = device, kernel, grid, block, stream, shared, args
        if self._captured is None:
            super().launch(*work)
        else:
            assert stream.handle == 77, "given to another stream during a capture"
            self._captured.append(work)

    def _busy(self, name, *args):
        assert self._captured is None, f"{name} during a capture"
        return getattr(super(), name)(*args)

    def allocate(self, *args):
        return self._busy("allocate", *args)

    def upload(self, *args):
        return self._busy("upload", *args)

    def download(self, *args):
        return self._busy("download", *args)


@pytest.fixture(params=["one by one", "graphs"])
def either(request):
    """The driver that launches one kernel after another, and one that has graphs."""
    made = Graphs() if request.param == "graphs" else simulator.Simulator(devices=2)
    before = driver.use(made)
    yield made
    driver.use(before)


@pytest.fixture
def graphs():
    made = Graphs()
    before = driver.use(made)
    yield made
    driver.use(before)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((8, 5)).astype(np.float32), rng.integers(0, 3, 8)


def trained(jit, optimizer, steps=4):
    """The losses of some steps, all state after them, and the function that made them."""
    layers = [nn.Dense(6, activation="relu"), norms.BatchNormalization(), nn.Dropout(0.25), nn.Dense(3)]
    model = nn.Sequential(layers)
    model.set_generator(mg.random.Generator(seed=5))
    model.to("cuda")
    x, y = (mg.tensor(a, device="cuda") for a in batch())
    model(x)
    variables = model.trainable_variables
    optimizer.build(variables)

    def step(x, y):
        loss = nn.losses.softmax_cross_entropy(model(x, True), y)
        loss.backward()
        optimizer.step(variables)
        return loss

    if jit:
        step = mg.jit(step, fuse=False)
    losses = [step(mg.tensor(x + 0.1 * i), y).item() for i in range(steps)]
    state = [*model.variables.values(), *optimizer.variables.values(), *[g.state for g in model.generators]]
    return losses, [v.numpy().copy() for v in state], step


OPTIMIZERS = {
    "sgd": lambda: mg.optim.SGD(0.1),
    "a schedule": lambda: mg.optim.SGD(lambda step: 0.1 / (1 + step), momentum=0.9),
    "adam": lambda: mg.optim.Adam(0.01, clip_norm=1.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_steps_have_the_bits_of_eager_ones(graphs, name):
    losses, state, _ = trained(False, OPTIMIZERS[name]())
    found, replayed, step = trained(True, OPTIMIZERS[name]())
    assert found == losses
    for a, b in zip(replayed, state, strict=True):
        np.testing.assert_array_equal(a, b)
    assert step.recordings == 1
    assert len(step._last.launches) == 1  # everything on the GPU is one launch
    assert [graphs.calls.count(n) for n in ("cuGraphInstantiate", "cuGraphLaunch")] == [1, 2]


def test_what_python_does_comes_first():
    _, _, step = trained(True, OPTIMIZERS["a schedule"](), 2)
    steps = [step for steps in step._last.plan.steps for step in steps]
    kinds = [isinstance(s, Plain) for s in steps]
    assert sum(kinds) == 3  # the counter's copy, its move, and the rate
    launches = [isinstance(s, Work) for s in steps]
    assert all(launches[launches.index(True) :])
    text = str(step.plan())
    assert "cuda: 1 runs of launches; " in text
    assert "mg::schedule" in text


def test_what_needs_a_result_on_the_cpu_stays_behind_it(either):
    w = mg.Variable([1.0, 2.0], device="cuda")
    total = mg.Variable([0.0, 0.0])

    def step(x):
        y = (w * x).to("cpu")
        total.assign(total + y)
        w.assign(w + (y * 2).to("cuda"))
        return w * 1, y

    jitted, results = mg.jit(step), []
    for f in (step, jitted):
        w.assign([1.0, 2.0])
        total.assign([0.0, 0.0])
        found = [f(mg.tensor([0.5, k], device="cuda")) for k in (1.0, 2.0, 3.0)]
        results.append([[t.tolist() for t in pair] for pair in found] + [total.tolist()])
    assert results[0] == results[1]
    assert found[0][0].device == "cuda"
    assert found[0][1].device == "cpu"
    assert len(jitted._last.launches) == 2


def test_large_arrays_go_to_the_gpu_and_come_back(either):
    jitted = mg.jit(lambda x: (x.to("cuda") * 2 + 1).to("cpu"))
    x = np.random.default_rng(0).standard_normal((130, 130)).astype("f4")  # of a size that is not copied on the way
    kept = [(a, jitted(a)) for a in (x, x + 1, x.T, mg.tensor(x * 3))]
    for a, found in kept:
        np.testing.assert_array_equal(found.numpy(), np.asarray(a) * np.float32(2) + np.float32(1))
    assert jitted.recordings == 1


def test_results_stay_as_they_are_and_arguments_may_be_strided(either):
    jitted = mg.jit(lambda x: {"sum": x.sum(0), "view": (x * 2).T[1:], "state": w})
    w = mg.Variable([3.0], device="cuda")
    a = mg.tensor(np.arange(6.0, dtype="f4").reshape(2, 3), device="cuda")
    kept = [jitted(x) for x in (a, a + 1, (a.T + 0).T, a[::-1])]
    for found, x in zip(kept, (a, a + 1, a, a[::-1])):
        np.testing.assert_array_equal(found["sum"].numpy(), x.numpy().sum(0))
        np.testing.assert_array_equal(found["view"].numpy(), (2 * x.numpy()).T[1:])
    assert jitted.recordings == 1
    w.assign([4.0])
    assert kept[0]["state"].tolist() == [4.0]  # a Variable is itself


def test_gradients_that_were_there_are_added_to(either):
    w = mg.Variable([1.0, 2.0], device="cuda")

    @mg.jit
    def add(x):
        (w * x).sum().backward()

    x = mg.tensor([1.0, 3.0], device="cuda")
    for _ in range(4):
        add(x)
    assert w.grad.tolist() == [4.0, 12.0]
    assert add.recordings == 2  # without a gradient, and with one


def test_faults_of_replays_are_told(either):
    jitted = mg.jit(lambda x, i: x[i])
    x = mg.tensor([1.0, 2.0], device="cuda")

    def places(*n):
        return mg.tensor(list(n), device="cuda")

    assert jitted(x, places(0, 1)).tolist() == [1.0, 2.0]
    assert jitted(x, places(1, 0)).tolist() == [2.0, 1.0]
    bad = jitted(x, places(1, 5))
    with pytest.raises(IndexRangeError, match="index 5 is out of range for an axis of length 2"):
        bad.numpy()
    assert jitted(x, places(1, 1)).tolist() == [2.0, 2.0]


def test_errors_of_recordings(either):
    x = mg.tensor([1.0, 2.0], device="cuda")
    with pytest.raises(CaptureError, match=r"turns a tensor of shape \(2,\) into numpy\(\) at .*test_sim_jit"):
        mg.jit(lambda x: x * x.numpy())(x)
    with pytest.raises(CaptureError, match="the values of a new tensor"):
        mg.jit(lambda x: mg.tensor(x * 2))(x)
    with pytest.raises(
        CaptureError, match=r"computes on 'cuda' and on 'cuda:1', with mg::transfer at .*records one GPU"
    ):
        mg.jit(lambda x: (x * 2).to("cuda:1") + 1)(x)
    with pytest.raises(ArgumentError, match=r"profile: .* computes on a GPU, whose time this clock does not see"):
        mg.jit(lambda x: x * 2).profile(x)
    w = mg.Variable([1.0])
    step = mg.jit(lambda: w * 2)
    assert [step().device, step().device] == ["cpu", "cpu"]
    layer = nn.Dense(1)
    layer._variables = {"w": w}
    layer.to("cuda")  # the recording is of memory that is not the Variable's any more
    assert w.device == "cuda"
    assert step().tolist() == [2.0]
    assert step.recordings == 2


def test_other_devices_are_other_recordings(either):
    jitted = mg.jit(lambda x: x * 2 + 1)
    for device in ("cpu", "cuda", "cuda:1", "cuda", "cpu"):
        found = jitted(mg.tensor([1.0], device=device))
        assert (found.device, found.tolist()) == (device, [3.0])
    assert jitted.recordings == 3


def test_streams_wait_for_each_other(either, monkeypatch):
    jitted = mg.jit(lambda x: x * 2)
    x = mg.tensor([1.0], device="cuda")
    jitted(x), jitted(x)
    waits, stream = [], cuda.Stream(0)
    monkeypatch.setattr(either, "wait", lambda *args: waits.append(args))
    monkeypatch.setattr(either, "_cuGraphLaunch", lambda *args: (), raising=False)
    with stream:
        jitted(x)
    assert (0, stream.native, 0, cuda.current(0).native) in waits
    waits.clear()
    jitted(x)
    assert (0, cuda.current(0).native, 0, stream.native) in waits


def test_fit_replays_on_a_gpu(graphs, monkeypatch):
    monkeypatch.setattr(_replayed, "FIRST", 1)
    found = []
    for jit in (False, True):
        model = nn.Sequential([nn.Dense(4, activation="relu"), nn.Dense(3)]).to("cuda")
        mg.random.seed(1)
        x, y = batch()
        history = training.fit(
            model, x, y, optimizer=mg.optim.SGD(0.1), batch_size=4, epochs=3, progress=False, jit=jit
        )
        found.append((history.losses, [v.numpy().tolist() for v in model.variables.values()]))
    assert found[0] == found[1]
    assert graphs.calls.count("cuGraphLaunch") >= 2


def test_the_order_of_a_capture_and_the_end_of_a_graph(graphs):
    jitted = mg.jit(lambda x: x * 2 + 1, fuse=False)
    x = mg.tensor([1.0], device="cuda")
    assert [jitted(x).item() for _ in range(2)] == [3.0, 3.0]
    assert graphs.calls == []
    assert [jitted(x).item() for _ in range(2)] == [3.0, 3.0]
    captured = ["cuStreamCreate", "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy"]
    assert graphs.calls == [*captured, "cuGraphLaunch", "cuGraphLaunch"]
    memory, gone = weakref.ref(jitted._last.plan.gpu), cuda.current(0).pool.free_bytes()
    del jitted  # and nothing waits for the garbage collector
    assert memory() is None
    assert cuda.current(0).pool.free_bytes() > gone
    assert graphs.calls[-1] == "cuGraphExecDestroy"
    assert not graphs._graphs


@pytest.mark.parametrize(
    "name", ["cuStreamCreate", "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"]
)
def test_a_driver_that_fails_is_told_and_asked_again(graphs, name):
    jitted = mg.jit(lambda x: x * 2)
    x = mg.tensor([1.0], device="cuda")
    jitted(x), jitted(x)
    graphs.fails[name] = "CUDA_ERROR_UNKNOWN"
    with pytest.raises(DeviceError, match=f"cuda: {name} failed: CUDA_ERROR_UNKNOWN"):
        jitted(x)
    graphs.fails.clear()
    graphs._captured = None
    assert jitted(x).item() == 2.0
    assert len(graphs._graphs) == (2 if name == "cuGraphLaunch" else 1) - (name == "cuGraphLaunch")


def test_work_that_fails_ends_the_capture(graphs, monkeypatch):
    jitted = mg.jit(lambda x: x * 2)
    x = mg.tensor([1.0], device="cuda")
    jitted(x), jitted(x)
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "launch", lambda *args: 1 / 0 if graphs._captured is not None else None)
        with pytest.raises(ZeroDivisionError):
            jitted(x)
    assert graphs.calls[-2:] == ["cuStreamEndCapture", "cuGraphDestroy"]
    assert jitted(x).item() == 2.0


SAMPLES = [
    (p, sample)
    for namespace in ("mg", "norms")
    for p in primitive.primitives(namespace)
    if "cuda" in p.devices
    for sample in [s for s in p.draw_samples(1) if s.error is None and sum(map(np.size, s.inputs)) <= 600][:1]
]


@pytest.mark.parametrize(("p", "sample"), SAMPLES, ids=[p.name for p, _ in SAMPLES])
def test_every_primitive_is_replayed(p, sample):
    result = gpu.replays(p, sample)
    assert result.verdict == "passed", result
