"""The command line: what `check` prints and finds, its exit status, and how both commands bear a hostile world."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from fake_plugins import write_plugin

from minigrad import plugins, primitive
from minigrad.__main__ import main
from minigrad.errors import ShapeError
from minigrad.primitive import Abstract, Primitive, Sample

NUMBER = r"(-?[\d.]+(?:e-?\d+)?)"


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch):
    """Primitives and plugins as they were, once the test is over."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))
    modules, registered = set(sys.modules), primitive.registered()
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("fake_"):
            del sys.modules[name]
    primitive.restore(registered)


def plant(fault=None):
    """A primitive x²·y, right in every respect but one."""
    p = Primitive("planted::product")

    @p.infer
    def _(x, y):
        if x.shape != y.shape and fault != "accepts a bad input":
            raise ShapeError(f"product: y has shape {y.shape}, expected {x.shape}")
        return Abstract(x.shape, x.dtype)

    @p.kernel("reference")
    def _(x, y):
        return x * x * y

    @p.kernel("cpu")
    def _(out, x, y):
        np.multiply(x * x, y, out=out)
        if fault == "kernel off by one":
            out[1:] = out[:-1].copy()
        if fault == "kernel changes its input":
            x += 1

    @p.vjp(saves=("x", "y"))
    def _(ct, saved, needs):
        x = saved.x.detach() if fault == "no second derivative" else saved.x
        sign = -2 if fault == "wrong sign" else 2
        both = (sign * ct * x * saved.y, ct * x * x)
        return {"missing cotangent": (both[0], None), "too few cotangents": both[:1]}.get(fault, both)

    @p.jvp
    def _(tangents, primals, outputs):
        (tx, ty), (x, y) = tangents, primals
        terms = [t * d for t, d in ((tx, 2 * x * y), (ty, x * x)) if t is not None]
        return terms[0] if fault == "wrong tangent" else sum(terms[1:], terms[0])

    if fault != "no samples":

        @p.samples
        def _(rng):
            yield Sample((rng.standard_normal((4, 3)), rng.standard_normal((4, 3))))
            yield Sample((np.ones((2, 3)), np.ones((2,))), error=ShapeError, match=r"y has shape \(2,\)")

    return p


def run(capsys, *arguments):
    """Status, stdout's lines and stderr of a command."""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err


def python_m(*arguments, **options):
    options = {"capture_output": True, "text": True, "encoding": "utf-8", **options}
    return subprocess.run([sys.executable, "-m", "minigrad", *arguments], **options)


# check


def test_a_table_with_a_row_for_each_primitive_and_a_summary(capsys):
    plant()
    status, lines, err = run(capsys, "check", "planted", "mg::exp")
    assert status == 0
    head, first, second, summary = lines
    assert head.split("  ")[0] == "primitive"
    checked = ["ok"] * 8 + ["-"] + ["ok"] * 6 + ["-", "ok"]  # it declares no invariances; order 3 was not asked for
    assert first.split() == ["planted::product", *checked, "passed", first.split()[-1]]
    assert second.startswith("mg::exp ")
    assert summary == "2 primitives: 2 passed, 0 failed, 0 inconclusive"
    for heading, cell in zip(re.finditer(r"\S+( \S+)*", head), re.finditer(r"\S+", first)):
        assert heading.start() <= cell.start() <= heading.end()  # cells stand below their headings
    assert "primitive/s" in err


FAULTS = {
    "wrong sign": (rf"central differences: FAILED at argument 0\[\d, \d\]: got {NUMBER}, expected {NUMBER}", -1),
    "missing cotangent": (rf"central differences: FAILED at argument 1\[\d, \d\]: got {NUMBER}, expected {NUMBER}", 0),
    "kernel off by one": (rf"cpu float64: FAILED at out\[\d, \d\]: got {NUMBER}, expected {NUMBER}", None),
    "wrong tangent": (rf"adjoint: FAILED at ⟨Jv, w⟩: got {NUMBER}, expected {NUMBER}", None),
    "no second derivative": (rf"second order: FAILED at .*\[\d, \d\]: got {NUMBER}, expected {NUMBER}", None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named_with_place_and_values(capsys, fault):
    pattern, factor = FAULTS[fault]
    plant(fault)
    status, lines, _ = run(capsys, "check", "planted")
    assert status == 1
    assert re.search(r"planted::product .* FAILED .* FAILED +\d", lines[1])
    found = [m for m in (re.fullmatch(f"planted::product: {pattern}.*", line) for line in lines) if m]
    assert len(found) == 1
    got, expected = map(float, found[0].groups())
    assert abs(got - expected) > 1e-6
    if factor is not None:
        np.testing.assert_allclose(got, factor * expected, rtol=1e-6)
    assert "1 primitives: 0 passed, 1 failed, 0 inconclusive" in lines
    assert lines[-1] == "again: python -m minigrad check planted::product --seed 0 --order 2"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("too few cotangents", "the vjp rule returned 1 cotangents for 2 inputs"),
        ("accepts a bad input", "bad input: FAILED: a bad sample "),
        ("kernel changes its input", "the kernel changed its input x"),
    ],
)
def test_a_planted_fault_without_values_is_told_in_words(capsys, fault, words):
    plant(fault)
    status, lines, _ = run(capsys, "check", "planted")
    assert status == 1
    assert any(line.startswith("planted::product: ") and words in line for line in lines)


