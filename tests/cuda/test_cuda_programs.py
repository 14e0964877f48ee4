"""Programs, without a GPU: what a kernel's Python code launched once is launched again, on the arrays of each call."""

import gc

import numpy as np
import pytest
from fake_api import FakeDriver, arrays_in

import minigrad as mg
import minigrad_norms  # noqa: F401  (registers primitives)
from minigrad import primitive
from minigrad.devices import cuda
from minigrad.devices.cuda import driver
from minigrad.devices.cuda.launching import ADDRESS
from minigrad.devices.cuda.programs import Program
from minigrad.errors import MinigradError
from minigrad.gradcheck import kernels
from minigrad.tensor import Tensor, Variable

PRIMITIVES = [p for name in ("mg", "norms") for p in primitive.primitives(name) if "cuda" in p.devices]


@pytest.fixture
def fake():
    made = FakeDriver(total=1 << 30)
    before = driver.use(made)
    yield made
    gc.collect()
    driver.use(before)


def called(fake, p, inputs, params):
    """What a call launches, with addresses left out; the driver that stands in sees to it that they are in memory."""
    tensors = [None if a is None else Tensor(kernels.placed(a, "cuda")) for a in inputs]
    for i in p.mutated_inputs(len(inputs)):
        tensors[i] = Variable(tensors[i], trainable=False)
    fake.launches.clear()
    p(*tensors, **params)
    found = []
    for handle, shape, values in fake.launches:
        values = list(values)
        for at in arrays_in(fake.kinds[handle][1]):
            values[at + ADDRESS] %= 16
        found.append((handle, shape, values))
    return found


@pytest.mark.parametrize("p", PRIMITIVES, ids=[p.name for p in PRIMITIVES])
def test_calls_launch_what_the_first_one_did(fake, p, monkeypatch):
    run, ran = Program.run, []
    monkeypatch.setattr(Program, "run", lambda self, *given: ran.append(1) or run(self, *given))
    for sample in p.draw_samples():
        if sample.error is not None:
            continue
        inputs = kernels.cast(p, sample, np.dtype(np.float32))
        flipped = [None if a is None else np.array(a, order="F") for a in inputs]
        for given in (inputs, flipped, inputs):
            try:
                first, again = (called(fake, p, given, sample.params) for _ in range(2))
            except MinigradError:  # about values, which are garbage here
                continue
            assert first == again
    assert ran or p.view or p.name in WITHOUT


#: Those whose code looks at values.
WITHOUT = {"mg::transfer", "mg::schedule"}


def test_each_form_has_a_program(fake):
    x = mg.tensor(np.zeros((64, 8), np.float32), device="cuda")
    plans = primitive.get("mg::exp")._plans
    plans.clear()
    for _ in range(2):
        for part in (x[:32], x[32:], x[1:33], x[:64:2], x[63::-2]):
            mg.exp(part)
    (plan,) = plans.values()
    forms = set(plan.kernel._programs)  # of the output and the input: an address by its remainder, and strides
    assert forms == {(0, 0), (0, 32), (0, (0, (64, 4))), (0, (32, (-64, 4)))}


def test_temporaries_and_constants_stay_alive(fake):
    """Of a reduction in two steps, whose first leaves sums of pieces; and of a fill by a number that was forgotten."""
    x = mg.tensor(np.zeros((1, 1 << 20), np.float32), device="cuda")
    for _ in range(2):
        fake.launches.clear()
        x.sum()
        assert len(fake.launches) == 2
    thin, flat = (mg.tensor(np.zeros(shape, np.float32), device="cuda") for shape in ((2, 0), (0, 3)))
    thin @ flat
    assert len(driver.get().state.constants) == 1
    driver.get().state.constants.clear()
    gc.collect()
    cuda.current(0).pool.release()
    thin @ flat  # of which the driver sees to it that the number is still there
    assert len(fake.launches) == 4


def test_other_streams_wait(fake):
    x = mg.tensor(np.zeros(100, np.float32), device="cuda")
    mg.exp(x)
    stream = cuda.Stream(0)
    fake._api.calls.clear()
    with stream:
        y = mg.exp(x)
    names = [call[0] for call in fake._api.calls]
    assert names.index("cuStreamWaitEvent") < names.index("cuLaunchKernel")
    assert fake._api.calls[names.index("cuLaunchKernel")][9] == stream.native.handle
    assert y._data.lease.stream is stream
