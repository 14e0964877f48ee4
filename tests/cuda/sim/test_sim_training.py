"""Training on a GPU: the same numbers as on the CPU, and everything stays where it belongs."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, training
from minigrad.errors import DeviceError, IndexRangeError


def network():
    model = nn.Sequential([nn.Dense(6, activation="relu"), nn.Dropout(0.25), nn.Dense(3)])
    model.set_generator(mg.random.Generator(seed=5))
    return model


def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((16, 5)).astype(np.float32), rng.integers(0, 3, 16)


def trained(device, optimizer):
    model = network().to(device)
    x, y = batch()
    history = training.fit(model, x, y, optimizer=optimizer, batch_size=8, epochs=2, progress=False)
    return model, history


@pytest.mark.parametrize(
    "make",
    [lambda: mg.optim.SGD(0.1, momentum=0.9), lambda: mg.optim.Adam(0.01, clip_norm=1.0), lambda: mg.optim.SGD(0.1)],
)
def test_a_run_gives_the_numbers_of_the_cpu(make):
    here, there = make(), make()
    expected, losses = trained("cpu", here)
    model, found = trained("cuda", there)
    np.testing.assert_allclose(found.losses, losses.losses, rtol=2e-5)
    for (name, v), w in zip(model.variables.items(), expected.variables.values()):
        assert v.device == "cuda", name
        np.testing.assert_allclose(v.numpy(), w.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
    for v in there.variables.values():
        assert v.device == "cuda"
    x, y = batch()
    np.testing.assert_allclose(training.predict(model, x), training.predict(expected, x), rtol=1e-4, atol=1e-5)
    scores = training.evaluate(model, x, y, metrics=["accuracy"])
    assert scores["accuracy"] == training.evaluate(expected, x, y, metrics=["accuracy"])["accuracy"]


def test_a_layer_makes_its_variables_where_its_first_input_is_and_moves_them():
    layer = nn.Dense(3)
    y = layer(mg.tensor(np.ones((2, 4), np.float32), device="cuda"))
    assert layer.kernel.device == y.device == "cuda"
    kernel, values = layer.kernel, layer.kernel.numpy()
    assert layer.to("cpu") is layer
    assert layer.kernel is kernel
    assert kernel.device == "cpu"
    assert np.array_equal(kernel.numpy(), values)
    with pytest.raises(DeviceError, match=r"x is on 'cuda', y on 'cpu'; move one with \.to\(device\)"):
        layer(mg.tensor(np.ones((2, 4), np.float32), device="cuda"))


def test_gradients_of_gradients():
    x = mg.tensor([0.5, -1.0, 2.0], dtype="float64")

    def f(x):
        return (mg.tanh(x) * x).sum()

    expected = mg.hvp(f, (x,), (x,)).numpy()
    moved = x.to("cuda")
    np.testing.assert_allclose(mg.hvp(f, (moved,), (moved,)).numpy(), expected, rtol=1e-12)
    assert mg.grad(f)(moved).device == "cuda"


def test_labels_out_of_range_are_told_when_values_are_read():
    logits = mg.tensor(np.zeros((2, 3), np.float32), device="cuda")
    loss = mg.softmax_cross_entropy(logits, [0, 7])
    with pytest.raises(IndexRangeError, match="labels has 7, expected 0 to 2 for 3 classes"):
        loss.numpy()
    assert mg.softmax_cross_entropy(logits, [0, 2]).numpy().shape == (2,)
    y = logits[[0, 5]]
    with pytest.raises(IndexRangeError, match="index 5 is out of range for an axis of length 2"):
        y.item() if y.size == 1 else y.tolist()


def test_checkpoints_go_from_device_to_device(tmp_path):
    x = mg.tensor(batch()[0], device="cuda")
    model = network().to("cuda")
    expected = model(x).numpy()
    mg.save(tmp_path / "model.npz", model=model)
    for device in ("cuda", "cpu"):
        other = network().to(device)
        other(x.to(device))
        mg.load(tmp_path / "model.npz", model=other)
        assert {v.device for v in other.variables.values()} == {device}
        np.testing.assert_allclose(other(x.to(device)).numpy(), expected, rtol=1e-5, atol=1e-6)
