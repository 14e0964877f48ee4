"""cifar10: both forms of the batches, packed and not, where they are looked for, and that damage is told."""

import importlib
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from minigrad.errors import ArgumentTypeError, DataError

cifar = importlib.import_module("minigrad.data.cifar")
N = 7  # records a batch, in place of 10,000


def records(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (N, 3072), np.uint8), rng.integers(0, 10, N).astype(np.uint8)


def binary(seed):
    pixels, labels = records(seed)
    return np.concatenate([labels[:, None], pixels], 1).tobytes()


def pickled(seed):
    """A pickle as Python 2 wrote the official ones, opcode by opcode: protocol 2, an array for the pixels."""
    pixels, labels = records(seed)

    def text(s):
        return b"U" + bytes([len(s)]) + s

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K"
        + bytes([N])
        + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", pixels.nbytes)
        + pixels.tobytes()
        + b"tb"
    )
    names = b"](" + b"".join(text(b"image_%d.png" % i) for i in range(N)) + b"e"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    parts = {b"data": array, b"labels": numbers, b"batch_label": text(b"a batch"), b"filenames": names}
    return b"\x80\x02}q\x01(" + b"".join(text(key) + value for key, value in parts.items()) + b"u."


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Batches of seven records, with the sums that they have; neither a cache nor a variable from outside."""
    import hashlib

    names = list(cifar._SUMS)
    sums = {
        name: tuple(hashlib.md5(form(i), usedforsecurity=False).hexdigest() for form in (binary, pickled))
        for i, name in enumerate(names)
    }
    monkeypatch.setattr(cifar, "_SUMS", sums)
    monkeypatch.setattr(cifar, "_IMAGES", N)
    monkeypatch.setattr(cifar, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    return names


def place(folder, names, form, suffix):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / f"{name}{suffix}").write_bytes(form(i))


def archive(path, names, form, suffix, inner):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in [("readme.html", b"<p>"), *((f"{n}{suffix}", form(i)) for i, n in enumerate(names))]:
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def check(dataset):
    pixels, labels = zip(*(records(i) for i in range(6)))
    images = np.stack([p.reshape(N, 3, 32, 32) for p in pixels]).transpose(0, 1, 3, 4, 2)
    np.testing.assert_array_equal(dataset.x_train, images[:5].reshape(5 * N, 32, 32, 3))
    np.testing.assert_array_equal(dataset.x_test, images[5])
    np.testing.assert_array_equal(dataset.y_train, np.concatenate(labels[:5]))
    np.testing.assert_array_equal(dataset.y_test, labels[5])
    assert dataset.x_train.dtype == np.uint8
    assert dataset.y_test.dtype == np.int64
    assert dataset.x_train.flags.c_contiguous


FORMS = [(binary, ".bin", "cifar-10-batches-bin"), (pickled, "", "cifar-10-batches-py")]


@pytest.mark.parametrize(("form", "suffix", "inner"), FORMS)
def test_unpacked(form, suffix, inner, small, tmp_path, monkeypatch):
    place(tmp_path / "data" / inner, small, form, suffix)
    check(cifar.cifar10(tmp_path / "data", download=False))
    check(cifar.cifar10(tmp_path / "data" / inner, download=False))
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "data"))
    check(cifar.cifar10(download=False))


@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar-10-repacked.tar"])
@pytest.mark.parametrize(("form", "suffix", "inner"), FORMS)
def test_archives(name, form, suffix, inner, small, tmp_path):
    archive(tmp_path / "cifar-10" / name, small, form, suffix, inner)
    check(cifar.cifar10(tmp_path, download=False))


def test_the_pickle_is_read_and_not_run(small, tmp_path):
    run = tmp_path / "run"

    class Evil:
        def __reduce__(self):
            return open, (str(run), "w")

    for content in (pickle.dumps(Evil(), 2), pickle.dumps({"labels": [1], "data": Evil()}, 2), b"", b"no pickle"):
        with pytest.raises(DataError, match="is no pickle of a batch"):
            cifar.read_pickle(content)
    assert not run.exists()
    pixels, labels = cifar.read_pickle(pickled(3))
    np.testing.assert_array_equal(pixels, records(3)[0])
    np.testing.assert_array_equal(labels, records(3)[1])


def test_damage_is_told(small, tmp_path):
    place(tmp_path, small, binary, ".bin")
    file = tmp_path / "data_batch_3.bin"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(DataError, match=r"cifar10: .*data_batch_3.bin: data_batch_3 has the md5 .*, expected .*binary"):
        cifar.cifar10(tmp_path, download=False)
    file.unlink()
    archive(tmp_path / "cifar-10-binary.tar.gz", small[:-1], binary, ".bin", "x")
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz: lacks test_batch"):
        cifar.cifar10(tmp_path, download=False)
    packed = tmp_path / "cifar-10-binary.tar.gz"
    packed.write_bytes(packed.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz: is damaged"):
        cifar.cifar10(tmp_path, download=False)


def test_a_damaged_cache_says_what_to_do(small, tmp_path):
    (tmp_path / "cache" / "cifar10").mkdir(parents=True)
    (tmp_path / "cache" / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="delete it to have it downloaded again"):
        cifar.cifar10()


def test_downloads_come_last(small, tmp_path):
    asked = []

    def fetch(remote, mirrors, folder):
        asked.append((remote.name, folder))
        archive(folder / remote.name, small, binary, ".bin", "cifar-10-batches-bin")
        return folder / remote.name

    check(cifar.load(None, download=True, fetch=fetch))
    check(cifar.load(None, download=True, fetch=fetch))  # from the cache
    assert asked == [("cifar-10-binary.tar.gz", tmp_path / "cache" / "cifar10")]

    def fail(remote, mirrors, folder):
        raise DataError("no mirror gave it")

    (tmp_path / "cache" / "cifar10" / "cifar-10-binary.tar.gz").unlink()
    with pytest.raises(
        DataError, match=r"(?s)were not found.*cache\): none of the batches.*not set.*no mirror gave it"
    ):
        cifar.load(None, download=True, fetch=fail)
    with pytest.raises(DataError, match="Not downloaded, as download=False asks"):
        cifar.load(tmp_path, download=False, fetch=fetch)


def test_bad_arguments(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match="is not a folder"):
        cifar.cifar10(file)
    with pytest.raises(ArgumentTypeError, match="folder is 3"):
        cifar.cifar10(3)
    with pytest.raises(ArgumentTypeError, match="download is 1"):
        cifar.cifar10(download=1)
