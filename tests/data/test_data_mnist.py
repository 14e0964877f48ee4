"""mnist and fashion_mnist: found where they should be, faults named, downloaded when nowhere, the real ones right."""

import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest

from minigrad.data import Dataset, download, fashion_mnist, mnist, mnist_family
from minigrad.data.download import Remote, fetch
from minigrad.errors import ArgumentTypeError, DataError, ShapeError

REAL = os.environ.get("MINIGRAD_DATA")
PLAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def contents(mark=0):
    rng = np.random.default_rng(mark)
    arrays = [
        rng.integers(0, 256, (6, 28, 28)),
        np.arange(6),
        rng.integers(0, 256, (4, 28, 28)),
        np.arange(4)[::-1].copy(),
    ]
    arrays[0][0, 0, 0] = mark
    return [idx(array.astype(np.uint8)) for array in arrays]


def put(folder, mark=0, *, packed=True, names=PLAIN):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in zip(names, contents(mark)):
        path = folder / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """No test sees this machine's data, cache or network."""
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    monkeypatch.setattr(mnist_family, "cache_folder", lambda: tmp_path / "cache")

    def unreachable(url):
        raise OSError("no network in tests")

    monkeypatch.setattr(download, "https_opener", lambda: unreachable)
    return tmp_path


def mark(dataset):
    return int(dataset.x_train[0, 0, 0])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_a_given_folder(tmp_path, packed, kind):
    digits = mnist(kind(put(tmp_path / "here", packed=packed)), download=False)
    assert isinstance(digits, Dataset)
    wanted = [np.frombuffer(data, np.uint8) for data in contents()]
    np.testing.assert_array_equal(digits.x_train.ravel(), wanted[0][16:])
    np.testing.assert_array_equal(digits.y_train, wanted[1][8:])
    np.testing.assert_array_equal(digits.x_test.ravel(), wanted[2][16:])
    np.testing.assert_array_equal(digits.y_test, wanted[3][8:])
    assert digits.x_train.shape == (6, 28, 28)
    assert digits.x_train.dtype == digits.x_test.dtype == np.uint8
    assert digits.y_train.dtype == digits.y_test.dtype == np.int64
    assert digits.name == "mnist"
    assert repr(digits) == "Dataset('mnist': train 6, test 4, images (28, 28) uint8, labels int64)"
    (x_train, y_train), (x_test, y_test) = digits
    assert x_train is digits.x_train
    assert y_train is digits.y_train
    assert x_test is digits.x_test
    assert y_test is digits.y_test
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.name = "other"


def test_names_with_a_dot(tmp_path):
    names = [name.replace("-idx", ".idx") for name in PLAIN]
    assert mark(mnist(put(tmp_path / "a", 3, packed=False, names=names))) == 3


def test_the_order_of_the_places(tmp_path, monkeypatch):
    data = tmp_path / "data"
    monkeypatch.setenv("MINIGRAD_DATA", str(data))
    places = [
        tmp_path / "cache" / "mnist",
        data / "mnist",
        data,
        tmp_path / "given" / "mnist",
        tmp_path / "given",
    ]
    (tmp_path / "given").mkdir()
    for number, place in enumerate(places, 1):
        put(place, number)
        assert mark(mnist(tmp_path / "given", download=False)) == number
    assert mark(mnist(download=False)) == 3


@pytest.mark.parametrize("sub", ["fashion_mnist", "fashion-mnist", "."])
def test_fashion_mnist_in_the_variables_folder(tmp_path, monkeypatch, sub):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "data"))
    put(tmp_path / "data" / "mnist", 1)
    put(tmp_path / "data" / sub, 2)
    clothes = fashion_mnist(download=False)
    assert mark(clothes) == 2
    assert clothes.name == "fashion_mnist"
    assert mark(mnist(download=False)) == (2 if sub == "." else 1)


def test_the_other_sets_files_are_passed_over(tmp_path, monkeypatch):
    folder = put(tmp_path / "digits", 1)
    labels = np.arange(4, dtype=np.uint8)[::-1].tobytes()
    digits = dataclasses.replace(mnist_family.MNIST, test_labels=hashlib.sha256(labels).hexdigest())
    monkeypatch.setattr(mnist_family, "MNIST", digits)
    assert mark(mnist(folder, download=False)) == 1
    with pytest.raises(DataError, match=r"digits \(folder\): holds mnist"):
        fashion_mnist(folder, download=False)
    put(folder / "fashion-mnist", 2)
    (folder / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(4, np.uint8))))
    assert mark(fashion_mnist(folder, download=False)) == 2


