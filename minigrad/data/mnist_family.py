"""mnist and fashion_mnist: where their files are looked for, where they are downloaded from, and how they are read."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minigrad.data import download as _download
from minigrad.data._arguments import flag, folder_path
from minigrad.data.dataset import Dataset
from minigrad.data.download import Remote, cache_folder
from minigrad.data.idx import read_images, read_labels
from minigrad.errors import DataError

_VARIABLE = "MINIGRAD_DATA"

Fetch = Callable[[Remote, tuple[str, ...], Path], Path]


@dataclass(frozen=True)
class Family:
    """One data set of four idx files: training images and labels, test images and labels, in this order."""

    name: str
    subfolders: tuple[str, ...]
    mirrors: tuple[str, ...]
    remotes: tuple[Remote, Remote, Remote, Remote]
    test_labels: (
        str  # the SHA-256 of the unpacked test labels: the sets share their file names, so this tells them apart
    )


MNIST = Family(
    name="mnist",
    subfolders=("mnist",),
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    remotes=(
        Remote(
            "train-images-idx3-ubyte.gz",
            9912422,
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        Remote(
            "train-labels-idx1-ubyte.gz",
            28881,
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        Remote(
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        Remote(
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    test_labels="ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
)

# The authors publish MD5 sums. The SHA-256 sums of the two label files were computed from the authors' repository,
# from files with the published MD5s; the image files were not at hand, so theirs stay the published ones.
FASHION_MNIST = Family(
    name="fashion_mnist",
    subfolders=("fashion_mnist", "fashion-mnist"),
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    remotes=(
        Remote("train-images-idx3-ubyte.gz", 26421880, "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        Remote(
            "train-labels-idx1-ubyte.gz",
            29515,
            "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        Remote("t10k-images-idx3-ubyte.gz", 4422102, "md5:bef4ecab320f06d8554ea6380940ec79"),
        Remote(
            "t10k-labels-idx1-ubyte.gz",
            5148,
            "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    test_labels="3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
)


def mnist(folder: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, uint8 (N, 28, 28), labels int64 (N,).

    Arguments:
        folder: looked in first. After it come $MINIGRAD_DATA, its and the folder's sub-folder ``mnist``, and
            `cache_folder`; the first that holds all four idx files, packed (.gz) or not, gives them.
        download: fetch the files over https into `cache_folder` when they are nowhere (11.6 MB); False never does.

    Pixels go from 0 (paper) to 255 (ink).

    Raises DataError when the files are nowhere and can't be downloaded, with the places and the reasons; when a file
    is corrupt, with its name and fault; when `folder` does not exist or holds only some of the files.
    ArgumentTypeError for a folder that is no path.
    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", 1998.

    >>> import minigrad.data
    >>> minigrad.data.mnist("no-such-folder")
    Traceback (most recent call last):
    ...
    minigrad.errors.DataError: mnist: folder no-such-folder does not exist
    """
    return load(MNIST, folder, download=download)


