"""How each digit is written: strokes through control points, in one or more hands, and the lines that follow them."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

# A hand: its control points "x y" in hundredths of a square (x to the right, y down), and its strokes as runs of
# point numbers. A stroke is a smooth curve through its points; a number written twice in a row is a sharp corner.
# Strokes that share a point stay joined there, however the points are moved.
_HANDS: dict[int, tuple[tuple[str, str], ...]] = {
    0: (
        ("50 10, 34 19, 26 38, 26 62, 34 82, 50 90, 66 81, 74 61, 73 37, 65 18, 47 11", "0 1 2 3 4 5 6 7 8 9 10"),
        ("60 13, 42 14, 30 32, 27 58, 36 84, 53 89, 68 74, 73 48, 68 24, 52 16, 40 22", "0 1 2 3 4 5 6 7 8 9 10"),
    ),
    1: (
        ("51 9, 50 36, 50 64, 49 91", "0 1 2 3"),
        ("35 28, 44 20, 53 9, 52 36, 51 64, 50 91", "0 1 2 2 3 4 5"),
        ("36 26, 51 10, 51 36, 51 64, 50 90, 31 91, 70 90", "0 1 1 2 3 4, 5 4 6"),
    ),
    2: (
        ("27 29, 36 14, 53 9, 68 19, 67 38, 52 59, 26 88, 50 87, 76 86", "0 1 2 3 4 5 6 6 7 8"),
        (
            "27 24, 42 10, 61 13, 69 30, 60 53, 42 76, 26 88, 21 78, 32 72, 50 84, 66 90, 79 83",
            "0 1 2 3 4 5 6 7 8 9 10 11",
        ),
    ),
    3: (
        ("27 21, 40 10, 59 12, 68 26, 59 41, 43 47, 61 52, 72 68, 63 85, 44 91, 25 82", "0 1 2 3 4 5 5 6 7 8 9 10"),
        ("28 13, 50 12, 70 11, 46 42, 63 47, 73 65, 64 84, 44 91, 25 83", "0 1 2 2 3 3 4 5 6 7 8"),
    ),
    4: (
        ("33 11, 28 34, 24 56, 50 57, 78 54, 66 10, 63 38, 60 64, 58 92", "0 1 2 2 3 4, 5 6 7 8"),
        ("60 9, 42 35, 21 63, 50 62, 81 60, 60 36, 59 62, 58 92", "0 1 2 2 3 4, 0 5 6 7"),
    ),
    5: (
        ("72 12, 52 12, 35 13, 33 29, 31 46, 48 40, 67 49, 72 67, 61 86, 42 91, 25 82", "0 1 2 2 3 4 4 5 6 7 8 9 10"),
        ("38 13, 35 29, 33 43, 52 42, 69 54, 69 74, 55 89, 38 90, 26 84, 56 12, 75 10", "0 1 2 3 4 5 6 7 8, 0 9 10"),
    ),
    6: (
        ("64 9, 46 24, 33 46, 29 67, 37 86, 54 91, 69 80, 68 63, 54 54, 38 62, 31 76", "0 1 2 3 4 5 6 7 8 9 10"),
        ("46 8, 37 28, 31 50, 30 72, 41 89, 59 88, 68 74, 60 61, 46 62, 34 74", "0 1 2 3 4 5 6 7 8 9"),
    ),
    7: (
        ("25 15, 50 14, 75 12, 65 33, 54 60, 46 92", "0 1 2 2 3 4 5"),
        ("25 16, 50 14, 74 12, 63 34, 53 61, 44 92, 37 53, 72 50", "0 1 2 2 3 4 5, 6 7"),
        ("25 29, 27 15, 50 17, 74 13, 60 37, 51 63, 48 92", "0 1 1 2 3 3 4 5 6"),
    ),
    8: (
        (
            "66 20, 50 9, 34 19, 37 36, 53 48, 69 64, 66 83, 49 91, 32 81, 34 64, 50 49, 65 35, 67 21",
            "0 1 2 3 4 5 6 7 8 9 10 11 12",
        ),
        (
            "50 9, 36 17, 35 36, 50 46, 65 36, 64 17, 50 10, 32 58, 30 80, 50 91, 70 80, 68 58",
            "0 1 2 3 4 5 6, 3 7 8 9 10 11 3",
        ),
    ),
    9: (
        ("68 24, 53 10, 36 16, 30 34, 41 48, 58 44, 69 26, 67 48, 64 70, 61 92", "0 1 2 3 4 5 6 6 7 8 9"),
        ("70 26, 56 10, 38 15, 31 33, 43 47, 60 42, 70 28, 70 52, 64 76, 50 90, 31 87", "0 1 2 3 4 5 6 7 8 9 10"),
    ),
}

_SPAN = 3  # straight pieces that a curve between two points is drawn with


@dataclass(frozen=True)
class Hand:
    """One way to write a digit: P control points, and S straight segments whose 2 S ends are mixtures of them."""

    digit: int
    points: np.ndarray  # (P, 2), centred on 0, one unit high
    starts: np.ndarray  # (S, P): row s gives the weights of the points in the start of segment s
    ends: np.ndarray  # (S, P)


@cache
def hands() -> tuple[tuple[Hand, ...], ...]:
    """The hands of each digit, 0 to 9."""
    return tuple(tuple(_hand(digit, *text) for text in _HANDS[digit]) for digit in range(10))


def most_points() -> int:
    """The largest number of control points of any hand."""
    return max(len(hand.points) for variants in hands() for hand in variants)


def _hand(digit: int, points: str, strokes: str) -> Hand:
    control = np.array([pair.split() for pair in points.split(",")], dtype=np.float64) / 100 - 0.5
    starts, ends = [], []
    for stroke in strokes.split(","):
        numbers = [int(number) for number in stroke.split()]
        for smooth in _between_corners(numbers):
            line = _curve(smooth, len(control))
            starts.append(line[:-1])
            ends.append(line[1:])
    arrays = control, np.concatenate(starts), np.concatenate(ends)
    for array in arrays:
        array.flags.writeable = False
    return Hand(digit, *arrays)


def _between_corners(numbers: list[int]) -> list[list[int]]:
    runs, run = [], numbers[:1]
    for before, number in pairwise(numbers):
        if number == before:
            runs.append(run)
            run = [number]
        else:
            run.append(number)
    return [*runs, run]


def _curve(numbers: list[int], total: int) -> np.ndarray:
    """The weights (_SPAN (len - 1) + 1, total) of a Catmull-Rom curve through the points of these numbers.

    Between p1 and p2, with neighbours p0 and p3, at t in [0, 1]:
    p = p1 + t/2 (p2 - p0) + t²/2 (2 p0 - 5 p1 + 4 p2 - p3) + t³/2 (3 p1 - p0 - 3 p2 + p3).
    """
    unit = np.eye(total)[[numbers[0], *numbers, numbers[-1]]]
    t = (np.arange(_SPAN) / _SPAN)[:, None]
    rows = [
        p1 + t / 2 * (p2 - p0) + t**2 / 2 * (2 * p0 - 5 * p1 + 4 * p2 - p3) + t**3 / 2 * (3 * p1 - p0 - 3 * p2 + p3)
        for p0, p1, p2, p3 in zip(unit, unit[1:], unit[2:], unit[3:])
    ]
    return np.concatenate([*rows, unit[-1:]])
