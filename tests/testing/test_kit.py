"""The kit as its users meet it: the class under pytest, the function without, its messages, and cases it makes."""

import subprocess
import sys

import numpy as np
import planted
import pytest

import minigrad as mg
from minigrad import testing
from minigrad.errors import ArgumentError, GradientError
from minigrad.gradcheck.primitives import cases

FILE = """
import planted
import minigrad as mg
import minigrad.testing

planted.affine()
p = planted.normalized()
{extra}

class TestPlanted(minigrad.testing.Conformance):
    namespace = "planted"
    {options}
"""
FAULT = """
@p.jvp
def _(tangents, primals, outputs):
    return 2 * tangents[0] * outputs[1], None
"""


def run_pytest(tmp_path, extra="", options="pass"):
    """What pytest says to a user's test file, line by line."""
    file = tmp_path / "test_of_a_user.py"
    file.write_text(FILE.format(extra=extra, options=options), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environment = {"PYTHONPATH": ":".join([planted.__file__.rpartition("/")[0], *sys.path]), "PATH": ""}
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_one_inherited_class_tests_every_primitive_and_sample(tmp_path):
    status, output = run_pytest(tmp_path)
    assert status == 0, output
    for name in ("affine (samples)", "affine (0 with a shift)", "affine (1)", "affine (2)", "normalized (0)"):
        assert f"TestPlanted::test_conformance[planted::{name}] PASSED" in output
    assert "6 passed" in output


def test_a_failure_names_primitive_sample_check_and_worst_element(tmp_path):
    status, output = run_pytest(tmp_path, FAULT, 'only = ("planted::normalized",)')
    assert status == 1
    assert "1 failed, 1 passed" in output
    assert "planted::normalized (0): FAILED" in output
    assert "complex step: FAILED at result 0[" in output
    assert "(sample 0, seed 0)" in output


@pytest.mark.parametrize(
    "reasons",
    [{}, {"adjoint": "lost in rounding"}, dict.fromkeys(["central differences", "adjoint"], "lost in rounding")],
)
def test_inconclusive_fails_without_a_reason_and_is_reported_with_one(reasons):
    constant(reasons)
    report = list(testing.conformance("planted"))[1]
    assert {r.check for r in report.results if r.verdict == "INCONCLUSIVE"} == {
        *("central differences", "Richardson", "adjoint"),
    }
    (_, case) = OfPlanted.cases()
    if len(reasons) == 2:
        assert report.passed
        with pytest.raises(pytest.skip.Exception, match="central differences is inconclusive: lost in rounding"):
            testing.Conformance().test_conformance(case)
    else:
        assert report.verdict == "INCONCLUSIVE"
        with pytest.raises(GradientError, match="central differences: INCONCLUSIVE: too little signal"):
            testing.Conformance().test_conformance(case)


class OfPlanted(testing.Conformance):
    namespace = "planted"


def constant(reasons):
    """y = 1e8 + x/1e9, whose slope no difference can see."""
    p = mg.Primitive("planted::constant", override=True)
    p.infer(lambda x: x)
    p.kernel("reference", "cpu")(lambda x: (1e8 + x * 1e-9).astype(x.dtype))
    p.vjp()(lambda ct, saved, needs: ct * 1e-9)
    p.jvp(lambda tangents, primals, outputs: tangents[0] * 1e-9)
    p.samples(lambda rng: iter([mg.Sample((rng.standard_normal((2, 3)),), undecided=reasons)]))


def test_without_pytest_there_are_reports():
    planted.affine()
    reports = list(testing.conformance("planted"))
    assert [r.subject for r in reports][:2] == ["planted::affine (samples)", "planted::affine (0 with a shift)"]
    assert all(r.passed for r in reports)
    checks = {r.check for r in reports[1].results}
    assert checks == {
        *("infer", "cpu float32", "cpu float64", "layouts", "buffers", "threads", "invariances", "sizes"),
        *("parts", "central differences", "Richardson", "adjoint", "complex step", "second order"),
    }


def test_seed_and_order_are_passed_on():
    planted.affine()
    reports = list(testing.conformance("planted", seed=3, order=1))
    assert "second order" not in {r.check for report in reports for r in report.results}
    assert {r.seed for report in reports for r in report.results} == {3}


def test_what_is_not_there_is_named():
    planted.affine()
    with pytest.raises(ArgumentError, match=r"no primitives in 'nowhere', there are some in .*'mg', 'norms'"):
        testing.conformance("nowhere")
    with pytest.raises(ArgumentError, match=r"\['planted::sine'\] are not in 'planted'"):
        testing.conformance("planted", only=["planted::sine", "planted::affine"])


def test_combinations_of_absent_inputs_are_made_once_each():
    p = mg.Primitive("planted::three", override=True)
    p.infer(lambda x, a, b, c: x)
    p.kernel("reference", "cpu")(lambda x, a, b, c: sum(np.sum(v) for v in (a, b, c) if v is not None) + x)
    p.no_derivative("not needed")
    some = np.arange(1.0, 3.0)

    @p.samples
    def _(rng):
        yield mg.Sample((some, some, some, some))
        yield mg.Sample((some, None, some, None))
        yield mg.Sample((some, None, None, some))

    labels = [c.label for c in cases(p)]
    assert labels[:4] == ["samples", "0", "1", "2"]
    expected = ["c", "b", "b and c", "a", "a and b and c"]
    assert labels[4:] == [f"without {names}" for names in expected]
    assert mg.gradcheck.check_primitive(p).passed


def test_samples_that_can_not_be_drawn_or_show_no_derivative():
    p = planted.affine()
    p.samples(lambda rng: iter([mg.Sample((np.ones((2, 3)), np.ones(3), None), differentiable=False)]))
    report = mg.gradcheck.check_primitive(p)
    assert report.verdict == "INCONCLUSIVE"
    assert "every sample sits on a kink" in str(report)

    def broken(rng):
        raise ZeroDivisionError("on purpose")
        yield

    p.samples(broken)
    report = mg.gradcheck.check_primitive(p)
    assert "the samples rule raised ZeroDivisionError: on purpose" in str(report)
    with pytest.raises(GradientError, match="planted::affine: FAILED"):
        report.require()


def test_the_threads_of_the_process_are_as_before():
    import numba

    from minigrad.devices import cpu

    before, call = numba.get_num_threads(), cpu.Kernel.__call__
    mg.gradcheck.check_primitive(planted.spread()).require()
    assert (numba.get_num_threads(), cpu.Kernel.__call__) == (before, call)


def test_mutating_primitives_are_tested_in_place():
    p = mg.Primitive("planted::bump", mutates=("state",), override=True)
    p.infer(lambda state, step: None)
    p.kernel("reference")(lambda state, step: state + step)
    p.samples(lambda rng: iter([mg.Sample((rng.standard_normal((4, 3)), rng.standard_normal(3)))]))
    p.kernel("cpu")(lambda out, state, step: np.add(state, step, out=out))
    mg.gradcheck.check_primitive(p).require()

    @p.kernel("cpu")
    def _(out, state, step):
        np.add(state, step, out=out)
        step[0] = 0

    p._plans.clear()
    report = mg.gradcheck.check_primitive(p)
    assert "the kernel changed its input step" in str(report)
