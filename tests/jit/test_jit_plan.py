"""Plans: what the passes remove, what lies where, how steps run, and the report of it."""

import numpy as np
import pytest
from networks import batches, network, training_step

import minigrad as mg


def plan_of(f, *args):
    f(*args)
    return f._last.plan


def names(plan):
    return [call.primitive.name for call in plan.calls]


def test_equal_calls_are_one():
    f = mg.jit(lambda x: (mg.exp(x) * 2, mg.exp(x) + mg.exp(x)), fuse=False)
    plan = plan_of(f, mg.tensor([1.0, 2.0]))
    assert names(plan).count("mg::exp") == 1
    assert plan.simplified.counts["merged"] == 2
    a, b = f(mg.tensor([0.0, 1.0]))
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert a._data is not b._data


def test_calls_that_differ_in_a_sign_of_zero_are_two():
    f = mg.jit(lambda x: (mg.pad(x, 1, constant_values=0.0), mg.pad(x, 1, constant_values=-0.0)))
    for _ in range(2):
        a, b = f(mg.tensor([1.0]))
        assert not np.signbit(a.numpy()).any()
        assert np.signbit(b.numpy()).tolist() == [True, False, True]


def test_draws_are_not_merged():
    f = mg.jit(lambda: (mg.random.normal((3,)), mg.random.normal((3,))))
    for _ in range(2):
        a, b = f()
        assert a.tolist() != b.tolist()


def test_constants_are_folded():
    f = mg.jit(lambda x: x + mg.exp(mg.tensor([0.0, 1.0])).sum())
    plan = plan_of(f, mg.tensor([1.0]))
    assert names(plan) == ["mg::add"]
    assert plan.simplified.counts["folded"] == 2
    np.testing.assert_allclose(f(mg.tensor([1.0])).numpy(), [2 + np.e], rtol=1e-6)


def test_dead_calls_are_removed_and_changes_are_not():
    v = mg.Variable([0.0], trainable=False)

    def step(x):
        mg.exp(mg.sin(x))
        v.assign(v + x)
        return x * 2

    f = mg.jit(step, fuse=False)
    plan = plan_of(f, mg.tensor([1.0], "float32"))
    assert sorted(names(plan)) == ["mg::add", "mg::assign", "mg::mul"]
    f(mg.tensor([1.0], "float32"))
    assert v.item() == 2.0


def test_the_backward_pass_leaves_no_gradient_of_what_needs_none():
    w = mg.Variable([[1.0, 2.0]])
    f = mg.jit(lambda x: mg.value_and_grad(lambda: (x @ w).sum(), variables=[w])()[1])
    plan = plan_of(f, mg.tensor([[1.0], [2.0]]))
    assert names(plan).count("mg::matmul") == 1  # the value is dead, and so is the product


def test_memory_of_a_chain_does_not_grow_with_its_length():
    def chain(n):
        def f(x):
            for _ in range(n):
                x = mg.exp(x)
            return x

        return plan_of(mg.jit(f, fuse=False), mg.tensor(np.zeros(1000))).arena_size

    assert chain(30) == chain(4) <= 2 * 8064


def test_views_take_no_memory_and_no_time():
    f = mg.jit(lambda x: mg.exp(x).reshape(6, 2).T[:, ::2].broadcast_to(5, 2, 3))
    plan = plan_of(f, mg.tensor(np.arange(12.0).reshape(3, 4)))
    assert [bool(steps) for steps in plan.steps].count(True) == 1
    x = np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_array_equal(
        f(mg.tensor(x)).numpy(), np.broadcast_to(mg.exp(mg.tensor(x)).numpy().reshape(6, 2).T[:, ::2], (5, 2, 3))
    )


def test_a_training_step_runs_natively_and_in_less_memory():
    model = network()
    step = mg.jit(training_step(model, mg.optim.Adam(0.01)))
    for x, labels in batches(3):
        step(x, labels)
    report = step.plan()
    assert report.least <= report.arena < report.total
    text = str(report)
    assert "norms::standardize " in text
    kinds = {call.primitive.name: steps for call, steps in zip(step._last.plan.calls, step._last.plan.steps)}
    for name in ("norms::standardize", "norms::standardize_vjp", "norms::update_statistics", "mg::adam", "mg::count"):
        found = [kinds[n] for n in kinds if name.partition("::")[2] in n.partition("::")[2].split("+") + n.split("+")]
        assert found, name
        assert all(type(s).__name__ == "Compiled" for steps in found for s in steps), name
    assert "test_jit_plan.py" not in text.splitlines()[5]  # the lines are those of the network's code
    assert "networks.py:" in text


def test_reports_and_drawings(tmp_path):
    f = mg.jit(lambda x: mg.exp(x).sum())
    f(mg.tensor(np.zeros((3, 5))))
    report = f.plan()
    assert "2 calls recorded, 1 left (0 folded, 0 merged, 0 dead, 1 fused)" in str(report)
    assert "float64()" in str(report)
    assert "def replay(x0):" in report.source
    matplotlib = pytest.importorskip("matplotlib")
    assert matplotlib
    figure = report.draw(tmp_path / "arena.png")
    assert (tmp_path / "arena.png").stat().st_size > 1000
    assert len(figure.axes) == 1


def test_large_work_runs_in_parallel_with_the_same_bits():
    x = np.random.default_rng(0).standard_normal((600, 500)).astype(np.float32)
    f = mg.jit(lambda x: (mg.tanh(x), x.sum(axis=0)))
    want = mg.tanh(mg.tensor(x)).numpy(), mg.tensor(x).sum(axis=0).numpy()
    for _ in range(3):
        got = f(mg.tensor(x))
        for a, b in zip(got, want):
            np.testing.assert_array_equal(a.numpy(), b)
    assert "parallel" in str(f.plan())
