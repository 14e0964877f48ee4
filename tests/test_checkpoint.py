"""save and load: what they hold, damaged files, other networks, failing writes; nothing is ever half done."""

import json
import os
import zipfile

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import checkpoint, nn
from minigrad.errors import ArgumentError, ArgumentTypeError, CheckpointError


def network(units=4, seed=0, dtype=None):
    model = nn.Sequential(
        [nn.Dense(units, dtype=dtype), norms.BatchNormalization(dtype=dtype), nn.Dense(2, dtype=dtype)]
    )
    model.set_generator(mg.random.Generator(seed))
    model(np.zeros((2, 3), dtype or np.float32))
    return model


def values_of(*parts):
    return [v.numpy().copy() for part in parts for v in part.variables.values()]


def assert_same(before, after):
    assert len(before) == len(after)
    for a, b in zip(before, after):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state.npz"


def test_everything_comes_back_to_the_bit(file):
    model, optimizer, generator = network(), mg.optim.Adam(0.1), mg.random.Generator(11)
    optimizer.build(model.trainable_variables)
    model(np.random.default_rng(0).standard_normal((5, 3)).astype("f"), training=True)
    gradients = [mg.tensor(np.full(v.shape, 0.3, np.float32)) for v in model.trainable_variables]
    optimizer.update(model.trainable_variables, gradients)
    mg.random.normal((5,), generator=generator)
    special = mg.Variable(np.array([np.nan, -0.0, np.inf, 5e-324, 0.1]))
    scalar = mg.Variable(np.int64(2**62 + 1))
    empty = mg.Variable(np.zeros((0, 3), np.float32))
    position = {"epoch": 3, "losses": [0.1, 1e-310, 2.5], "note": 'ü"/', "none": None}
    parts = {"model": model, "optimizer": optimizer, "generator": generator}
    single = {"special": special, "scalar": scalar, "empty": empty}
    mg.save(file, **parts, **single, position=position, step=7)

    other, other_optimizer, other_generator = network(seed=1), mg.optim.Adam(0.5), mg.random.Generator(1)
    other_optimizer.build(other.trainable_variables)
    into = {n: mg.Variable(np.zeros_like(v.numpy())) for n, v in single.items()}
    values = mg.load(file, model=other, optimizer=other_optimizer, generator=other_generator, **into)
    assert values == {"position": position, "step": 7}
    assert_same(values_of(model, optimizer), values_of(other, other_optimizer))
    assert other_generator.get_state() == generator.get_state() == (11, 2)
    assert into["special"].numpy().tobytes() == special.numpy().tobytes()
    assert into["scalar"].item() == 2**62 + 1
    assert os.listdir(file.parent) == ["state.npz"]


def test_some_parts_can_be_read_alone(file):
    model = network()
    mg.save(file, model=model, other=mg.Variable([1.0]), epoch=2)
    assert mg.load(file) == {"epoch": 2}
    twin = network(seed=1)
    mg.load(file, model=twin)
    assert_same(values_of(model), values_of(twin))


def test_the_file_needs_no_pickle_and_no_minigrad(file):
    w = mg.Variable([1.5, 2.5])
    mg.save(file, w=w, n=3)
    with np.load(file, allow_pickle=False) as archive:
        assert archive["w/value"].tolist() == [1.5, 2.5]
        assert json.loads(archive["minigrad.json"].tobytes())["values"] == {"n": 3}


def test_a_part_may_hold_a_list_of_variables(file):
    class Pair:
        def __init__(self, *values):
            self.variables = [mg.Variable(v) for v in values]

    mg.save(file, pair=Pair([1.0], [2.0, 3.0]))
    into = Pair([0.0], [0.0, 0.0])
    mg.load(file, pair=into)
    assert [v.tolist() for v in into.variables] == [[1.0], [2.0, 3.0]]


