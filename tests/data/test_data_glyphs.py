"""glyphs: the same for a seed, a prefix of any longer draw, balanced, varied, and telling the digits apart."""

import numpy as np
import pytest

from minigrad.data import drawing, glyph_dataset, glyphs
from minigrad.data.strokes import hands
from minigrad.errors import ArgumentError, ArgumentTypeError


@pytest.fixture(scope="module")
def many():
    return glyphs(3000, seed=5)


def test_kinds_and_shapes(many):
    images, labels = many
    assert images.shape == (3000, 28, 28)
    assert images.dtype == np.uint8
    assert labels.shape == (3000,)
    assert labels.dtype == np.int64


def test_the_same_for_a_seed_and_another_for_another(many):
    again, labels = glyphs(3000, seed=5)
    np.testing.assert_array_equal(again, many[0])
    np.testing.assert_array_equal(labels, many[1])
    other, _ = glyphs(50, seed=6)
    assert (other != many[0][:50]).any(axis=(1, 2)).all()


def test_they_are_those_of_this_version():
    # Frozen: results measured on a seed's glyphs stay comparable. Brightness may differ by rounding between machines.
    images, labels = glyphs(20, seed=0)
    assert labels.tolist() == [8, 7, 6, 0, 9, 1, 5, 6, 8, 3, 7, 3, 6, 4, 9, 5, 8, 2, 6, 0]
    np.testing.assert_allclose(images[:5].mean(axis=(1, 2)), [38.48, 26.58, 18.59, 29.53, 38.69], atol=0.02)


@pytest.mark.parametrize("n", [0, 1, 7, 1337, 1338])
def test_a_short_draw_begins_a_longer_one(many, n):
    images, labels = glyphs(n, seed=5)
    np.testing.assert_array_equal(images, many[0][:n])
    np.testing.assert_array_equal(labels, many[1][:n])


def test_chunks_change_nothing(many, monkeypatch):
    monkeypatch.setattr(drawing, "_WORK", 28 * 28 * 13)
    images, labels = glyphs(100, seed=5)
    np.testing.assert_array_equal(images, many[0][:100])
    np.testing.assert_array_equal(labels, many[1][:100])


def test_classes_are_balanced(many):
    counts = np.bincount(many[1], minlength=10)
    assert len(counts) == 10
    # 300 expected of each, one standard deviation is 16.4
    assert np.abs(counts - 300).max() < 5 * 16.4


def test_each_glyph_has_ink_on_clean_paper(many):
    images, _ = many
    assert (images.max(axis=(1, 2)) > 120).all()
    inked = (images > 100).mean(axis=(1, 2))
    assert inked.min() > 0.01
    assert inked.max() < 0.5
    # The rim is paper but for a stroke now and then.
    rim = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.median(rim) < 10
    assert (rim > 100).mean() < 0.01


def test_ink_is_antialiased(many):
    images, _ = many
    grey = ((images > 40) & (images < 110)).sum()
    assert grey > 0.2 * (images >= 110).sum()


def test_no_two_glyphs_are_alike(many):
    flat = many[0].reshape(3000, -1)
    assert len(np.unique(flat, axis=0)) == 3000


def test_a_linear_model_learns_them_but_not_all():
    digits = glyph_dataset(2500, 800, seed=2)
    x, t = (part.reshape(len(part), -1) / 255.0 for part in (digits.x_train, digits.x_test))
    x, t = (np.concatenate([part, np.ones((len(part), 1))], axis=1) for part in (x, t))
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ np.eye(10)[digits.y_train])
    right = (t @ weights).argmax(1) == digits.y_test
    assert 0.70 < right.mean() < 0.95
    # The nearest training glyph tells far better: the classes are distinct, though no line separates them.
    distance = (x**2).sum(1) - 2 * t @ x.T
    nearest = digits.y_train[distance.argmin(1)] == digits.y_test
    assert nearest.mean() > 0.93
    for digit in range(10):
        assert nearest[digits.y_test == digit].mean() > 0.8