def test_nowhere(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        mnist(download=False)
    text = str(caught.value)
    assert text.startswith("mnist: the files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images")
    assert f"{tmp_path / 'cache' / 'mnist'} (cache): no such folder" in text
    assert "$MINIGRAD_DATA: not set" in text
    assert "Not downloaded, as download=False asks" in text
    assert "mnist(folder=...)" in text
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError) as caught:
        fashion_mnist(tmp_path, download=False)
    text = str(caught.value)
    assert f"{tmp_path} (folder): none of the files" in text
    assert f"{tmp_path / 'typo'} ($MINIGRAD_DATA): no such folder" in text
    assert "not set" not in text
    assert "fashion_mnist(folder=...)" in text


def test_offline_names_every_address_and_the_way_out(tmp_path):
    for call, family in ((mnist, mnist_family.MNIST), (fashion_mnist, mnist_family.FASHION_MNIST)):
        with pytest.raises(DataError) as caught:
            call()
        text = str(caught.value)
        assert len(family.mirrors) >= 2
        for mirror in family.mirrors:
            assert f"{mirror}train-images-idx3-ubyte.gz: OSError: no network in tests" in text
        assert "MINIGRAD_DATA" in text
        assert "Looked in:" in text
        assert caught.value.__cause__ is not None
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_not_there(tmp_path):
    put(tmp_path / "cache" / "mnist")
    with pytest.raises(DataError, match=r"mnist: folder .*typo does not exist"):
        mnist(tmp_path / "typo")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"mnist: folder .*file is not a folder"):
        mnist(tmp_path / "file")


def test_a_folder_with_some_of_the_files(tmp_path, monkeypatch):
    put(tmp_path / "cache" / "mnist", 9)
    folder = put(tmp_path / "some")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"some holds some of the files but lacks t10k-images-idx3-ubyte\.gz"):
        mnist(folder)
    # In the variable's folder it is passed over.
    monkeypatch.setenv("MINIGRAD_DATA", str(folder))
    assert mark(mnist(download=False)) == 9


@pytest.mark.parametrize("bad", [3, b"bytes", ["a"]])
def test_a_folder_that_is_no_path(bad):
    with pytest.raises(ArgumentTypeError, match=r"mnist: folder is .*wanted a str or a path"):
        mnist(bad)


def test_download_is_a_bool(tmp_path):
    with pytest.raises(ArgumentTypeError, match="mnist: download is 'no'"):
        mnist(tmp_path, download="no")


@pytest.mark.parametrize("where", ["folder", "variable", "cache"])
@pytest.mark.parametrize(
    ("number", "change", "fault"),
    [
        (0, lambda data: data[:-1], "truncated, 4703 values"),
        (2, lambda data: data + b"x", "trailing bytes"),
        (1, lambda data: b"\0\0\x08\x03" + data[4:], "the magic number is 0x00000803"),
        (3, lambda data: data[:-1] + b"\x0a", r"label 10 at position 3 is outside 0\.\.9"),
        (1, lambda data: idx(np.zeros(5, np.uint8)), "5 labels, expected 6 as there are images in .*train-images"),
        (3, lambda data: idx(np.zeros(5, np.uint8)), "5 labels, expected 4 as there are images in .*t10k-images"),
        (2, lambda data: idx(np.zeros((4, 32, 32), np.uint8)), "the images are 32x32, expected 28x28"),
    ],
)
def test_corrupt_files_are_named_not_passed_over(tmp_path, monkeypatch, where, number, change, fault):
    place = {"folder": tmp_path / "a", "variable": tmp_path / "b", "cache": tmp_path / "cache" / "mnist"}[where]
    if where == "variable":
        monkeypatch.setenv("MINIGRAD_DATA", str(place))
    put(place)
    path = place / (PLAIN[number] + ".gz")
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    with pytest.raises(DataError, match=fault) as caught:
        mnist(place if where == "folder" else None)
    assert str(caught.value).startswith(f"mnist: {path}: ")
    assert ("delete it to have it downloaded again" in str(caught.value)) == (where == "cache")


def test_a_gzip_archive_with_a_wrong_crc(tmp_path):
    path = put(tmp_path / "a") / (PLAIN[0] + ".gz")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: the gzip archive is corrupt .*CRC"):
        mnist(tmp_path / "a")


def served(mark=5):
    """A family with small files, and an opener that serves them under https://good.test/."""
    packed = {name + ".gz": gzip.compress(data) for name, data in zip(PLAIN, contents(mark))}
    remotes = tuple(Remote(n, len(data), "sha256:" + hashlib.sha256(data).hexdigest()) for n, data in packed.items())
    family = dataclasses.replace(
        mnist_family.MNIST, mirrors=("https://bad.test/", "https://good.test/"), remotes=remotes
    )
    asked = []

    def opener(url):
        asked.append(url)
        if not url.startswith("https://good.test/"):
            raise OSError("unreachable")
        return io.BytesIO(packed[url.rsplit("/", 1)[1]])

    return family, asked, lambda remote, mirrors, folder: fetch(remote, mirrors, folder, opener=opener)