def test_an_existing_file_is_replaced_and_a_link_followed(tmp_path):
    real, link = tmp_path / "real.npz", tmp_path / "link.npz"
    link.symlink_to(real)
    mg.save(link, n=1)
    mg.save(str(link), n=2)
    assert link.is_symlink()
    assert mg.load(real) == mg.load(link) == {"n": 2}


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    mg.save(tmp_path / "state", n=1)
    assert (tmp_path / "state").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Parts that don't fit


@pytest.mark.parametrize(
    ("parts", "error", "match"),
    [
        ({"history": {1, 2}}, ArgumentTypeError, "save: history: .*set is not JSON serializable"),
        ({"loss": np.float32(1)}, ArgumentTypeError, "save: loss: .*float32 is not JSON serializable"),
        ({"a/b": 1}, ArgumentError, "save: the part 'a/b' has a '/'"),
    ],
)
def test_parts_that_can_not_be_saved(file, parts, error, match):
    mg.save(file, n=1)
    with pytest.raises(error, match=match):
        mg.save(file, w=mg.Variable([1.0]), **parts)
    assert mg.load(file) == {"n": 1}
    assert os.listdir(file.parent) == ["state.npz"]


def test_loading_into_a_plain_value(file):
    mg.save(file, n=1)
    with pytest.raises(ArgumentTypeError, match="load: n is int, expected something with variables"):
        mg.load(file, n=1)


OTHERS = {
    "another width": (lambda: network(units=5), r"items/0/kernel is float32\(3, 4\), expected float32\(3, 5\)"),
    "another dtype": (lambda: network(dtype="float64"), r"items/0/kernel is float32\(3, 4\), expected float64\(3, 4\)"),
    "fewer layers": (
        lambda: _called(nn.Sequential([nn.Dense(4)])),
        r"it has \['model/items/1/beta', .* and 2 more besides",
    ),
    "more layers": (
        lambda: _called(nn.Sequential([*network().items, nn.Dense(2)])),
        r"it lacks \['model/items/3/bias', 'model/items/3/kernel'\]",
    ),
    "not built": (lambda: nn.Sequential([nn.Dense(4)]), "model has no Variables yet"),
}  # fmt: skip


def _called(model):
    model(np.zeros((2, 3), np.float32))
    return model


@pytest.mark.parametrize("kind", OTHERS)
def test_another_network(file, kind):
    make, match = OTHERS[kind]
    model, extra = make(), mg.Variable([5.0])
    mg.save(file, model=network(), extra=mg.Variable([1.0]))
    before = values_of(model)
    with pytest.raises(CheckpointError, match=rf"state\.npz: is of another network: .*{match}"):
        mg.load(file, extra=extra, model=model)
    assert_same(before, values_of(model))
    assert extra.item() == 5


def test_a_part_that_was_not_saved(file):
    mg.save(file, model=network(), epoch=1)
    with pytest.raises(CheckpointError, match=r"state.npz: holds no 'optimizer', only \['model'\]"):
        mg.load(file, model=network(), optimizer=mg.optim.SGD(0.1))


# Files that can't be read


def test_no_file(file):
    with pytest.raises(CheckpointError, match=r"state\.npz: there is no such file"):
        mg.load(file, model=network())


def test_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="can't be read"):
        mg.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"hello", b"\x93NUMPY\x01\x00", b"\x80\x04N."],
    ids=["empty", "zip head", "text", "npy head", "pickle"],
)
def test_files_of_other_kinds(file, content):
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state.npz: is damaged or no checkpoint \(.+\)"):
        mg.load(file)


def test_archives_without_our_text(file):
    np.savez(file, a=np.zeros(3))
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        mg.load(file)
    for text in ("[]", "3", "{}", '{"format": 1}', '{"format": 1, "parts": 3, "values": {}}', "{"):
        np.savez(file, **{"minigrad.json": np.frombuffer(text.encode(), np.uint8)})
        with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
            mg.load(file)