def test_a_segment_is_drawn_where_it_lies():
    # One level stroke from (-0.25, 0) to (0.25, 0), pen 0.1: the ink against the exact distance, pixel by pixel.
    starts, ends = np.array([[[-0.25, 0.0]]]), np.array([[[0.25, 0.0]]])
    ink = drawing._ink(starts, ends, np.array([0.1]), np.array([0.0]), 20)[0]
    grid = (np.arange(20) + 0.5) / 20 - 0.5
    for row, y in enumerate(grid):
        for column, x in enumerate(grid):
            distance = np.hypot(max(abs(x) - 0.25, 0), y)
            wanted = np.clip((0.1 - distance) * 20 / 1.3 + 0.5, 0, 1)
            assert abs(ink[row, column] - wanted) < 1e-5
    slanted = drawing._ink(np.array([[[-0.3, -0.3]]]), np.array([[[0.3, 0.3]]]), np.array([0.1]), np.array([0.0]), 20)[
        0
    ]
    np.testing.assert_allclose(slanted, slanted.T, atol=1e-6)
    assert slanted[5, 5] == 1
    assert slanted[5, 14] == 0


def test_curves_pass_through_their_points():
    for variants in hands():
        assert len(variants) >= 2
        for hand in variants:
            np.testing.assert_allclose(hand.starts.sum(1), 1, atol=1e-12)
            np.testing.assert_allclose(hand.ends.sum(1), 1, atol=1e-12)
            lines = np.concatenate([hand.starts, hand.ends]) @ hand.points
            for point in hand.points:
                assert np.abs(lines - point).max(1).min() < 1e-12


@pytest.mark.parametrize("size", [8, 28, 61, 256])
def test_sizes_show_the_same_glyphs(size):
    images, labels = glyphs(6, seed=4, size=size)
    _, wanted = glyphs(6, seed=4)
    assert images.shape == (6, size, size)
    np.testing.assert_array_equal(labels, wanted)


def test_a_larger_size_is_the_same_drawing():
    small, _ = glyphs(40, seed=4)
    large, _ = glyphs(40, seed=4, size=84)
    shrunk = large.reshape(40, 28, 3, 28, 3).mean(axis=(2, 4))
    for a, b in zip(small, shrunk):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


def test_progress_changes_nothing(monkeypatch, many):
    monkeypatch.setattr(drawing, "_LONG", 10)
    images, _ = glyphs(20, seed=5, progress=True)
    np.testing.assert_array_equal(images, many[0][:20])


def test_dataset_parts():
    digits = glyph_dataset(30, 20, seed=5)
    np.testing.assert_array_equal(digits.x_train, glyphs(30, seed=5)[0])
    np.testing.assert_array_equal(digits.y_train, glyphs(30, seed=5)[1])
    other = glyph_dataset(3, 20, seed=5)
    np.testing.assert_array_equal(digits.x_test, other.x_test)
    np.testing.assert_array_equal(digits.y_test, other.y_test)
    assert (digits.x_train[:20] != digits.x_test).any(axis=(1, 2)).all()
    assert digits.name == "glyphs"
    (x_train, y_train), (x_test, y_test) = digits
    assert (len(x_train), len(y_train), len(x_test), len(y_test)) == (30, 30, 20, 20)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: glyphs(-1), ArgumentError, "glyphs: n is -1, wanted an integer of at least 0"),
        (lambda: glyphs(2.0), ArgumentTypeError, "glyphs: n is 2.0, of type float"),
        (lambda: glyphs(2, -3), ArgumentError, "glyphs: seed is -3"),
        (lambda: glyphs(2, None), ArgumentTypeError, "glyphs: seed is None"),
        (lambda: glyphs(2, size=7), ArgumentError, "glyphs: size is 7, wanted an integer of at least 8"),
        (lambda: glyphs(2, size=257), ArgumentError, "glyphs: size is 257, wanted an integer of at most 256"),
        (lambda: glyphs(2, progress=2), ArgumentTypeError, "glyphs: progress is 2"),
        (lambda: glyph_dataset(-1, 2), ArgumentError, "glyph_dataset: n_train is -1"),
        (lambda: glyph_dataset(1, True), ArgumentTypeError, "glyph_dataset: n_test is True"),
        (lambda: glyph_dataset(1, 2, -1), ArgumentError, "glyph_dataset: seed is -1"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