def fashion_mnist(folder: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, uint8 (N, 28, 28), labels int64 (N,).

    Labels: 0 T-shirt/top, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.

    Arguments:
        folder: looked in first. After it come $MINIGRAD_DATA, its and the folder's sub-folders ``fashion_mnist``
            and ``fashion-mnist``, and `cache_folder`; the first that holds all four idx files, packed (.gz) or not,
            gives them. A folder that holds MNIST, whose files have the same names, is passed over.
        download: fetch the files over https into `cache_folder` when they are nowhere (30.9 MB); False never does.

    Raises DataError when the files are nowhere and can't be downloaded, with the places and the reasons; when a file
    is corrupt, with its name and fault; when `folder` does not exist or holds only some of the files.
    ArgumentTypeError for a folder that is no path.
    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking", arXiv:1708.07747.

    >>> import minigrad.data
    >>> minigrad.data.fashion_mnist("no-such-folder")
    Traceback (most recent call last):
    ...
    minigrad.errors.DataError: fashion_mnist: folder no-such-folder does not exist
    """
    return load(FASHION_MNIST, folder, download=download)


def load(
    family: Family, folder: str | os.PathLike[str] | None, *, download: bool, fetch: Fetch | None = None
) -> Dataset:
    """The data set of `family`: the first place that holds it, or else a download by `fetch` into the cache."""
    given = None if folder is None else folder_path(family.name, "folder", folder)
    download = flag(family.name, "download", download)
    if given is not None and not given.is_dir():
        fault = "is not a folder" if given.exists() else "does not exist"
        raise DataError(f"{family.name}: folder {given} {fault}")
    looked = []
    for place, what in _places(family, given):
        files = _find(family, place)
        missing = [remote.name for remote, file in zip(family.remotes, files) if file is None]
        if not missing:
            try:
                dataset = _read(family, [file for file in files if file is not None])
            except DataError as error:
                hint = "; delete it to have it downloaded again" if what == "cache" else ""
                raise DataError(f"{family.name}: {error}{hint}") from error
            other = _belongs_to(dataset)
            if other is None or other is family:
                return dataset
            fault = f"holds {other.name}"
        elif not place.is_dir():
            fault = "no such folder"
        elif len(missing) == len(files):
            fault = "none of the files"
        else:
            fault = f"lacks {', '.join(missing)}"
            if given is not None and what == "folder":
                raise DataError(f"{family.name}: folder {place} holds some of the files but {fault}")
        looked.append(f"  {place} ({what}): {fault}")
    return _fetched(family, looked, download, fetch)


def _fetched(family: Family, looked: list[str], download: bool, fetch: Fetch | None) -> Dataset:
    if not os.environ.get(_VARIABLE):
        looked.append(f"  ${_VARIABLE}: not set")
    fault = "Not downloaded, as download=False asks."
    cause = None
    if download:
        place = cache_folder() / family.name
        fetcher: Fetch = _download.fetch if fetch is None else fetch
        try:
            there = _find(family, place)
            if None not in there:  # all four are there, and were found to be another set's
                there = [None] * len(there)
            files = [file or fetcher(remote, family.mirrors, place) for remote, file in zip(family.remotes, there)]
        except DataError as error:
            fault, cause = str(error), error
        else:
            return _read(family, files)
    names = ", ".join(remote.name.removesuffix(".gz") for remote in family.remotes)
    raise DataError(
        f"{family.name}: the files {names} (each also as .gz) were not found.\nLooked in:\n"
        + "\n".join(looked)
        + f"\n{fault}\nTo supply the files, put all four into one folder and give it as {family.name}(folder=...)"
        f" or in the environment variable {_VARIABLE}."
    ) from cause


def _places(family: Family, given: Path | None) -> Iterator[tuple[Path, str]]:
    variable = os.environ.get(_VARIABLE)
    roots = [(given, "folder")] if given is not None else []
    if variable:
        roots.append((Path(variable).expanduser(), f"${_VARIABLE}"))
    for root, what in roots:
        yield root, what
        for subfolder in family.subfolders:
            yield root / subfolder, what
    yield cache_folder() / family.name, "cache"


def _find(family: Family, place: Path) -> list[Path | None]:
    """The four files as they are in `place`, None for each that is not there."""
    found = []
    for remote in family.remotes:
        plain = remote.name.removesuffix(".gz")
        dotted = plain.replace("-idx", ".idx")  # as some unpackers name it
        names = (remote.name, plain, dotted + ".gz", dotted)
        found.append(next((place / name for name in names if (place / name).is_file()), None))
    return found


def _read(family: Family, files: list[Path]) -> Dataset:
    x_train, y_train = read_images(files[0]), read_labels(files[1])
    x_test, y_test = read_images(files[2]), read_labels(files[3])
    for x, y, images, labels in ((x_train, y_train, files[0], files[1]), (x_test, y_test, files[2], files[3])):
        if len(x) != len(y):
            raise DataError(f"{labels}: {len(y)} labels, expected {len(x)} as there are images in {images}")
    return Dataset(x_train, y_train, x_test, y_test, family.name)


def _belongs_to(dataset: Dataset) -> Family | None:
    """The known family whose test labels these are, None for files that are somebody's own."""
    import hashlib

    digest = hashlib.sha256(dataset.y_test.astype("uint8").tobytes()).hexdigest()
    return next((family for family in (MNIST, FASHION_MNIST) if family.test_labels == digest), None)