def test_another_format(file, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    mg.save(file, n=1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"state\.npz: has format 2, this version reads format 1"):
        mg.load(file)


def test_every_truncation_is_noticed(file):
    w = mg.Variable([1.0, 2.0])
    mg.save(file, w=w, n=1)
    content = file.read_bytes()
    w.assign([3.0, 4.0])
    for length in range(0, len(content), 7):
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"state\.npz: is damaged or no checkpoint"):
            mg.load(file, w=w)
        assert w.tolist() == [3.0, 4.0]


@pytest.mark.filterwarnings("ignore")  # NumPy and zipfile warn of some damage before they raise, or instead
def test_every_flipped_bit_is_noticed_or_harmless(file):
    rng = np.random.default_rng(0)
    w = mg.Variable([1.0, 2.0])
    mg.save(file, w=w, n=1)
    content = file.read_bytes()
    noticed = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        w.assign([3.0, 4.0])
        try:
            values = mg.load(file, w=w)
        except CheckpointError as error:
            assert "state.npz: " in str(error)  # noqa: PT017
            assert w.tolist() == [3.0, 4.0]
            noticed += 1
        else:  # a date or a version in the archive's own headers
            assert values == {"n": 1}
            assert w.tolist() == [1.0, 2.0]
    assert noticed > 0.7 * len(content)


def test_flips_in_the_data_of_a_larger_array(file):
    w = mg.Variable(np.arange(5000, dtype=np.float32))
    mg.save(file, w=w)
    content = file.read_bytes()
    w.assign(0.0)
    data = content.index(np.arange(100, dtype=np.float32).tobytes())
    assert content.count(b"(5000,)") == 1
    damaged = [content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :] for at in (data, data + 777, data + 19_999)]
    # NumPy stops reading early here, before it would compare the checksum.
    for other in (*damaged, content.replace(b"(5000,)", b"(1000,)")):
        file.write_bytes(other)
        with pytest.raises(CheckpointError, match="damaged"):
            mg.load(file, w=w)
        assert not w.numpy().any()


# Writes that fail


class Full:
    """np.savez on a full disk: some bytes, then an error."""

    def __init__(self, error):
        self.error = error

    def __call__(self, file, **arrays):
        file.write(b"PK\x03\x04 half a file")
        raise self.error


@pytest.mark.parametrize("step", ["savez", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(file, monkeypatch, step, error):
    def fail(*args, **kwargs):
        raise error

    mg.save(file, w=mg.Variable([1.0]), n=1)
    if step == "savez":
        monkeypatch.setattr(np, "savez", Full(error))
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)) as caught:
        mg.save(file, w=mg.Variable([2.0]), n=2)
    monkeypatch.undo()
    if isinstance(error, OSError):
        assert caught.value.errno == 28
        assert "save: can't write the checkpoint (No space left on device)" in str(caught.value)
        assert str(file) in str(caught.value)
    w = mg.Variable([0.0])
    assert mg.load(file, w=w) == {"n": 1}
    assert w.item() == 1
    assert os.listdir(file.parent) == ["state.npz"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"save: can't write the checkpoint.*missing/state.npz"):
        mg.save(tmp_path / "missing" / "state.npz", n=1)


def test_the_target_is_a_folder(tmp_path):
    with pytest.raises(OSError, match="save: can't write the checkpoint"):
        mg.save(tmp_path, n=1)
    assert os.listdir(tmp_path) == []
    assert [p for p in os.listdir(tmp_path.parent) if p.startswith(f".{tmp_path.name}")] == []


def test_the_old_file_is_there_until_the_new_one_is_complete(file, monkeypatch):
    mg.save(file, n=1)
    seen = []
    replace = os.replace

    def watch(source, target):
        seen.append((mg.load(target), mg.load(source)))
        assert zipfile.is_zipfile(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    mg.save(file, n=2)
    assert seen == [({"n": 1}, {"n": 2})]
