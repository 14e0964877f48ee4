"""The study of a few primitives: its numbers, its page in a browser, its command, and what it says of faults."""

import itertools
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import minigrad as mg
from minigrad import primitive
from minigrad.__main__ import main
from minigrad.gradcheck.study import measures, pictures, report, run, tables
from minigrad.gradcheck.variations import grown
from minigrad.primitive import Abstract, Primitive

NAMES = ["mg::div", "mg::exp", "mg::relu"]
LIBRARY = {
    "version": "1.0",
    "seeds": 2,
    "false_alarms": {"float64": 0, "float32": 2},
    "command": "python -m a.library",
    "check_seconds": 0.25,
    "gradient_seconds": 0.001,
    "faults": {
        "wrong sign": {"caught": 2, "seeds": 2, "says": "<no>"},
        "sevenfold": {"caught": 0, "seeds": 2, "says": ""},
        "one element": None,
    },
}


@pytest.fixture(scope="module")
def study():
    found = run.run(NAMES, seeds=0, processes=1)
    found["faults"] = [{"name": n, "words": f"what {n} is"} for n in LIBRARY["faults"]]
    found["libraries"] = {"minigrad": LIBRARY, "torch": {"command": "python", "absent": "there is no torch"}}
    return found


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    return report.write(study, tmp_path_factory.mktemp("study") / "new")


@pytest.fixture
def registry():
    before = primitive.registered()
    yield
    primitive.restore(before)


def square(slope=2.0, dtype=None):
    p = Primitive("planted::square", override=True)
    p.infer(lambda x: Abstract(x.shape, x.dtype))
    p.kernel("reference", "cpu")(lambda x: x * x)
    p.vjp(saves=("x",))(lambda ct, saved, needs: slope * ct * saved.x)
    p.jvp(lambda tangents, primals, outputs: 2 * tangents[0] * primals[0])
    p.samples(lambda rng: iter([mg.Sample((rng.standard_normal((3, 4)),))]))
    return p


