"""Each check of a function passes what is sound, sees what it is there to see, and says what it can't."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import primitive
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.gradcheck import CHECKS
from minigrad.primitive import Abstract, Primitive

X = np.random.default_rng(0).standard_normal((3, 4))
W = np.random.default_rng(1).standard_normal((4,))


@pytest.fixture(autouse=True)
def registry():

    before = primitive.registered()
    yield
    primitive.restore(before)


def smooth(x, w):
    return mg.tanh(x * w).sum(axis=1), mg.exp(0.3 * x)


def product(vjp=None, jvp=True, kernel=None):
    """x²·w in one primitive, with a reverse rule of the test's."""
    p = Primitive("planted::product", override=True)
    p.infer(lambda x, w: Abstract(x.shape, x.dtype))
    p.kernel("reference", "cpu")(kernel or (lambda x, w: x * x * w))

    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        x, w = saved.x, saved.w
        return (vjp or (lambda ct, x, w: (2 * ct * x * w, (ct * x * x).sum(axis=0))))(ct, x, w)

    if jvp:

        @p.jvp
        def _(tangents, primals, outputs):
            (tx, tw), (x, w) = tangents, primals
            parts = [t * d for t, d in ((tx, 2 * x * w), (tw, x * x)) if t is not None]
            return sum(parts[1:], parts[0])

    return p


def verdicts(report):
    return {r.check: r.verdict for r in report.results}


def names_of(check):
    return [f"Taylor slope {k}" for k in (1, 2, 3)] if check == "Taylor slope" else [check]


def test_everything_passes_on_a_sound_function():
    report = mg.gradcheck.check(smooth, [X, W], order=3, analytic=True, checks="all")
    assert report.verdict == "passed", report
    assert list(verdicts(report)) == [name for check in CHECKS for name in names_of(check)]
    assert not any(r.reason for r in report.results)
    for result in report.results:
        assert result.error <= 1
        if result.bound:
            assert abs(result.got - result.estimate) <= result.bound * (1 + 1e-9) or "slope" in result.check


OF_OTHER_THINGS = ("layouts", "repeatability", "complex step", "second order", "third order", "float32")
DERIVATIVES = [c for c in CHECKS if c not in OF_OTHER_THINGS]


@pytest.mark.parametrize("check", DERIVATIVES)
def test_a_wrong_sign_is_seen_by_each_check_of_derivatives(check):
    p = product(lambda ct, x, w: (2 * ct * x * w, -(ct * x * x).sum(axis=0)))
    report = mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks=[check])
    found = verdicts(report)
    if check == "Taylor slope":  # without the gradient there is nothing to get wrong
        assert found == {"Taylor slope 1": "passed", "Taylor slope 2": "FAILED", "Taylor slope 3": "FAILED"}
        slope = report.results[1]
        assert abs(slope.got - 1) < 0.1
        assert slope.expected == 2
    else:
        assert found == {check: "FAILED"}, report


