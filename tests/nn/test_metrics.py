"""Metrics: values on examples worked by hand, empty input, and shapes that would broadcast to a wrong number."""

import numpy as np
import pytest

from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.nn import metrics

OUTPUTS = np.array([[0.1, 0.7, 0.2], [5.0, -1.0, 4.0], [0.0, 0.0, 1.0], [2.0, 3.0, 1.0]], np.float32)


def test_accuracy_with_labels_and_one_hot_rows():
    labels = np.array([1, 0, 0, 2])
    assert metrics.accuracy(OUTPUTS, labels) == 0.5
    assert metrics.accuracy(OUTPUTS, np.eye(3)[labels]) == 0.5
    assert metrics.accuracy(OUTPUTS, labels.astype(np.uint8)) == 0.5
    assert metrics.accuracy(OUTPUTS, np.array([1, 0, 2, 1])) == 1.0
    assert metrics.accuracy(np.stack([OUTPUTS, -OUTPUTS]), np.array([[1, 0, 2, 1], [0, 0, 0, 0]])) == 6 / 8
    assert isinstance(metrics.accuracy(OUTPUTS, labels), float)


def test_mean_absolute_error():
    assert metrics.mean_absolute_error(np.array([[1.0, -2.0]]), np.array([[0, 4]])) == 3.5


def test_others():
    labels = np.array([1, 0, 0, 2])
    assert metrics.top_k_accuracy(OUTPUTS, labels, 1) == metrics.accuracy(OUTPUTS, labels)
    assert metrics.top_k_accuracy(OUTPUTS, labels, 2) == 0.75
    assert metrics.top_k_accuracy(OUTPUTS, np.eye(3)[labels], 3) == 1.0
    assert metrics.binary_accuracy(np.array([0.4, 0.6, 0.5, 0.9]), np.array([0, 1, 0, 0])) == 0.75
    assert metrics.binary_accuracy(np.array([0.4, 0.6]), np.array([True, True]), 0.3) == 1.0
    assert metrics.mean_squared_error(np.array([[1.0, -2.0]]), np.array([[0, 4]])) == 18.5


def test_without_samples_there_is_no_number():
    assert np.isnan(metrics.accuracy(np.zeros((0, 3)), np.zeros(0, int)))
    assert np.isnan(metrics.mean_absolute_error(np.zeros((0, 3)), np.zeros((0, 3))))


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "match"),
    [
        ("accuracy", (4, 3), (4, 1), r"targets have shape \(4, 1\), expected \(4,\) or \(4, 3\)"),
        ("accuracy", (4, 3), (3,), r"targets have shape \(3,\)"),
        ("accuracy", (4, 3), (), r"targets have shape \(\)"),
        ("accuracy", (4, 1), (4,), r"outputs have shape \(4, 1\), expected \(n, classes\)"),
        ("accuracy", (4,), (4,), r"outputs have shape \(4,\)"),
        ("mean_absolute_error", (4, 1), (4,), r"targets have shape \(4,\), expected \(4, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(name, outputs, targets, match):
    with pytest.raises(ShapeError, match=f"{name}: {match}"):
        metrics.get(name)[1](np.zeros(outputs), np.zeros(targets, int))


def test_get():
    def share(outputs, targets):
        return 1.0

    assert metrics.get("accuracy") == ("accuracy", metrics.accuracy)
    assert metrics.get(share) == ("share", share)
    with pytest.raises(ArgumentError, match="'auc' is unknown, expected one of"):
        metrics.get("auc")
    with pytest.raises(ArgumentTypeError, match="got 1"):
        metrics.get(1)
