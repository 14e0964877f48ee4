"""Which elements share statistics, and the picture of it."""

import sys

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ShapeError
from minigrad_norms import __main__ as command
from minigrad_norms import picture

SHAPE = (2, 3, 4)
N, P, C = np.indices(SHAPE)


@pytest.mark.parametrize(
    ("layer", "together"),
    [
        (norms.BatchNormalization(), C),
        (norms.BatchNormalization(axis=1), P),
        (norms.LayerNormalization(), N * 3 + P),
        (norms.LayerNormalization(axis=(1, 2)), N),
        (norms.InstanceNormalization(), N * 4 + C),
        (norms.GroupNormalization(groups=2), N * 2 + C // 2),
        (norms.RMSNormalization(), N * 3 + P),
        (lambda x: norms.standardize(x, axes=(0, 2), parameter_axes=(), epsilon=0.1)[0], P),
        (mg.tanh, N * 12 + P * 4 + C),
    ],
)
def test_sets_are_those_of_the_definition(layer, together):
    found = norms.sharing(layer, SHAPE)
    pairs = set(zip(found.ravel().tolist(), together.ravel().tolist()))
    assert len(pairs) == len(set(found.ravel().tolist())) == len(set(together.ravel().tolist()))


def test_the_layer_is_left_as_it_is():
    layer = norms.BatchNormalization()
    layer(mg.tensor(np.ones((5, 4), "f4")))
    norms.sharing(layer, (5, 4))
    assert layer.moving_mean.numpy().tolist() == [0.0] * 4


def test_sets_that_overlap_are_refused():
    with pytest.raises(ArgumentError, match="overlap"):
        norms.sharing(lambda x: x * mg.concatenate([x[1:], x[:1]]), (5,))


def test_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"<lambda> gives shape \(\) for \(2, 3\)"):
        norms.sharing(lambda x: x.sum(), (2, 3))


def test_an_image_is_saved(tmp_path):
    pytest.importorskip("matplotlib")
    path = picture.draw({"batch": norms.BatchNormalization(axis=1)}, tmp_path / "a.png", (2, 3, 2, 2), axis=1)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_bad_pictures(tmp_path):
    with pytest.raises(ShapeError, match=r"shape is \(2, 3\), expected samples"):
        picture.draw({"a": mg.tanh}, tmp_path / "a.png", (2, 3))
    with pytest.raises(ArgumentError, match="no layers"):
        picture.draw({}, tmp_path / "a.png")


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ArgumentError, match=r"pip install 'minigrad\[plots\]'"):
        picture.draw({"a": mg.tanh}, tmp_path / "a.png")


def test_command(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "four.png"
    assert command.main(["--out", str(out), "--shape", "2,2,2,4"]) == 0
    assert capsys.readouterr().out == f"saved {out}\n"
    assert out.stat().st_size > 1000
    assert command.main(["--out", str(out), "GroupNormalization", "--groups", "3", "--shape", "2,2,2,4"]) == 2
    assert "3" in capsys.readouterr().err
    for bad, message in [(["Nothing"], "no layer 'Nothing'"), (["--shape", "a"], "--shape is 'a'")]:
        with pytest.raises(SystemExit):
            command.main(bad)
        assert message in capsys.readouterr().err
