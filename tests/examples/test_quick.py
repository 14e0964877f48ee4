"""Each example with --quick on drawn images: status, table, files of results, and that a seed fixes its numbers."""

import json
import sys

import numpy as np
import pytest

import minigrad as mg

PICTURES = {
    "batch_norm_lesson": ["accuracy-relu.png", "accuracy-sigmoid.png"],
    "gradcheck_study": ["faults.png", "steps.png"],
    "norm_layers": ["accuracy.png"],
    "style_transfer": ["losses.png", "mixtures.png", "styles.png"],
    "tf_batch_norm": ["tf_batch_norm.png"],
    "theano_batch_norm": ["theano_batch_norm.png"],
    "weight_norm_cifar": ["accuracy.png"],
}


def run(example, name, out, *more):
    assert example(name).main(["--quick", "--quiet", "--out", str(out), *more]) == 0
    return read(out)


def read(out):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((out / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("name", PICTURES)
def test_quick(example, name, tmp_path, capsys):
    out = tmp_path / "new" / name
    results = run(example, name, out)
    shown, said = capsys.readouterr()
    assert set(results) == {"title", "data", "tables", "pictures", "numbers", "options"}
    assert results["options"]["quick"] is True
    assert [file for file, _ in results["pictures"]]
    assert sorted(f for f, _ in results["pictures"]) == PICTURES[name]
    assert sorted(p.name for p in out.iterdir()) == sorted([*PICTURES[name], "results.json"])
    for file in PICTURES[name]:
        assert (out / file).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for table in results["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert table["title"] in shown
        assert all(str(row[0]) in shown for row in table["rows"])
    assert f"written to {out}: results.json, " in said


def test_norm_layers_learns_and_repeats(example, tmp_path):
    results = run(example, "norm_layers", tmp_path, "--seed", "3")
    for kind, numbers in results["numbers"].items():
        assert numbers["test accuracy"] > (0.15 if kind == "instance norm" else 0.4), kind
    tutorial, proper = results["tables"]
    assert [row[2:4] for row in tutorial["rows"]] == [[0.7722, 0.858], [0.7194, 0.833], [0.8049, 0.871]]
    assert [row[2] for row in proper["rows"]] == [n["test accuracy"] for n in results["numbers"].values()]
    module, digits = example("norm_layers"), mg.data.glyph_dataset(0, 192, seed=3)
    options = module.parse(["--quick", "--quiet", "--seed", "3"])
    x = digits.x_test.astype(np.float32) / 255
    _, history, watch = module.train(options, "layer norm", x, digits.y_test, "again")
    assert history.history["accuracy"][-1] == results["numbers"]["layer norm"]["accuracy"]
    assert np.mean(watch.accuracies) == pytest.approx(history.history["accuracy"][-1])


def test_weight_norm_has_the_published_epochs(example, tmp_path):
    results = run(example, "weight_norm_cifar", tmp_path, "--epochs", "2", "--seeds", "2")
    accuracy, by_seed, pace = results["tables"]
    assert [row[0] for row in accuracy["rows"]] == [f"epoch {e}, {k}" for e in (1, 2) for k in ("plain", "weight norm")]
    assert [row[2:4] for row in accuracy["rows"]] == [
        [0.3253, 0.3995],
        [0.3319, 0.4146],
        [0.5039, 0.5185],
        [0.4937, 0.5196],
    ]
    every = results["numbers"].pop("every seed")
    for kind, run_ in results["numbers"].items():
        assert run_["loss"][1] < run_["loss"][0], kind
        first, second = every[kind]
        assert first == run_
        assert second["loss"] != run_["loss"]
    one, two, mean = (row[1:] for row in by_seed["rows"])
    assert one[:2] == [run_["accuracy"][-1] for run_ in results["numbers"].values()]
    assert mean[0] == f"{np.mean([one[0], two[0]]):.4f} ± {np.std([one[0], two[0]], ddof=1):.4f}"
    ours = pace["rows"][0]
    assert ours[3] == pytest.approx(ours[2] / ours[1])


def test_the_two_ways_to_batch_norm_agree(example, tmp_path):
    numbers = run(example, "tf_batch_norm", tmp_path)["numbers"]
    by_hand, at_once, without = (numbers[kind]["loss"] for kind in ("by_hand", "batch_norm", "none"))
    assert len(by_hand) == 8
    np.testing.assert_allclose(by_hand, at_once, rtol=1e-5)
    assert np.abs(np.subtract(by_hand, without)).max() > 0.01


def test_the_tour_of_gradient_checks_catches_every_fault(example, tmp_path):
    results = run(example, "gradcheck_study", tmp_path)
    found = results["numbers"]["faults"]
    assert found["caught"] == [0, *[found["seeds"]] * 16]
    steps, slopes, kinks, roundings, _ = results["tables"]
    assert all(float(row[2]) <= float(row[3]) for row in steps["rows"])
    assert [row[2].split()[1] for row in slopes["rows"]] == ["passed", "FAILED", "FAILED", "passed"]
    assert [row[1] for row in kinks["rows"]] == ["passed", "passed", "passed", "INCONCLUSIVE"]
    assert [row[3] for row in roundings["rows"]] == ["passed", "INCONCLUSIVE", "FAILED"]


def test_only_some_networks(example, tmp_path):
    results = run(example, "tf_batch_norm", tmp_path, "--only", "none", "--seed", "1")
    assert list(results["numbers"]) == ["none"]
    assert [row[0] for row in results["tables"][0]["rows"]] == ["without"]


def test_theano_learns_with_batch_norm_alone(example, tmp_path):
    numbers = run(example, "theano_batch_norm", tmp_path, "--steps", "100")["numbers"]
    assert numbers["without"]["accuracy"] < 0.25
    assert numbers["with batch norm"]["accuracy"] > 0.4
    assert len(numbers["with batch norm"]["losses"]) == 100
    from minigrad.dialects import theano

    assert theano.config.floatX == "float64"  # as it was


def test_theano_stops_where_the_loss_is_lost(example, tmp_path, capsys):
    more = ("--rate", "1e6", "--activation", "relu", "--stddev", "5")
    numbers = run(example, "theano_batch_norm", tmp_path, *more)["numbers"]
    step = numbers["without"]["diverged"]
    assert 1 <= step < 60
    assert numbers["without"]["losses"][step - 1] is None
    assert f"diverged at step {step}" in capsys.readouterr().out


def test_lesson_settings(example, tmp_path, capsys):
    more = ("--only", "5/2/relu", "0.05/1/relu", "--steps", "40", "--seed", "2")
    results = run(example, "batch_norm_lesson", tmp_path / "a", *more)
    again = run(example, "batch_norm_lesson", tmp_path / "b", *more[:2], *more[3:], "--seeds", "2")
    assert list(results["numbers"]) == ["5/2/relu", "0.05/1/relu"]
    (table,) = results["tables"]
    assert [row[1] for row in again["tables"][1]["rows"]] == table["rows"][0][1:4:2]
    assert [row[0] for row in table["rows"]] == ["N(0, 5²), rate 2, relu", "N(0, 0.05²), rate 1, relu"]
    assert [(row[2], row[4]) for row in table["rows"]] == [(0.098, 0.9054), (0.098, 0.9834)]
    hopeless = results["numbers"]["5/2/relu"]["without"]
    assert hopeless["diverged"]
    assert table["rows"][0][-1] == f"without: diverged by step {hopeless['diverged']}"
    for kind in ("without", "with"):
        for key in ("curve", "test"):
            assert again["numbers"]["5/2/relu"][kind][key] == results["numbers"]["5/2/relu"][kind][key]


def test_lesson_networks_share_their_first_weights(example):
    lesson = example("batch_norm_lesson")
    without, with_norm = (lesson.build(0.05, "relu", batch_norm, seed=4) for batch_norm in (False, True))
    kernels = [[v.numpy() for name, v in m.variables.items() if name.endswith("kernel")] for m in (without, with_norm)]
    assert [k.shape for k in kernels[0]] == [(784, 100), (100, 100), (100, 100), (100, 10)]
    for a, b in zip(*kernels):
        np.testing.assert_array_equal(a, b)
    assert abs(float(kernels[0][0].std()) - 0.05) < 0.001


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("more", [["--seed", "-1"], ["--seed", "x"], ["--unknown"]])
def test_bad_options_are_status_2(example, name, more, capsys):
    with pytest.raises(SystemExit) as caught:
        example(name).parse(more)
    assert caught.value.code == 2
    assert f"examples/{name}.py: error: " in capsys.readouterr().err


def test_without_matplotlib_there_is_no_picture(example, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    results = run(example, "tf_batch_norm", tmp_path, "--only", "none")
    assert results["pictures"] == []
    assert "tf_batch_norm.png needs matplotlib: pip install 'minigrad[plots]'" in capsys.readouterr().err


def test_errors_are_one_line_and_status_1(example, tmp_path, capsys):
    assert example("tf_batch_norm").main(["--quick", "--quiet", "--out", str(tmp_path), "--lr", "-1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: Adam: learning_rate is -1.0")
    (tmp_path / "file").write_text("")
    assert example("norm_layers").main(["--quick", "--quiet", "--out", str(tmp_path / "file")]) == 1
    assert "error: " in capsys.readouterr().err
