"""idx files: read right, packed or not, and every fault of a bad one named together with the file."""

import gzip
import struct

import numpy as np
import pytest

from minigrad.data.idx import read_idx, read_images, read_labels
from minigrad.errors import DataError

IMAGES = (np.arange(3 * 28 * 28) * 7 % 256).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([9, 0, 4], np.uint8)


def idx(array, kind=0x08):
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def write(tmp_path):
    def write(data, name="some-file"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_reads_what_was_written_whatever_the_name(write, pack, name):
    images = read_images(write(pack(idx(IMAGES)), name))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES)
    images[0] = 0  # the array is the caller's own
    labels = read_labels(write(pack(idx(LABELS)), name))
    assert labels.dtype == np.int64
    assert labels.tolist() == [9, 0, 4]


def test_reads_more_than_one_chunk(write):
    values = np.random.default_rng(0).integers(0, 256, (3, 1000, 1000)).astype(np.uint8)
    np.testing.assert_array_equal(read_idx(write(idx(values)), 3), values)


def test_reads_a_gzip_archive_of_two_members(write):
    data = idx(IMAGES)
    np.testing.assert_array_equal(read_images(write(gzip.compress(data[:99]) + gzip.compress(data[99:]))), IMAGES)


GOOD = idx(IMAGES)
HUGE = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 28, 28)
FAULTS = [
    (b"", "holds 0 bytes, too few for an idx header"),
    (b"\0\0\x08", "holds 3 bytes, too few"),
    (b"PK\x03\x04" + GOOD[4:], "the magic number is 0x504b0304, expected 0x00000803"),
    (idx(LABELS), r"the magic number is 0x00000801, expected 0x00000803 \(an idx file of uint8 with 3 dimensions\)"),
    (idx(IMAGES, kind=0x0D), "the magic number is 0x00000d03"),
    (GOOD[:10], "truncated in the header, after 10 of 16 bytes"),
    (GOOD[:16], r"truncated, 0 values where the header's shape \(3, 28, 28\) needs 2352"),
    (GOOD[:-1], "truncated, 2351 values where"),
    (GOOD + b"\0", "trailing bytes after the 2352 values"),
    (HUGE + b"abc", r"truncated, 3 values where the header's shape \(4294967295, 28, 28\) needs"),
    (idx(IMAGES[:0]), r"the header gives the shape \(0, 28, 28\), which holds nothing"),
    (idx(IMAGES[:, :, :20]), "the images are 28x20, expected 28x28"),
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("data", "fault"), FAULTS)
def test_structural_faults(write, pack, data, fault):
    path = write(pack(data))
    with pytest.raises(DataError, match=fault) as caught:
        read_images(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert isinstance(caught.value, OSError)


PACKED = gzip.compress(GOOD, mtime=0)  # the time of day would be in the names of tests


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (PACKED[:5], "the gzip archive is truncated"),
        (PACKED[: len(PACKED) // 2], "the gzip archive is truncated"),
        (PACKED[:-1], "the gzip archive is truncated"),
        (PACKED[:-8], "the gzip archive is truncated"),
        (flipped(PACKED, len(PACKED) - 5), "the gzip archive is corrupt .*CRC"),
        (flipped(PACKED, len(PACKED) - 1), "the gzip archive is corrupt"),
        (flipped(PACKED, 2), "the gzip archive is corrupt"),
        (PACKED + b"more", "the gzip archive is corrupt"),
    ],
)
def test_gzip_faults(write, data, fault):
    path = write(data)
    with pytest.raises(DataError, match=fault) as caught:
        read_images(path)
    assert str(path) in str(caught.value)


def test_no_flipped_byte_goes_through(write):
    # Past the header (whose name, time and system are of no consequence) a flip is an error, or changes nothing.
    for position in range(10, len(PACKED), 3):
        path = write(flipped(PACKED, position))
        try:
            images = read_images(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            np.testing.assert_array_equal(images, IMAGES)


def test_labels_outside_the_classes(write):
    with pytest.raises(DataError, match=r"label 10 at position 1 is outside 0\.\.9 \(2 such labels in all\)"):
        read_labels(write(idx(np.array([9, 10, 3, 255], np.uint8))))


def test_labels_given_images(write):
    with pytest.raises(DataError, match=r"expected 0x00000801 .* with 1 dimension"):
        read_labels(write(GOOD))


def test_files_that_can_not_be_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read .*No such file"):
        read_images(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read"):
        read_images(tmp_path)