def test_downloaded_once_into_the_cache(tmp_path):
    family, asked, fetcher = served()
    assert mark(mnist_family.load(family, None, download=True, fetch=fetcher)) == 5
    assert len(asked) == 8
    assert sorted(os.listdir(tmp_path / "cache" / "mnist")) == sorted(name + ".gz" for name in PLAIN)
    assert mark(mnist_family.load(family, None, download=True, fetch=fetcher)) == 5
    assert len(asked) == 8


def test_only_what_the_cache_lacks_is_downloaded(tmp_path):
    family, asked, fetcher = served()
    place = put(tmp_path / "cache" / "mnist", 5)
    (place / (PLAIN[1] + ".gz")).unlink()
    assert mark(mnist_family.load(family, None, download=True, fetch=fetcher)) == 5
    assert [url.rsplit("/", 1)[1] for url in asked] == [PLAIN[1] + ".gz"] * 2


def test_another_sets_files_in_the_cache_are_replaced(tmp_path, monkeypatch):
    family, asked, fetcher = served()
    place = put(tmp_path / "cache" / "mnist", 6)
    clothes = idx(np.array([7, 7, 7, 1], np.uint8))
    (place / (PLAIN[3] + ".gz")).write_bytes(gzip.compress(clothes))
    other = dataclasses.replace(mnist_family.FASHION_MNIST, test_labels=hashlib.sha256(clothes[8:]).hexdigest())
    monkeypatch.setattr(mnist_family, "FASHION_MNIST", other)
    assert mark(mnist_family.load(family, None, download=True, fetch=fetcher)) == 5
    assert len(asked) == 8


def test_the_addresses_and_digests_are_well_formed():
    lengths = {"sha256": 64, "md5": 32}
    for family in (mnist_family.MNIST, mnist_family.FASHION_MNIST):
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in family.mirrors)
        assert [remote.name for remote in family.remotes] == [name + ".gz" for name in PLAIN]
        for remote in family.remotes:
            algorithm, digest = remote.digest.split(":")
            assert len(digest) == lengths[algorithm]
            int(digest, 16)
            assert remote.size > 4000


def test_a_dataset_wants_a_label_for_each_image():
    x = np.zeros((3, 28, 28), np.uint8)
    with pytest.raises(
        ShapeError, match=r"Dataset: y_test has shape \(2,\), expected one label for each image of x_test"
    ):
        Dataset(x, np.zeros(3, int), x, np.zeros(2, int), "some")
    with pytest.raises(ShapeError, match=r"Dataset: y_train has shape \(\)"):
        Dataset(x, np.zeros(()), x, np.zeros(3), "some")


def test_importing_is_light():
    # Under an empty stand-in for the package minigrad, as its other parts may well load these modules.
    package = pathlib.Path(mnist_family.__file__).parents[1]
    code = (
        "import sys, types, numpy; stand_in = types.ModuleType('minigrad'); "
        f"stand_in.__path__ = [{str(package)!r}]; sys.modules['minigrad'] = stand_in; "
        "before = set(sys.modules); import minigrad.data; "
        "print(sorted({'tqdm', 'urllib.request', 'http.client', 'gzip', 'tempfile'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(REAL is None, reason="needs MNIST in the folder that MINIGRAD_DATA names")
def test_the_real_files(monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", REAL)
    digits = mnist(download=False)
    assert digits.x_train.shape == (60000, 28, 28)
    assert digits.x_test.shape == (10000, 28, 28)
    assert digits.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert digits.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(digits.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    # The mean and deviation that everyone normalizes MNIST by.
    assert round(float(digits.x_train.mean() / 255), 4) == 0.1307
    assert round(float(digits.x_train.std() / 255), 4) == 0.3081
    assert mnist_family._belongs_to(digits) is mnist_family.MNIST


@pytest.mark.skipif(REAL is None, reason="needs MNIST in the folder that MINIGRAD_DATA names")
def test_the_real_digests():
    place = pathlib.Path(REAL)
    place = place / "mnist" if (place / "mnist").is_dir() else place
    for remote in mnist_family.MNIST.remotes:
        path = place / remote.name
        if not path.exists():
            pytest.skip(f"{remote.name} is not there in packed form")
        data = path.read_bytes()
        assert len(data) == remote.size
        assert "sha256:" + hashlib.sha256(data).hexdigest() == remote.digest
