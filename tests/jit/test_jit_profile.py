"""Profiles: what is counted, what the times add up to, and that a measurement leaves no trace."""

import numpy as np
import pytest
from networks import batches, network, training_step

import minigrad as mg
from minigrad.errors import ArgumentError


def test_a_training_step_by_kernel_and_by_call():
    model, optimizer = network(), mg.optim.Adam(0.01)
    step = mg.jit(training_step(model, optimizer))
    ((x, y),) = batches(1)
    profile = step.profile(x, y)
    plan = step._last.plan
    assert step.recordings == 1
    names = [call.primitive.name for call, steps in zip(plan.calls, plan.steps) if steps]
    assert [call.name for call in profile.calls] == names
    assert {name: count for name, count, _ in profile.kernels} == {name: names.count(name) for name in names}
    total = sum(call.seconds for call in profile.calls)
    assert sum(seconds for _, _, seconds in profile.kernels) == pytest.approx(total)
    assert 0 < total < 10 * profile.seconds
    head, _, titles, *rows = str(profile).splitlines()
    assert f"{1e6 * profile.seconds:.1f} µs a call" in head
    assert titles.split() == ["kernel", "calls", "µs", "share"]
    assert [row.split()[0] for row in rows] == [name for name, _, _ in profile.kernels]
    assert sum(float(row.split()[-1].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.1 * len(rows))
    assert "networks.py:" in profile.by_call().splitlines()[3]


def test_variables_gradients_and_later_calls_are_as_without():
    v, count = mg.Variable([1.0, 2.0]), mg.Variable([0.0], trainable=False)

    @mg.jit
    def step(x):
        loss = ((v * x) ** 2).sum()
        loss.backward()
        count.assign(count + 1)
        return loss

    x = np.array([1.0, 3.0], np.float32)
    step(x)
    v.grad = None
    profile = step.profile(x)
    assert v.grad is None
    assert count.tolist() == [1.0]
    assert profile.replays >= 2
    step(x)
    assert count.tolist() == [2.0]
    assert v.grad.tolist() == [2.0, 36.0]


def test_the_costliest_comes_first():
    f = mg.jit(lambda x: mg.sin(x[:1]) + ((x @ x) @ x).sum())
    profile = f.profile(np.ones((256, 256), np.float32))
    assert profile.kernels[0][:2] == ("mg::matmul", 2)
    assert str(profile).splitlines()[3].startswith("mg::matmul")
    assert profile.by_call().splitlines()[3].split()[:2] == ["mg::matmul", "float32(256,"]


def test_what_is_not_replayed_is_an_error():
    x = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(ArgumentError, match=r"profile: .*<lambda> is not replayed"):
        mg.jit(lambda x: x * 2).profile(x)