def test_what_can_not_be_decided_is_no_success(capsys):
    plant("no samples")
    status, lines, _ = run(capsys, "check", "planted")
    assert status == 1
    assert "planted::product: samples: INCONCLUSIVE: there is no sample to check on" in "\n".join(lines)
    assert "1 primitives: 0 passed, 0 failed, 1 inconclusive" in lines


def test_order_and_seed_are_passed_on(capsys):
    plant("no second derivative")
    assert run(capsys, "check", "planted", "--order", "1")[0] == 0
    _, lines, _ = run(capsys, "check", "planted", "--seed", "5")
    assert "seed 5)" in "\n".join(lines)
    assert lines[-1].endswith("--seed 5 --order 2")


def test_one_primitive_or_a_namespace_or_several(capsys):
    assert [line.split()[0] for line in run(capsys, "check", "mg::exp")[1][1:-1]] == ["mg::exp"]
    names = [line.split()[0] for line in run(capsys, "check", "mg::log", "mg::exp", "mg::log", "--order", "1")[1][1:-1]]
    assert names == ["mg::log", "mg::exp"]


def test_all_are_checked_by_default(capsys, monkeypatch):
    plant()
    primitive.restore({n: p for n, p in primitive.registered().items() if n in ("mg::exp", "planted::product")})
    monkeypatch.setattr(plugins, "_found", dict)
    status, lines, _ = run(capsys, "check", "--order", "1")
    assert status == 0
    assert [line.split()[0] for line in lines[1:-1]] == ["mg::exp", "planted::product"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], r"there are no primitives in 'nowhere', there are some in .*mg, norms"),
        (["mg::nothing"], r"no primitive 'mg::nothing'; 'mg' has \['mg::abs', "),
        (["mg::exp", "--json", "no/such/folder/report.json"], r"No such file or directory"),
    ],
)
def test_a_wrong_command_is_2_and_nothing_is_checked(capsys, arguments, words):
    status, lines, err = run(capsys, "check", *arguments)
    assert status == 2
    assert not lines
    assert re.search(words, err)


@pytest.mark.parametrize("arguments", [[], ["checks"], ["check", "--order", "4"], ["check", "--seed", "x"]])
def test_what_argparse_refuses_is_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m minigrad" in capsys.readouterr().err


def test_help_explains_columns_and_exit_status(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["check", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for words in ("INCONCLUSIVE", "exit status", "adjoint"):
        assert words in text


def test_json_holds_all_results_and_is_strict(capsys, tmp_path):
    plant("too few cotangents")  # whose error is infinite
    file = tmp_path / "report.json"
    assert run(capsys, "check", "planted", "mg::exp", "--json", str(file), "--seed", "3")[0] == 1

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    report = json.loads(file.read_text(), parse_constant=refuse)
    assert (report["seed"], report["order"], report["broken"]) == (3, 2, {})
    failed, passed = report["primitives"]
    assert (failed["name"], failed["verdict"]) == ("planted::product", "FAILED")
    assert (passed["name"], passed["verdict"]) == ("mg::exp", "passed")
    assert "inf" in [r["error"] for r in failed["results"]]
    for result in passed["results"]:
        assert result["verdict"] == "passed"
        assert {"check", "error", "tolerance", "signal", "where", "got", "expected", "seed"} <= set(result)


def test_a_plugin_is_loaded_for_its_check(capsys, tmp_path):
    write_plugin(tmp_path, "installed")
    write_plugin(tmp_path, "other", "raise ValueError('not asked for')\n")
    assert run(capsys, "check", "installed")[0] == 0
    assert run(capsys, "check", "installed::twice")[0] == 0
    assert "fake_other" not in sys.modules


def test_a_broken_plugin_fails_its_check_and_that_of_all(capsys, tmp_path, monkeypatch):
    write_plugin(tmp_path, "broken", "raise ValueError('on purpose')\n")
    words = "plugin 'broken': importing 'fake_broken' failed: ValueError: on purpose"
    for name in ("broken", "broken::twice"):
        status, lines, _ = run(capsys, "check", name)
        assert status == 1
        assert lines == [words, "0 primitives: 0 passed, 0 failed, 0 inconclusive"]
    monkeypatch.setattr(primitive, "primitives", lambda namespace=None: [primitive.get("mg::exp")])
    status, lines, _ = run(capsys, "check")
    assert status == 1
    assert words in lines
    assert "1 primitives: 1 passed, 0 failed, 0 inconclusive" in lines


# The process


def test_the_exit_status_reaches_the_shell_and_streams_are_apart():
    done = python_m("check", "mg::exp")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "1 primitives: 1 passed, 0 failed, 0 inconclusive"
    assert "primitive/s" not in done.stdout
    assert "primitive/s" in done.stderr
    assert python_m("check", "nowhere").returncode == 2


def test_a_reader_that_leaves_early_gets_no_traceback():
    for command in (["info"], ["check", "mg::exp"]):
        read, write = os.pipe()
        os.close(read)
        done = python_m(*command, capture_output=False, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert done.returncode == 1
        assert "Error" not in done.stderr
        assert "Traceback" not in done.stderr


def test_output_survives_a_terminal_that_knows_ascii_only(tmp_path):
    write_plugin(tmp_path, "broken", "raise ValueError(chr(0x2202))\n")
    ascii_only = {"PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = python_m("info", env={**os.environ, **ascii_only})
    assert done.returncode == 0, done.stderr
    assert r"ValueError: \u2202" in " ".join(done.stdout.split())


def test_an_interrupt_is_130_and_no_traceback(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minigrad.__main__.check_primitive", interrupted)
    status, _, err = run(capsys, "check", "mg::exp")
    assert status == 130
    assert err.endswith("interrupted\n")
