"""examples/mlp10.py: its table, files and exit status; resume, divergence, interruption and bad options."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DataError

SCRIPT = Path(__file__).parents[2] / "examples" / "mlp10.py"


@pytest.fixture
def mlp10(monkeypatch):
    """The example as a module, with few digits."""
    spec = importlib.util.spec_from_file_location("mlp10", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mlp10", module)
    spec.loader.exec_module(module)
    digits = mg.data.glyph_dataset(600, 200, seed=0)
    monkeypatch.setattr(module.data, "glyph_dataset", lambda *args, **kwargs: digits)
    return module


def arguments(out, *more):
    return ["--data", "glyphs", "--width", "16", "--max-steps", "20", "--out", str(out), "--quiet", *more]


def start(*args, **environment):
    # One thread: the work is small, and threads are slow where all cores are busy.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **environment}
    environment["PYTHONPATH"] = str(SCRIPT.parents[1])
    command = [sys.executable, str(SCRIPT), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def outcomes(out):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((out / "history.json").read_text(), parse_constant=refuse)["outcomes"]


def test_as_a_user_runs_it(tmp_path):
    out = tmp_path / "new" / "folder"
    done = start("--data", "glyphs", "--max-steps", "60", "--lr", "0.1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    head, columns, without, norm = done.stdout.splitlines()
    assert head == "glyphs, 10 layers of width 100, relu, lr 0.1, batch 60, weights N(0, 0.05²)"
    assert columns.split() == ["network", "steps", "test", "accuracy", "test", "loss", "seconds", "steps/s"]
    assert without.startswith("without   ")
    assert norm.startswith("with batch norm  ")
    assert without.split()[1] == norm.split()[3] == "60"
    assert float(without.split()[2]) < 0.3
    assert float(norm.split()[4]) > 0.5
    assert "Traceback" not in done.stderr
    assert f"written to {out}: history.json, curves.png and checkpoints" in done.stderr
    assert sorted(os.listdir(out)) == ["checkpoint-batch.npz", "checkpoint-none.npz", "curves.png", "history.json"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    content = json.loads((out / "history.json").read_text())
    assert set(content) == {"data", "options", "outcomes"}
    assert content["options"]["lr"] == 0.1
    for outcome, name in zip(content["outcomes"], ("without", "with batch norm")):
        wanted = {"name", "accuracy", "loss", "steps_per_second", "seconds", "steps", "note", "history"}
        assert set(outcome) == wanted
        assert outcome["name"] == name
        assert set(outcome["history"]) == {"epochs", "losses", "curves", "seconds"}
        assert len(outcome["history"]["losses"]) == 60
        assert outcome["history"]["curves"]["test accuracy"][-1][0] == 60


def test_without_the_data_it_says_what_is_missing(tmp_path):
    nowhere = "http://127.0.0.1:9"
    (tmp_path / "empty").mkdir()
    environment = {"MINIGRAD_DATA": str(tmp_path / "empty"), "XDG_CACHE_HOME": str(tmp_path), "NO_PROXY": ""}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere)
    done = start("--data", "mnist", "--out", str(tmp_path / "out"), **environment, **proxies)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: mnist: the files train-images-idx3-ubyte" in done.stderr
    assert "Traceback" not in done.stderr


def test_resume_goes_on_to_the_same_numbers(mlp10, tmp_path, capsys):
    assert mlp10.main(arguments(tmp_path / "straight")) == 0
    assert mlp10.main(arguments(tmp_path / "twice", "--max-steps", "13")) == 0
    assert [o["steps"] for o in outcomes(tmp_path / "twice")] == [13, 13]
    assert mlp10.main(arguments(tmp_path / "twice", "--resume")) == 0
    for a, b in zip(outcomes(tmp_path / "straight"), outcomes(tmp_path / "twice")):
        assert a["history"]["losses"] == b["history"]["losses"]
        assert (a["accuracy"], a["loss"], a["steps"]) == (b["accuracy"], b["loss"], b["steps"])
    with (
        np.load(tmp_path / "straight" / "checkpoint-batch.npz") as one,
        np.load(tmp_path / "twice" / "checkpoint-batch.npz") as two,
    ):
        for name in set(one.files) - {"minigrad.json"}:
            np.testing.assert_array_equal(one[name], two[name])


def test_ctrl_c_and_resume(mlp10, tmp_path, capsys, monkeypatch):
    class Interrupted(mlp10.AccuracyCurve):
        def on_step_end(self, step, values):
            super().on_step_end(step, values)
            if step == 7:
                signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(mlp10, "AccuracyCurve", Interrupted)
            assert mlp10.main(arguments(tmp_path, "--norm", "batch")) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"interrupted; --resume continues from the checkpoint in {tmp_path}" in err
    assert os.listdir(tmp_path) == ["checkpoint-batch.npz"]
    assert mlp10.main(arguments(tmp_path, "--norm", "batch", "--resume")) == 0
    (outcome,) = outcomes(tmp_path)
    assert [step for step, _ in outcome["history"]["curves"]["test accuracy"]] == list(range(1, 21))


@pytest.mark.parametrize("more", [["--lr", "1"], ["--lr", "1", "--init-std", "2"]])
def test_a_diverging_run_ends_with_a_table(mlp10, tmp_path, capsys, more):
    assert mlp10.main(arguments(tmp_path, "--norm", "none", *more)) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    (outcome,) = outcomes(tmp_path)
    assert (tmp_path / "curves.png").exists()
    if "--init-std" in more:
        assert outcome["note"] == f"diverged at step {outcome['steps'] + 1}"
        assert outcome["note"] in out
        assert "the model keeps the parameters from before it" in err
        assert outcome["steps"] < 20


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_activations(mlp10, tmp_path, capsys, activation):
    assert mlp10.main(arguments(tmp_path, "--activation", activation, "--norm", "batch")) == 0
    assert f"width 16, {activation}," in capsys.readouterr().out


def test_without_mnist_auto_draws_digits(mlp10, tmp_path, capsys, monkeypatch):
    def missing():
        raise DataError("mnist: not found\nmore lines")

    monkeypatch.setattr(mlp10.data, "mnist", missing)
    assert mlp10.main(arguments(tmp_path, "--data", "auto", "--norm", "batch")) == 0
    out, err = capsys.readouterr()
    assert out.startswith("glyphs, ")
    assert "MNIST can't be had (mnist: not found); using drawn digits instead\n" in err


def test_quick_is_short_and_on_drawn_digits(mlp10, tmp_path, capsys):
    assert mlp10.main(["--quick", "--quiet", "--norm", "batch", "--width", "16", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("glyphs, ")
    assert outcomes(tmp_path)[0]["steps"] == 40  # all four epochs of the few digits here
    quick = mlp10.parse(["--quick"])
    assert (quick.max_steps, quick.data) == (60, "glyphs")
    assert mlp10.parse(["--quick", "--max-steps", "7", "--data", "mnist"]).max_steps == 7


def test_without_matplotlib_there_is_no_picture(mlp10, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert mlp10.main(arguments(tmp_path, "--norm", "none")) == 0
    assert "curves.png needs matplotlib: pip install 'minigrad[plots]'" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-none.npz", "history.json"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr", "-1"], "error: SGD: lr is -1.0"),
        (["--batch-size", "1"], "one value a channel"),
        (["--resume"], "is damaged or no checkpoint"),
    ],
)
def test_errors_are_one_line_and_status_1(mlp10, tmp_path, capsys, more, message):
    (tmp_path / "checkpoint-batch.npz").write_bytes(b"PK")
    assert mlp10.main(arguments(tmp_path, "--norm", "batch", *more)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.splitlines()[-1].startswith("error: ")


def test_an_out_folder_that_can_not_be_made(mlp10, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert mlp10.main(arguments(tmp_path / "file")) == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--width", "0"], ["--epochs", "-1"], ["--max-steps", "x"], ["--data", "cifar"]])
def test_bad_options_are_status_2(mlp10, tmp_path, capsys, more):
    with pytest.raises(SystemExit) as caught:
        mlp10.parse(arguments(tmp_path, *more))
    assert caught.value.code == 2
    assert f"argument {more[0]}" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named(mlp10, tmp_path, capsys):
    assert mlp10.main(arguments(tmp_path, "--device", "tpu")) == 1
    assert "'tpu'" in capsys.readouterr().err