@pytest.mark.parametrize(
    ("check", "factor"),
    [
        ("forward differences", 1e-5),
        ("central differences", 1e-4),
        ("Taylor slope", 1e-5),
        ("fourth-order differences", 1e-7),
        ("Richardson", 1e-8),
        ("rules", 1e-8),
        ("another point", 1e-8),
        ("adjoint", 1e-10),
        ("forward against reverse", 1e-10),
        ("extended precision", 1e-12),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_how_small_an_error_each_check_sees(check, factor, seed):
    p = product(lambda ct, x, w: ((1 + factor) * 2 * ct * x * w, (ct * x * x).sum(axis=0)))
    report = mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks=[check], seed=seed)
    assert report.verdict == "FAILED", report


def test_a_fault_of_second_order_alone():
    held = product(lambda ct, x, w: (2 * ct * x.detach() * w, (ct * x * x).sum(axis=0)))
    found = verdicts(mg.gradcheck.check(lambda x, w: held(x, w), [X, W]))
    assert found["central differences"] == "passed"
    assert found["second order"] == "FAILED"


def test_a_fault_of_third_order_alone():
    cube, slope = (Primitive(f"planted::{name}", override=True) for name in ("cube", "slope"))
    for p, kernel in ((cube, lambda x: x * x * x), (slope, lambda x: 3 * x * x)):
        p.infer(lambda x: Abstract(x.shape, x.dtype))
        p.kernel("reference", "cpu")(kernel)
    cube.vjp(saves=("x",))(lambda ct, saved, needs: ct * slope(saved.x))
    slope.vjp(saves=("x",))(lambda ct, saved, needs: 6 * ct * saved.x.detach())
    found = verdicts(mg.gradcheck.check(lambda x: cube(x), [X], order=3))
    assert [found[c] for c in ("central differences", "second order", "third order")] == ["passed", "passed", "FAILED"]
    assert "third order" not in verdicts(mg.gradcheck.check(lambda x: cube(x), [X], order=2))


# Kinks


def test_kinks_at_the_point_are_reported_and_held_between_the_slopes():
    x = np.array([0.0, 0.7, -0.3, 1e-9])
    report = mg.gradcheck.check(mg.relu, [x], order=1, checks="all")
    assert report.passed, report
    central = report.results[0]
    assert central.detail == "on a kink, between the one-sided slopes: argument 0[0]"
    two = product(lambda ct, x, w: (ct * (x > 0) + 2 * ct * (x == 0), None), kernel=lambda x, w: np.maximum(x, 0))
    found = mg.gradcheck.check(lambda x: two(x, mg.tensor(x.numpy())), [x], order=1, checks=["central differences"])
    assert found.verdict == "FAILED"  # a slope of 2 is none of relu's
    assert found.results[0].where == "argument 0[0]"


def test_ties_and_clips():
    ties = np.array([1.0, 0.2, 1.0])
    (result,) = mg.gradcheck.check(lambda x: x.max(), [ties], order=1, checks="central differences").results
    assert result.verdict == "passed"
    assert "argument 0[0], argument 0[2]" in result.detail
    clipped = np.array([0.5, -0.25, 0.1])
    report = mg.gradcheck.check(lambda x: mg.clip(x, -0.25, 0.5) * x, [clipped], order=1)
    assert report.passed, report
    assert "argument 0[0], argument 0[1]" in report.results[0].detail


def test_a_point_that_is_nothing_but_kinks_decides_nothing():
    report = mg.gradcheck.check(mg.relu, [np.zeros(3)], order=1)
    assert report.verdict == "INCONCLUSIVE"


def test_a_wrong_side_of_a_near_kink_fails():
    wrong = product(lambda ct, x, w: (ct * (x > 1e-8), None), kernel=lambda x, w: np.maximum(x, 0))
    report = mg.gradcheck.check(lambda x: wrong(x, mg.tensor(x.numpy())), [np.array([1e-9, 0.5, -2.0])], order=1)
    assert report.verdict == "FAILED"
    assert report.results[0].where == "argument 0[0]"


@pytest.mark.parametrize(
    ("fn", "x"),
    [(mg.sqrt, [0.0, 1.0]), (mg.log, [1e-300, 1.0]), (mg.sign, [0.0, 1.0]), (mg.floor, [1.0, 1.5])],
    ids=["slope without end", "edge nearby", "jump", "step"],
)
def test_edges_and_jumps_are_reported_and_fail_nothing(fn, x):
    report = mg.gradcheck.check(fn, [np.array(x)], order=1, checks="all")
    assert "FAILED" not in verdicts(report).values(), report
    assert report.results[0].detail == "on a jump or an edge, where there are no slopes: argument 0[0]"
    assert verdicts(report)["rules"] == "INCONCLUSIVE"


def test_steps_keep_away_from_an_edge():
    (central, *slopes) = mg.gradcheck.check(
        mg.log, [np.array([1e-5, 1.0])], checks=["central differences", "Taylor slope"]
    ).results
    assert [r.verdict for r in (central, *slopes)] == ["passed"] * 4, slopes
    wrong = product(lambda ct, x, w: (np.nan * ct, None))
    report = mg.gradcheck.check(
        lambda x: wrong(x, mg.tensor(x.numpy())), [X[0]], checks=["central differences", "rules"]
    )
    assert set(verdicts(report).values()) == {"FAILED"}  # NaN where there is a derivative


# Bits, memory, float32, primitives


def test_other_bits_from_a_second_run_are_seen():
    rng = np.random.default_rng(0)
    p = product(lambda ct, x, w: (2 * ct * x * w * (1 + 2.0**-52 * rng.integers(0, 3)), (ct * x * x).sum(axis=0)))
    report = mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks=["repeatability"])
    assert report.verdict == "FAILED"
    assert "the gradient of argument 0 has other bits from a second run" in str(report)


def test_a_value_kept_from_the_first_call_is_seen_at_another_point():
    kept = {}
    p = product(lambda ct, x, w: (2 * ct * kept.setdefault(x.shape, x.detach()) * w, (ct * x * x).sum(axis=0)))
    found = verdicts(mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks="all"))
    assert found["central differences"] == "passed"
    assert found["another point"] == "FAILED"