class Page(HTMLParser):
    """The tables of a page, by caption, as rows of text."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.references, self._row, self._inside, self.images = {}, [], None, None, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.references += [v for k, v in attrs.items() if k in ("src", "href")]
        if tag == "img":
            self.images.append(attrs["alt"])
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._row = []
            self._rows.append(self._row)
        if tag in ("td", "th"):
            self._row.append("")
        self._inside = tag

    def handle_endtag(self, tag):
        if tag == "table":
            self.tables[self._caption] = self._rows
        self._inside = None

    def handle_data(self, data):
        if self._inside == "caption":
            self._caption += data
        elif self._inside in ("td", "th"):
            self._row[-1] += data


def test_every_primitive_has_its_numbers(study):
    assert [p["name"] for p in study["primitives"]] == NAMES
    for p in study["primitives"]:
        assert p["verdict"] == "passed"
        assert {"cpu float32", "central differences", "Taylor slope 3", "third order", "float32"} <= set(p["checks"])
        for dtype, digits in (("float64", 1e-7), ("float32", 1e-2)):
            for scheme, curve in p["curves"][dtype].items():
                assert len(curve["errors"]) == len(p["curves"]["steps"])
                assert curve["best_error"] == min(e for e in curve["errors"] if e is not None)
                assert curve["predicted_error"] <= curve["bound"], (p["name"], dtype, scheme)
                assert curve["predicted_error"] < digits
        assert p["roundings"]
        assert max(r["float32"]["largest"] for r in p["roundings"]) < 4
        assert p["time"]["second_order"] > p["time"]["gradient"] > 0
        lengths, elements = ([s[k] for s in p["sizes"]] for k in ("length", "elements"))
        assert all(b == 4 * a for a, b in itertools.pairwise(lengths))
        assert elements[0] < 100 < 10000 < elements[-1] <= measures._LARGE
        assert all(s["float32"]["largest"] < 4 for s in p["sizes"])
        assert not p["not_measured"]
    exp = study["primitives"][1]
    errors = exp["curves"]["float64"]["central"]["errors"]
    assert min(errors) < errors[0] / 1e6  # a V: it falls with the truncation
    assert min(errors) < errors[-1] / 1e6  # and rises with the rounding


def test_the_condition_of_what_is_known():
    p = primitive.get("mg::exp")
    sample = mg.Sample((np.full((3,), 5.0),))
    found = measures._condition(measures._subject(p, sample, 0))
    assert found["value"] == pytest.approx(5.0)  # x·exp(x)/exp(x)
    assert found["gradient"] == pytest.approx(5.0, rel=1e-5)


def test_roundings_are_in_units_in_the_last_place():
    true = np.array([1.0, 1.9, 1e-9])
    largest, element = measures._in_units(np.array([0.0, 2.0**-23, 2.0**-23]), true, np.dtype("float32"), 1.9)
    assert (largest, element) == (1.0, 1.0)
    kind = np.dtype("float32")
    assert measures._in_units(np.array([0.0]), np.array([0.0]), kind, 0.0) == (0.0, 0.0)
    rest = np.array([2e-6])  # of terms of 1 that cancel
    assert measures._in_units(rest, rest, kind, 1.0)[0] == pytest.approx(2e-6 * 2**23)
    assert measures._in_units(np.array([2.0**-23]), np.array([1e-20]), kind, 1.0) == (1.0, 0.0)  # nothing but rounding


def test_a_sample_grows_in_all_its_inputs_and_no_value_leaves_its_range():
    p = primitive.get("mg::matmul")
    x, w = np.random.default_rng(0).uniform(1, 2, (2, 3)), np.random.default_rng(1).uniform(1, 2, (3, 2))
    found = grown(p, mg.Sample((x, w), {"tx": False, "ty": False}), 1000, seed=0)
    assert [(n, *map(np.shape, s.inputs)) for n, s in found] == [
        (3 * k, (2, 3 * k), (3 * k, 2)) for k in (1, 4, 16, 64)
    ]
    largest = found[-1][1].inputs[0]
    assert largest.min() >= 1
    assert largest.max() <= 2
    assert len(np.unique(largest)) == largest.size  # no ties
    assert grown(primitive.get("mg::broadcast_to"), mg.Sample((x,), {"shape": (2, 3)}), 1000, seed=0) == []


def test_growth_is_an_exponent():
    sizes = [{"elements": n, "float32": {"largest": 0.1 * n**0.5}} for n in (10, 100, 1000)]
    assert tables.growth({"sizes": sizes}) == pytest.approx(0.5)
    assert tables.growth({"sizes": sizes[:2]}) is None


def test_the_page_has_the_numbers_of_the_json(written):
    path, numbers = written
    assert sorted(p.name for p in path.parent.iterdir()) == ["study.html", "study.json"]
    compare(Page(path.read_text(encoding="utf-8")), json.loads(numbers.read_text(encoding="utf-8")))


def compare(page, kept):
    """Each number of the page's tables is the JSON's."""
    by_name = {p["name"]: p for p in kept["primitives"]}
    ulp = lambda p, dtype, which: tables.number(max(r[dtype][which] for r in p["roundings"]))  # noqa: E731
    (offenders,) = (rows for caption, rows in page.tables.items() if "nearest to their tolerances" in caption)
    assert len(offenders) == 1 + len(by_name)
    for row in offenders[1:]:
        p = by_name[row[0]]
        assert row[1] == p["verdict"]
        assert row[3] == tables.number(p["checks"][row[2]]["error"])
        assert row[4:7] == [ulp(p, "float32", "largest"), ulp(p, "float32", "element"), ulp(p, "float64", "largest")]
        assert row[8:10] == [tables.number(p["condition"][k]) for k in ("value", "gradient")]
        assert row[10] == tables.number(p["time"]["second_order"] / p["time"]["gradient"])
    for row in page.tables["The largest roundings of reverse rules"][1:]:
        assert row[1] == ulp(by_name[row[0]], "float32", "largest")
        assert row[4] == ulp(by_name[row[0]], "float64", "element")
    grown = page.tables["Error against size, worst first"][1:]
    assert len(grown) == len(by_name)
    for row in grown:
        first, last = (by_name[row[0]]["sizes"][k] for k in (0, -1))
        assert row[1:3] == [f"{first[k]} to {last[k]}" for k in ("length", "elements")]
        found = [s[dtype]["largest"] for dtype in ("float32", "float64") for s in (first, last)]
        assert row[3:7] == [tables.number(e) for e in found]
        assert row[8] == tables.number(last["float32"]["explained"])
    for row in page.tables["Steps chosen by their error"][1:]:
        scheme, dtype = row[0].split(", ")
        assert row[3] == tables.number(by_name[row[4]]["curves"][dtype][scheme]["predicted_error"])
    faults = {row[0]: row[1] for row in page.tables["Faults caught"][1:]}
    for name, found in kept["libraries"]["minigrad"]["faults"].items():
        assert faults[name] == ("–" if found is None else f"{found['caught']}/{found['seeds']}")
    assert faults["caught with every seed"] == "1/2"
    assert faults["a check [ms]"] == "250"
    assert not [r for r in page.references if not r.startswith(("#", "data:image/png;base64,"))]
    assert len(page.images) == len(pictures.PICTURES)


def test_the_page_in_a_browser(written, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    path, numbers = written
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    compare(Page(done.stdout), json.loads(numbers.read_text(encoding="utf-8")))


def test_a_fault_leads_the_page_and_fails_the_command(registry, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # pictures take seconds
    square(slope=2.001)
    arguments = ["study", "planted", "mg::exp", "--processes", "1", "--out", str(tmp_path)]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert "2 primitives: 1 passed, 1 failed, 0 inconclusive" in shown
    assert "planted::square: central differences: FAILED got " in shown
    page = Page((tmp_path / "study.html").read_text(encoding="utf-8"))
    (offenders,) = (rows for caption, rows in page.tables.items() if "nearest" in caption)
    assert offenders[1][:2] == ["planted::square", "FAILED"]
    assert offenders[1][3] == "∞"
    rows = page.tables["Results that are not a plain pass"]
    assert ["planted::square", "central differences", "FAILED"] in [row[:3] for row in rows]
    kept = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    words = "python -m minigrad study planted mg::exp --seed 0 --seeds 0 --peer-seeds 5 --peers torch,jax,autograd"
    assert kept["command"] == f"{words} --out DIR"
    square()
    assert main([*arguments[:2], *arguments[3:]]) == 0


def test_without_matplotlib_there_are_numbers_alone(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = report.html(study)
    assert "pip install &#x27;minigrad[plots]&#x27;" in text
    assert not Page(text).images


def test_the_same_seed_gives_the_same_numbers():
    first, again = (measures.measure("mg::exp", 2) for _ in range(2))
    for found in (first, again):
        del found["seconds"], found["time"]
    assert report.finite(first) == report.finite(again)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mg::nothing"], "no primitive 'mg::nothing'"),
        (["mg::exp", "--peers", "jax,mxnet"], r"--peers names ['mxnet'], expected some of torch, jax, autograd"),
        (["mg::exp", "--python", "jax"], "--python takes PEER=PATH"),
        (["mg::exp", "--processes", "0"], "--processes 1 or more"),
    ],
)
def test_a_wrong_command_is_2(arguments, words, tmp_path, capsys):
    assert main(["study", *arguments, "--out", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_several_processes_give_the_same_numbers_in_order():
    alone, shared = (run.run(["mg::neg", "mg::exp"], seeds=0, processes=n)["primitives"] for n in (1, 2))
    assert [p["name"] for p in shared] == ["mg::exp", "mg::neg"]
    for a, b in zip(alone, shared):
        assert a["curves"] == b["curves"]
        assert a["checks"].keys() == b["checks"].keys()
