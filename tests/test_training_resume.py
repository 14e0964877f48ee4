"""A run that was stopped goes on to the same bits: Ctrl-C, a kill, max_steps, callbacks; and files that don't fit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import nn, training
from minigrad.errors import CheckpointError

OPTIMIZERS = {
    "momentum": lambda: mg.optim.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: mg.optim.Adam(mg.optim.cosine_decay(0.05, 20), clip_norm=1.0),
}
BATCHES = 7
EPOCHS = 3


def parts(optimizer="momentum", own_generator=True):
    """A model with every kind of state, and its optimizer; the default generator starts anew."""
    mg.random.seed(3)
    layers = [nn.Dense(8), norms.BatchNormalization(), nn.Dropout(0.3), nn.Dropout(0.2, seed=9), mg.tanh, nn.Dense(3)]
    model = nn.Sequential(layers)
    if own_generator:
        model.set_generator(mg.random.Generator(4))
    return model, OPTIMIZERS[optimizer]()


def run(model, optimizer, path=None, **options):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 6)).astype(np.float32), rng.integers(0, 3, 50)
    options = {"epochs": EPOCHS, "batch_size": 8, "metrics": ["accuracy"], "validation_data": (x, y), **options}
    options = {"progress": False, "seed": 1, "save_to": path, **options}
    return training.fit(model, x, y, optimizer=optimizer, **options)


def outcome(model, optimizer, history):
    """Everything that a run leaves, without the times that it took."""
    values = [v.numpy().tobytes() for part in (model, optimizer) for v in part.variables.values()]
    epochs = {name: value for name, value in history.epochs.items() if "second" not in name}
    generators = [g.get_state() for g in (*model.generators, mg.random.default_generator)]
    return values, epochs, history.losses, history.curves, generators


def straight(**options):
    model, optimizer = parts(**options)
    return outcome(model, optimizer, run(model, optimizer))


def resumed(path, **options):
    """What a new process would get: fresh parts, and the file."""
    model, optimizer = parts(**options)
    mg.random.normal((5,))
    return outcome(model, optimizer, run(model, optimizer, path, resume=True))


class InterruptAt(training.Callback):
    def __init__(self, step=None, epoch=None, times=1):
        self.step, self.epoch, self.times = step, epoch, times

    def on_step_end(self, step, values):
        if step == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)

    def on_epoch_end(self, epoch, values):
        if epoch == self.epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.npz"


@pytest.fixture(autouse=True)
def _pythons_own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Stopped in this process


@pytest.mark.parametrize("own_generator", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_within_an_epoch(file, optimizer, own_generator):
    options = {"optimizer": optimizer, "own_generator": own_generator}
    expected = straight(**options)
    for stop in (1, 10):
        file.unlink(missing_ok=True)
        history = run(*parts(**options), file, max_steps=stop)
        assert history.losses == expected[2][:stop]
        assert resumed(file, **options) == expected


@pytest.mark.parametrize("step", [1, 9, BATCHES, 2 * BATCHES, EPOCHS * BATCHES])
def test_ctrl_c_ends_the_step_saves_and_raises(file, step):
    expected = straight()
    with pytest.raises(KeyboardInterrupt, match=f"fit: stopped after step {step}; .*run.npz holds the state") as caught:
        run(*parts(), file, callbacks=[InterruptAt(step)])
    assert caught.value.history.losses == expected[2][:step]
    assert len(caught.value.history.epochs.get("loss", [])) == (step - 1) // BATCHES  # it does not wait for validation
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert resumed(file) == expected


@pytest.mark.parametrize("epoch", [1, EPOCHS])
def test_ctrl_c_between_epochs(file, epoch):
    with pytest.raises(KeyboardInterrupt, match=f"stopped after step {epoch * BATCHES}"):
        run(*parts(), file, callbacks=[InterruptAt(epoch=epoch)])
    assert resumed(file) == straight()


def test_stopped_many_times(file):
    expected = straight()
    for stop in range(2, EPOCHS * BATCHES, 3):
        run(*parts(), file, max_steps=stop, resume=True)
    assert resumed(file) == expected
    assert resumed(file) == expected  # there is nothing left to do


def test_ctrl_c_without_a_file_gives_the_history():
    model, optimizer = parts()
    with pytest.raises(KeyboardInterrupt, match=r"^fit: stopped after step 9$") as caught:
        run(model, optimizer, callbacks=[InterruptAt(9)])
    assert len(caught.value.history.losses) == 9
    twin, twin_optimizer = parts()
    run(twin, twin_optimizer, max_steps=9)
    assert [v.tolist() for v in model.variables.values()] == [v.tolist() for v in twin.variables.values()]


def test_a_second_ctrl_c_does_not_wait(file):
    run(*parts(), file, epochs=1)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(*parts(), file, resume=True, callbacks=[InterruptAt(9, times=2)])
    assert not hasattr(caught.value, "history")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert resumed(file) == straight()


def test_a_second_ctrl_c_while_saving_keeps_the_file_from_before(file, monkeypatch):
    run(*parts(), file, epochs=1)
    before = file.read_bytes()
    savez = np.savez

    def interrupted(*args, **kwargs):
        savez(*args, **kwargs)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(*parts(), file, resume=True, callbacks=[InterruptAt(9)])
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["run.npz"]
    assert resumed(file) == straight()


def test_a_handler_of_the_users_own_stays(file):
    caught = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    history = run(*parts(), file, callbacks=[InterruptAt(9)])
    assert caught == [signal.SIGINT]
    assert len(history.losses) == EPOCHS * BATCHES


def test_stopped_by_a_callback_with_its_curves(file):
    class Watch(training.Callback):
        def __init__(self, stop_at=None):
            self.stop_at = stop_at

        def on_step_end(self, step, values):
            self.history.curves.setdefault("loss", []).append([step, values["loss"]])
            self.stop = step == self.stop_at

    expected = run(*parts(), callbacks=[Watch()])
    run(*parts(), file, callbacks=[Watch(stop_at=12)])
    history = run(*parts(), file, callbacks=[Watch()], resume=True)
    assert history.curves == expected.curves
    assert len(history.curves["loss"]) == EPOCHS * BATCHES


def test_more_epochs(file):
    run(*parts(), file, epochs=1)
    assert resumed(file) == straight()


def test_without_a_file_resume_begins(file):
    assert resumed(file) == _without_the_extra_draw(straight())
    assert file.exists()


def _without_the_extra_draw(expected):
    # `resumed` draws from the default generator first, which a file would take back.
    *rest, generators = expected
    model_generators, (key, position) = generators[:-1], generators[-1]
    return (*rest, [*model_generators, (key, position + 2)])


def test_divergence_leaves_the_file(file):
    model, optimizer = parts()

    class Poison(training.Callback):
        def on_step_end(self, step, values):
            if step == 9:
                optimizer.lr.assign(1e38)

    with pytest.raises(mg.errors.TrainingError):
        run(model, optimizer, file, callbacks=[Poison()])
    assert resumed(file) == straight()


# Stopped from outside, by real signals to another process


class Slow(training.Callback):
    """Says when it is where the parent wants it, and then takes its time."""

    def __init__(self, step, seconds):
        self.step, self.seconds = step, seconds

    def on_step_end(self, step, values):
        if step >= self.step:
            print("ready" if step == self.step else "more", flush=True)
            time.sleep(self.seconds)


def child(path, step, seconds):
    run(*parts(), path, callbacks=[Slow(step, seconds)])


def start(path, step, seconds=0.3):
    code = f"import test_training_resume as t; t.child({str(path)!r}, {step}, {seconds})"
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def test_a_real_ctrl_c(file):
    process = start(file, 9)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt: fit: stopped after step " in err
    assert resumed(file) == straight()


def test_two_real_ctrl_cs(file):
    process = start(file, 9, seconds=60)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "in on_step_end" in err
    assert resumed(file) == straight()


def test_a_kill(file):
    process = start(file, 9)
    process.kill()
    process.communicate(timeout=60)
    model, optimizer = parts()
    assert len(run(model, optimizer, file, max_steps=0, resume=True).losses) == BATCHES
    assert resumed(file) == straight()


# Files that don't fit


def test_other_settings(file):
    run(*parts(), file, max_steps=9)
    for option, value, match in [
        ("batch_size", 10, "batch_size 8, this one has 10"),
        ("seed", 2, "seed 1, this one has 2"),
        ("shuffle", False, "shuffle True, this one has False"),
        ("drop_last", True, "drop_last False, this one has True"),
        ("metrics", [], r"metrics \['accuracy'\], this one has \[\]"),
    ]:
        with pytest.raises(CheckpointError, match=rf"run\.npz: is of a run with {match}"):
            run(*parts(), file, resume=True, **{option: value})
    model, _ = parts()
    x, y = np.zeros((49, 6), np.float32), np.zeros(49, int)
    options = {"batch_size": 8, "metrics": ["accuracy"], "seed": 1, "save_to": file, "resume": True, "progress": False}
    with pytest.raises(CheckpointError, match="samples 50, this one has 49"):
        training.fit(model, x, y, optimizer=OPTIMIZERS["momentum"](), **options)
    assert resumed(file) == straight()


@pytest.mark.parametrize("kind", ["truncated", "another network", "another optimizer", "not written by fit"])
def test_files_that_do_not_fit_change_nothing(file, kind):
    run(*parts(), file, max_steps=9)
    model, optimizer = parts("adam" if kind == "another optimizer" else "momentum")
    match = {"truncated": "is damaged", "another network": "is of another network: .*items/5/kernel"}.get(
        kind, r"is of another network: it lacks \['optimizer/" if kind == "another optimizer" else "holds no position"
    )
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif kind == "another network":
        model = nn.Sequential([*model.items[:-1], nn.Dense(4)])
        model.set_generator(mg.random.Generator(4))
    elif kind == "not written by fit":
        donor, donors = parts()
        run(donor, donors, max_steps=1)
        mg.save(file, model=donor, optimizer=donors, generator=_FitsGenerators(donor))
    content = file.read_bytes()
    run(model, optimizer, epochs=0)
    before = [v.tolist() for part in (model, optimizer) for v in part.variables.values()]
    with pytest.raises(CheckpointError, match=rf"run\.npz: {match}"):
        run(model, optimizer, file, resume=True)
    assert [v.tolist() for part in (model, optimizer) for v in part.variables.values()] == before
    assert file.read_bytes() == content


class _FitsGenerators:
    def __init__(self, model):
        self.variables = {"default": mg.random.default_generator.state, "0": model.generator.state}


def test_the_same_settings_but_another_kind_of_optimizer(file):
    mg.random.seed(0)
    run(parts()[0], mg.optim.Adam(0.1), file, max_steps=2)
    with pytest.raises(CheckpointError, match="optimizer 'Adam', this one has 'AdamW'"):
        run(parts()[0], mg.optim.AdamW(0.1), file, resume=True)
