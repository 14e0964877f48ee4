"""cifar10: where its files are looked for, in which forms, where they are downloaded from, and how they are read."""

import hashlib
import os
import pickletools
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from minigrad.data import download as _download
from minigrad.data._arguments import flag, folder_path
from minigrad.data.dataset import Dataset
from minigrad.data.download import Remote, cache_folder
from minigrad.errors import DataError

_VARIABLE = "MINIGRAD_DATA"
_SUBFOLDERS = ("cifar-10", "cifar10", "cifar-10-batches-bin", "cifar-10-batches-py")
_ARCHIVE = Remote("cifar-10-binary.tar.gz", 170052171, "md5:c32a1d4ab5d03f1284b67883e8d87530")
_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
_IMAGES, _PIXELS = 10000, 3072  # a batch; an image: 32x32 of red, of green, of blue

#: The names of the batches, the last one for testing, and the MD5 sums of their binary and their Python form.
_SUMS = {
    "data_batch_1": ("5dd7e06a14cb22eb9f671a540d1b7c25", "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": ("5ea93a67294ea407fff1d09f752e9692", "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": ("942cd6a4bcdd0dd3c604fbe906cb4421", "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": ("ae636b3ba5c66a11e91e8cb52e771fcb", "634d18415352ddfa80567beed471001a"),
    "data_batch_5": ("53f37980c15c3d472c316c40844f3f0d", "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": ("803d5f7f4d78ea53de84dbe85f74fb6d", "40351d587109b95175f43aff81a1287e"),
}

Fetch = Callable[[Remote, tuple[str, ...], Path], Path]


def cifar10(folder: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test photographs, uint8 (N, 32, 32, 3), labels int64 (N,).

    Labels: 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.

    Arguments:
        folder: looked in first. After it come $MINIGRAD_DATA, the sub-folders ``cifar-10``, ``cifar10`` and those of
            the batches in both, and `cache_folder`. The first that holds all six batches gives them: as files, in the
            binary or in the Python form, or in an archive ``cifar-10*.tar.gz`` or ``.tar`` of either.
        download: fetch the binary archive over https into `cache_folder` when they are nowhere (170 MB); False never
            does.

    Each batch must have its published MD5 sum; an archive need not, it may have been packed again. The Python form is
    a pickle, of which the numbers and texts are read and nothing is run.

    Raises DataError when the batches are nowhere and can't be downloaded, with the places and the reasons; when a batch
    or an archive is corrupt, with its name; when `folder` does not exist. ArgumentTypeError for a folder that is no
    path.
    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    >>> import minigrad.data
    >>> minigrad.data.cifar10("no-such-folder")
    Traceback (most recent call last):
    ...
    minigrad.errors.DataError: cifar10: folder no-such-folder does not exist
    """
    return load(folder, download=download)


def load(folder: str | os.PathLike[str] | None, *, download: bool, fetch: Fetch | None = None) -> Dataset:
    """The data set from the first place that holds it, or else from a download by `fetch` into the cache."""
    given = None if folder is None else folder_path("cifar10", "folder", folder)
    download = flag("cifar10", "download", download)
    if given is not None and not given.is_dir():
        raise DataError(f"cifar10: folder {given} {'is not a folder' if given.exists() else 'does not exist'}")
    looked = []
    for place, what in _places(given):
        try:
            batches = _batches(place)
        except DataError as error:
            hint = "; delete it to have it downloaded again" if what == "cache" else ""
            raise DataError(f"cifar10: {error}{hint}") from error
        if batches is not None:
            return _joined(batches)
        looked.append(f"  {place} ({what}): {'none of the batches' if place.is_dir() else 'no such folder'}")
    if not os.environ.get(_VARIABLE):
        looked.append(f"  ${_VARIABLE}: not set")
    fault, cause = "Not downloaded, as download=False asks.", None
    if download:
        try:
            archive = (fetch or _download.fetch)(_ARCHIVE, _MIRRORS, cache_folder() / "cifar10")
        except DataError as error:
            fault, cause = str(error), error
        else:
            return _joined(_from_archive(archive))
    raise DataError(
        "cifar10: the batches were not found.\nLooked in:\n"
        + "\n".join(looked)
        + f"\n{fault}\nTo supply them, put {_ARCHIVE.name} or cifar-10-python.tar.gz, packed or not, into a folder and "
        f"give it as cifar10(folder=...) or in the environment variable {_VARIABLE}."
    ) from cause


def read_batch(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (10000, 32, 32, 3) and labels of a batch, from the bytes of its binary or its Python form.

    Raises DataError when its MD5 sum is neither's.
    """
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    binary, pickled = _SUMS[name]
    if digest == binary:
        records = np.frombuffer(content, np.uint8).reshape(_IMAGES, 1 + _PIXELS)
        pixels, labels = records[:, 1:], records[:, 0]
    elif digest == pickled:
        pixels, labels = read_pickle(content)
    else:
        raise DataError(f"{name} has the md5 {digest}, expected {binary} (binary) or {pickled} (Python)")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)


def read_pickle(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072) and labels (N,) from a batch in the Python form: its longest text, and the numbers at "labels".

    The pickle's instructions are read one by one; none is carried out, so it can do no harm.

    Raises DataError when it is no such pickle.
    """
    pixels, labels, key = b"", bytearray(), ""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if isinstance(argument, str) and opcode.name in ("BINSTRING", "SHORT_BINSTRING"):
                if len(argument) > len(pixels):
                    pixels = argument.encode("latin-1")
                key = argument
            elif isinstance(argument, int) and opcode.name == "BININT1" and key == "labels":
                labels.append(argument)
    except Exception as error:  # a dozen kinds on damaged bytes
        raise DataError(f"is no pickle of a batch ({error})") from error
    if not labels or len(pixels) != len(labels) * _PIXELS:
        raise DataError(f"is no pickle of a batch: it has {len(labels)} labels and {len(pixels)} bytes of pixels")
    return np.frombuffer(pixels, np.uint8).reshape(-1, _PIXELS), np.frombuffer(bytes(labels), np.uint8)


def _places(given: Path | None) -> Iterator[tuple[Path, str]]:
    variable = os.environ.get(_VARIABLE)
    roots = [(given, "folder")] if given is not None else []
    if variable:
        roots.append((Path(variable).expanduser(), f"${_VARIABLE}"))
    for root, what in roots:
        yield root, what
        for subfolder in _SUBFOLDERS:
            yield root / subfolder, what
    yield cache_folder() / "cifar10", "cache"


def _batches(place: Path) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """What a place holds, as files or in an archive; None if it does not hold all of it."""
    for suffix in (".bin", ""):
        files = [place / f"{name}{suffix}" for name in _SUMS]
        if all(file.is_file() for file in files):
            return [_located(file, read_batch, name, file.read_bytes()) for name, file in zip(_SUMS, files)]
    for pattern in ("cifar-10*.tar.gz", "cifar-10*.tar"):
        for archive in sorted(place.glob(pattern)):
            return _from_archive(archive)
    return None


def _from_archive(archive: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = Path(member.name).name.removesuffix(".bin")
                file = members.extractfile(member) if name in _SUMS and member.isfile() else None
                if file is not None:
                    found[name] = _located(archive, read_batch, name, file.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{archive}: is damaged ({error})") from error
    missing = [name for name in _SUMS if name not in found]
    if missing:
        raise DataError(f"{archive}: lacks {', '.join(missing)}")
    return [found[name] for name in _SUMS]


def _located(file: Path, read: Callable, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        return read(name, content)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _joined(batches: list[tuple[np.ndarray, np.ndarray]]) -> Dataset:
    images, labels = zip(*batches)
    return Dataset(np.concatenate(images[:-1]), np.concatenate(labels[:-1]), images[-1], labels[-1], "cifar10")
