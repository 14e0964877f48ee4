"""examples/style_parts.py and style_transfer.py: images, the network, an added style, and what the losses see."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DataError


@pytest.fixture
def parts(example):
    return example("style_parts")


def network(parts, styles=2, side=16):
    made = parts.Transfer(styles, width=4, residuals=1)
    made.set_generator(mg.random.Generator(0))
    made.make(side)
    return made


def one_hot(*chosen, styles):
    return mg.tensor(np.eye(styles, dtype=np.float32)[list(chosen)])


def test_images_of_a_folder(parts, tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    image.fromarray(rng.integers(0, 255, (30, 45, 3), dtype=np.uint8)).save(tmp_path / "wide.png")
    image.fromarray(rng.integers(0, 255, (40, 20), dtype=np.uint8)).save(tmp_path / "tall.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    found = parts.pictures(tmp_path, 24)
    assert {name: a.shape for name, a in found.items()} == {"tall": (48, 24, 3), "wide": (24, 36, 3)}
    assert all(a.dtype == np.float32 and 0 <= a.min() < a.max() <= 1 for a in found.values())
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none holds no \.jpg and no \.png"):
        parts.pictures(tmp_path / "none", 24)


def test_crops_are_pieces_of_the_images(parts):
    y, x = np.mgrid[:50, :70].astype(np.float32)
    image = np.stack([y, x, np.full_like(x, 7)], -1)
    rng = np.random.default_rng(1)
    batch = parts.crops([image], 200, 20, rng)
    assert batch.shape == (200, 20, 20, 3)
    assert (batch[..., 2] == 7).all()
    down, right = np.diff(batch[..., 0], axis=1), np.diff(batch[..., 1], axis=2)
    for d, r in zip(down, right):  # whole steps of 1 or 2 pixels, mirrored or not
        assert d.min() == d.max() == abs(r.min()) == abs(r.max())
    assert set(np.unique(right)) == {-2.0, -1.0, 1.0, 2.0}
    assert batch[..., 0].min() >= 0
    assert batch[..., 0].max() <= 49
    assert batch[..., 1].max() <= 69
    np.testing.assert_array_equal(parts.crops([image], 5, 20, np.random.default_rng(3)),
                                  parts.crops([image], 5, 20, np.random.default_rng(3)))  # fmt: skip


def test_drawn_images_depend_on_the_seed_alone(parts):
    for drawn in (parts.drawn_styles, parts.drawn_contents):
        one, same, other = drawn(24, 0), drawn(24, 0), drawn(24, 1)
        assert all(a.shape == (24, 24, 3) and a.dtype == np.float32 for a in one.values())
        assert all((one[name] == same[name]).all() for name in one)
        assert any((a != b).any() for a, b in zip(one.values(), other.values()))


@pytest.mark.parametrize("shape", [(30, 21), (21, 30), (16, 16)])
def test_square(parts, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    cut = parts.square(np.stack([y, x, x], -1))
    side = min(shape) // 4 * 4
    assert cut.shape == (side, side, 3)
    assert abs((cut[0, 0, 0] + cut[-1, 0, 0]) - (shape[0] - 1)) <= 1
    assert abs((cut[0, 0, 1] + cut[0, -1, 1]) - (shape[1] - 1)) <= 1


def test_network_keeps_the_size_and_hears_the_style(parts):
    made = network(parts)
    x = mg.tensor(np.random.default_rng(0).uniform(0, 1, (2, 20, 24, 3)).astype(np.float32))
    with mg.no_grad():
        for norm in made.styled:
            norm.gamma.assign([[1.0] * norm.gamma.shape[1], [2.0] * norm.gamma.shape[1]])
        first = made(x, weights=one_hot(0, 0, styles=2)).numpy()
        mixed = made(x, weights=one_hot(0, 1, styles=2)).numpy()
    assert first.shape == (2, 20, 24, 3)
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_allclose(first[0], mixed[0], rtol=1e-5)
    assert np.abs(first[1] - mixed[1]).max() > 0.01


def test_an_added_style_leaves_the_others_as_they_were(parts, example):
    transfer = example("style_transfer")
    options = transfer.parse(["--quick", "--quiet", "--side", "24", "--batch", "2", "--levels", "1"])
    made = network(parts, 2, options.side)
    wider = made.with_style(options.side)
    assert [n.styles for n in wider.styled] == [3] * len(made.styled)
    before = {name: v.numpy().copy() for name, v in wider.variables.items()}
    for name, values in before.items():
        old = made.variables[name].numpy()
        np.testing.assert_array_equal(values[: len(old)], old)
    styles = list(parts.drawn_styles(options.side, 0).values())[:3]
    features = parts.Features(styles, options.levels, options.filters)
    trainer = transfer.Trainer(options, features, styles, list(parts.drawn_contents(options.side, 0).values()))
    vectors = [v for norm in wider.styled for v in (norm.gamma, norm.beta)]
    run = trainer.train(wider, vectors, 3, "adding", only=2)
    assert len(run["style"]) == 3
    for name, variable in wider.variables.items():
        now, then = variable.numpy(), before[name]
        if name.endswith(("gamma", "beta")):
            np.testing.assert_array_equal(now[:2], then[:2])
            assert (now[2] != then[2]).any(), name
        else:
            np.testing.assert_array_equal(now, then)


def test_moments_and_style_loss(parts):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (3, 24, 24, 3)).astype(np.float32)
    features = parts.Features(list(x), levels=2, filters=6, seed=0)
    found = features.style(mg.tensor(x))
    pixels = x.reshape(3, 576, 3).astype(np.float64)
    np.testing.assert_allclose(found[0].numpy(), pixels.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found[1].numpy(), [np.cov(p.T, bias=True) for p in pixels], rtol=1e-4, atol=1e-6)
    assert [f.shape for f in found[2:]] == 2 * [(3, 6), (3, 6, 6), (3, 9), (3, 9, 9)]
    assert parts.style_loss(found, found, one_hot(0, 1, 2, styles=3)).item() < 1e-10
    moved = parts.style_loss(found, found, one_hot(1, 2, 0, styles=3)).item()
    wanted = []
    for f in (f.numpy().astype(np.float64).reshape(3, -1) for f in found):
        target = f[[1, 2, 0]]
        wanted.append((((f - target) ** 2).sum(1) / (target**2).sum(1)).mean())
    assert moved == pytest.approx(np.mean(wanted), rel=1e-4)


def test_filters_are_of_unit_size_on_the_images_patches(parts):
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(80, 80, 3)), 0)  # where neighbours are alike, plain filters would see slopes
    image = ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)
    features = parts.Features([image], filters=16, seed=1)
    seen = mg.conv2d(image[None], features.first).numpy()
    assert (seen.std((0, 1, 2)) > 0.3).all()
    assert (seen.std((0, 1, 2)) < 1.5).all()
    np.testing.assert_array_equal(features.first.numpy(), parts.Features([image], filters=16, seed=1).first.numpy())


def test_content_ignores_contrast_and_roughness_counts_steps(parts):
    x, other = np.random.default_rng(0).uniform(0, 1, (2, 1, 48, 48, 3)).astype(np.float32)
    features = parts.Features([x[0]], levels=1, filters=8, seed=0)
    wanted = features.content(mg.tensor(x)).numpy()
    assert wanted.shape == (1, 8, 8, 4)
    far = np.square(features.content(mg.tensor(other)).numpy() - wanted).mean()
    near = np.square(features.content(mg.tensor(0.5 + 0.8 * x)).numpy() - wanted).mean()
    assert near < 0.01 * far
    ramp = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None], (1, 5, 4, 3))
    assert parts.roughness(mg.tensor(ramp)).item() == pytest.approx(1.0)


def test_options(example, tmp_path, capsys):
    transfer = example("style_transfer")
    assert transfer.parse(["--side", "100"]).side == 104
    assert transfer.parse(["--steps", "8"]).added_steps == 4
    assert transfer.main(["--quiet", "--images", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "style holds no .jpg" in capsys.readouterr().err


def test_mixtures_have_the_styles_in_the_corners(example, parts):
    transfer = example("style_transfer")
    made = network(parts, 4)
    rng = np.random.default_rng(0)
    with mg.no_grad():
        for norm in made.styled:
            norm.gamma.assign(rng.uniform(0.5, 2, norm.gamma.shape))
    image = rng.uniform(0, 1, (16, 16, 3)).astype(np.float32)
    grid = transfer.mixtures(made, image, 4, 3)
    assert len(grid) == len(grid[0]) == 3
    for (row, column), style in zip(((0, 0), (0, 2), (2, 0), (2, 2)), range(4)):
        np.testing.assert_allclose(grid[row][column], transfer.painted(made, image, np.eye(4)[style]), rtol=1e-6)
    np.testing.assert_allclose(grid[1][1], transfer.painted(made, image, np.full(4, 0.25)), rtol=1e-6)