def test_memory_read_as_it_lies_is_seen_in_values_and_in_cotangents():
    def flat(t):
        return mg.Tensor(np.ascontiguousarray(t.numpy().ravel("K").reshape(t.shape)))

    p = product(lambda ct, x, w: (2 * flat(ct) * x * w, (ct * x * x).sum(axis=0)))
    report = mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks=["layouts"])
    assert "the gradient of argument 0 differs for transposed arguments and cotangents" in str(report)
    p = product(kernel=lambda x, w: np.square(x.ravel("K").reshape(x.shape)) * w)
    report = mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks=["layouts"])
    assert "result 0 differs for transposed" in str(report)


def test_half_precision_in_float32_is_seen_and_bad_conditioning_is_not_blamed():
    def rough(ct, x, w):
        x = mg.Tensor(x.numpy().astype("float16").astype("float32")) if x.dtype == np.float32 else x
        return 2 * ct * x * w, (ct * x * x).sum(axis=0)

    p = product(rough)
    report = mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks=["central differences", "float32"])
    assert verdicts(report) == {"central differences": "passed", "float32": "FAILED"}
    cancels = mg.gradcheck.check(lambda x: mg.square((x + 1e6) - 1e6) * x, [X], checks=["float32"])
    assert cancels.passed, cancels
    for size in (1, 300):
        long = np.random.default_rng(2).standard_normal((2, size))
        report = mg.gradcheck.check(lambda x: mg.softmax(x) * x.sum(), [long], checks=["float32"])
        assert report.passed, report


def test_rules_are_asked_where_a_sum_hides_them():
    p = product(lambda ct, x, w: (-2 * ct * x * w, (ct * x * x).sum(axis=0)))

    def hidden(x, w):
        y = p(x, w)
        return y.sum() - y.sum()

    found = mg.gradcheck.check(hidden, [X, W], checks="all")
    assert "FAILED" not in {r.verdict for r in found.results if r.check != "rules"}
    assert found.verdict == "FAILED"
    assert "the reverse rule of planted::product" in str(found)


# What it says


def test_a_failed_assertion_is_readable():
    p = product(lambda ct, x, w: (2 * ct * x * w, -(ct * x * x).sum(axis=0)))
    with pytest.raises(AssertionError) as caught:
        mg.gradcheck.assert_gradients(lambda x, w: p(x, w), [X, W], seed=5, name="swish", checks=["adjoint", "layouts"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "gradients of swish: FAILED"
    assert lines[1] == "  adjoint: FAILED at ⟨Jv, w⟩"
    assert lines[2].startswith("    got      ")
    assert lines[3].startswith("    expected ")
    assert lines[4] == "  passed: layouts"
    assert lines[-1] == "  again: the same arguments with seed=5"
    assert mg.gradcheck.assert_gradients(smooth, [X, W], order=1).passed


def test_the_same_seed_gives_the_same_numbers_and_another_others():
    first, again, other = (
        mg.gradcheck.check(smooth, [X, W], checks="all", order=1, seed=seed).results for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_no_forward_rule_is_no_fault_of_a_function():
    p = product(jvp=False)
    report = mg.gradcheck.check(lambda x, w: p(x, w), [X, W], checks="all")
    assert report.passed, report
    assert {r.check for r in report.results if r.reason} == {"adjoint", "forward against reverse"}


@pytest.mark.parametrize(
    ("fn", "args", "options", "error", "words"),
    [
        (3, [X], {}, ArgumentTypeError, "fn is 3, expected a function"),
        (mg.exp, X, {}, ArgumentTypeError, "args is of ndarray, expected a list"),
        (lambda x: 1.0, [X], {}, ArgumentTypeError, "fn returned float, expected a tensor"),
        (mg.exp, [np.array([1.0, np.nan])], {}, ArgumentError, "argument 0 holds NaN or infinity"),
        (mg.exp, [X], {"seed": -1}, ArgumentError, "seed is -1, expected an integer"),
        (mg.exp, [X], {"constant": [1]}, ArgumentError, r"constant is \[1\], expected positions of the 1 arguments"),
        (mg.softmax, [X], {"analytic": True}, ArgumentError, "analytic is True, but the function takes no complex"),
        (mg.exp, [X], {"checks": ["adjoint", "guess"]}, ArgumentError, r"names \['guess'\], expected some of"),
    ],
)
def test_what_is_wrong_with_a_call_is_told(fn, args, options, error, words):
    with pytest.raises(error, match=words):
        mg.gradcheck.check(fn, args, **options)
