"""Reading idx files, packed by gzip or not, with every structural fault named.

The format: two zero bytes, a byte for the type (0x08 is uint8), a byte for the number of dimensions, each dimension
as a big-endian uint32, then the values in row-major order and nothing after them.
Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section on file formats.
"""

import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from minigrad.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_UINT8 = 0x08
_CHUNK = 1 << 20


def read_images(path: Path, rows: int = 28, columns: int = 28) -> np.ndarray:
    """The images of an idx file, uint8 of shape (N, rows, columns); DataError names what is wrong with a bad one."""
    images = read_idx(path, 3)
    if images.shape[1:] != (rows, columns):
        given = "x".join(map(str, images.shape[1:]))
        raise DataError(f"{path}: the images are {given}, expected {rows}x{columns}")
    return images


def read_labels(path: Path, classes: int = 10) -> np.ndarray:
    """The labels of an idx file, int64 of shape (N,), each below `classes`; DataError for a bad one."""
    labels = read_idx(path, 1)
    wrong = np.flatnonzero(labels >= classes)
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            f"{path}: label {int(labels[first])} at position {first} is outside 0..{classes - 1}"
            f" ({wrong.size} such labels in all)"
        )
    return labels.astype(np.int64)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array of `ndim` dimensions that an idx file holds.

    A file is taken for a gzip archive by its first two bytes, whatever its name. Memory grows with what the file
    really holds, not with what its header claims.

    Raises DataError, naming the file and the fault: unreadable, corrupt gzip, wrong magic number, wrong number of
    dimensions, no values, truncated, bytes after the end.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return _parse(path, raw, ndim)
            import gzip

            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                return _parse(path, stream, ndim)  # type: ignore[arg-type]
    except DataError:
        raise
    except EOFError as error:
        raise DataError(f"{path}: the gzip archive is truncated") from error
    except zlib.error as error:
        raise DataError(f"{path}: the gzip archive is corrupt ({error})") from error
    except OSError as error:
        # gzip.BadGzipFile (bad header, CRC or length) has no errno; a failed read of the disk has one.
        fault = "cannot be read" if error.errno is not None else "the gzip archive is corrupt"
        raise DataError(f"{path}: {fault} ({error})") from error


def _parse(path: Path, stream: BinaryIO, ndim: int) -> np.ndarray:
    magic = _read(stream, 4)
    if len(magic) < 4:
        raise DataError(f"{path}: holds {len(magic)} bytes, too few for an idx header")
    expected = bytes((0, 0, _UINT8, ndim))
    if magic != expected:
        raise DataError(
            f"{path}: the magic number is 0x{magic.hex()}, expected 0x{expected.hex()}"
            f" (an idx file of uint8 with {ndim} dimension{'s' if ndim > 1 else ''})"
        )
    header = _read(stream, 4 * ndim)
    if len(header) < 4 * ndim:
        raise DataError(f"{path}: truncated in the header, after {4 + len(header)} of {4 + 4 * ndim} bytes")
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4"))
    count = math.prod(shape)
    if count == 0:
        raise DataError(f"{path}: the header gives the shape {shape}, which holds nothing")
    values = _read(stream, count)
    if len(values) < count:
        raise DataError(f"{path}: truncated, {len(values)} values where the header's shape {shape} needs {count}")
    # Reading past the end is also what makes gzip check its CRC.
    if _read(stream, 1):
        raise DataError(f"{path}: trailing bytes after the {count} values that the header's shape {shape} needs")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _read(stream: BinaryIO, count: int) -> bytearray:
    """Up to `count` bytes, fewer only at the end; in chunks, since a corrupt header may claim terabytes."""
    data = bytearray()
    while len(data) < count:
        chunk = stream.read(min(_CHUNK, count - len(data)))
        if not chunk:
            break
        data += chunk
    return data
