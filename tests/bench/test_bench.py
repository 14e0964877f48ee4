"""The benchmarks' machinery, on made-up peers; one real benchmark, to see that it runs. No test looks at a time."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are no installed package

from bench import __main__ as command  # noqa: E402
from bench import (  # noqa: E402
    compare,
    copying,
    peers,
    report,
    worker,
)
from bench.case import Case, Work  # noqa: E402

SUITE = """
import os, sys
from bench.case import Case, Work

TITLE = "made-up"

def cases(quick):
    print("a library that prints")  # must not be taken for an answer
    rows = [Case("plain", {"ours": 2.0, "theirs": 5.0}, unit="MiB", faster=2.0, below=3.0)]
    rows.append(Case("slower", {"ours": 4.0, "theirs": 1.0}, unit="MiB", faster=1.0))
    rows.append(Case("raises", {"ours": 1.0, "theirs": None}, unit="MiB"))
    rows.append(Case("timed", {"ours": "time", "theirs": "time"}))
    rows.append(Case("fresh", commands={"fakeours": "print('noise'); print(3)", "faketheirs": "print(6.0)"}))
    rows.append(Case("broken", commands={"fakeours": "print(3)", "faketheirs": "raise SystemExit('no luck')"}))
    rows.append(Case("dies", {"ours": 1.0, "theirs": "exit"}, unit="MiB"))
    rows.append(Case("after", {"ours": 1.0, "theirs": 1.0}, unit="MiB"))
    return rows[:1] if quick else rows

def work(number):
    if number is None:
        raise ValueError("the shape does not please")
    if number == "exit":
        print("last words", file=sys.stderr)
        os._exit(7)
    if number == "time":
        return Work(lambda: sum(range(100)), columns={"part": Work(lambda held: held, setup=lambda: 1)}, per=2)
    return Work(value=lambda: number, check=lambda: [1.0, number if number == 5.0 else 2.0])

def with_fakeours(case):
    return work(case.data["ours"])

def with_faketheirs(case):
    return work(case.data["theirs"])

def with_faketheirs_twice(case):
    return work(2 * case.data["theirs"])

def with_faketold(case):
    return None
"""


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A suite and three libraries, importable here and in the workers."""
    folder = tmp_path_factory.mktemp("made_up")
    (folder / "madeup_suite.py").write_text(SUITE)
    for name in ("fakeours", "faketheirs", "faketold"):
        (folder / f"{name}.py").write_text("__version__ = '1.2.3'\n")
    (folder / "fakebroken.py").write_text("import fakemissing_part\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        yield "madeup_suite"


@pytest.fixture(scope="module")
def result(made_up):
    names = ["faketheirs", "faketold", "fakebroken", "fakeabsent"]
    return compare.run(made_up, names, rounds=2, ours="fakeours")


def row(result, name):
    return next(r for r in result["rows"] if r["case"] == name)


def test_numbers_ratio_and_targets(result):
    plain, slower = row(result, "plain"), row(result, "slower")
    assert plain["peers"]["fakeours"]["rounds"] == [2.0, 2.0]
    assert plain["peers"]["faketheirs"]["median"] == 5.0
    assert (plain["best"], plain["ratio"], plain["met"]) == ("faketheirs", 2.5, True)
    assert plain["target"] == "≥ 2x, < 3 MiB"
    assert (slower["ratio"], slower["met"]) == (0.25, False)


def test_some_rows_alone(made_up, result):
    names = [r["case"] for r in result["rows"]]
    found = compare.run(made_up, ["faketheirs"], rounds=1, ours="fakeours", only=names[1])
    assert [r["case"] for r in found["rows"]] == [n for n in names if names[1] in n]
    assert found["rows"][0]["peers"]["faketheirs"]["check"] == row(result, names[1])["peers"]["faketheirs"]["check"]


def test_interrupting_keeps_the_rows_that_are_done(made_up, tmp_path, monkeypatch, capsys):
    seen = []

    def progress(cases, **bar):
        for case in cases:
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.append(case)
            yield case

    found = compare.run(made_up, ["faketheirs"], rounds=1, ours="fakeours", progress=progress)
    assert [r["case"] for r in found["rows"]] == ["plain", "slower"]
    assert found["interrupted"]
    assert found["summary"]["worst"]["case"] == "slower"
    monkeypatch.setattr(compare, "run", lambda *args, **options: found)
    assert command.main(["engine", "memory", "--out", str(tmp_path / "out.json")]) == 130
    written = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert list(written) == ["engine"]
    assert len(written["engine"]["rows"]) == 2
    assert "the other cases were not measured" in capsys.readouterr().err


def test_summary(result):
    ratios = [r["ratio"] for r in result["rows"] if r["ratio"] is not None]
    assert [r["case"] for r in result["rows"] if r["ratio"] is None] == ["raises", "broken", "dies", "after"]
    timed = row(result, "timed")["ratio"]
    assert ratios == [2.5, 0.25, timed, 2.0]
    assert result["summary"]["geometric_mean"] == pytest.approx((2.5 * 0.25 * timed * 2.0) ** 0.25)
    assert result["summary"]["worst"] == {"case": "slower", "ratio": 0.25}
    assert result["summary"]["missed"] == ["slower"]


def test_different_results_are_told(result):
    assert row(result, "plain")["differ"] == ["faketheirs"]
    assert row(result, "slower")["differ"] == []


def test_timed_work_has_its_columns(result):
    measured = row(result, "timed")["peers"]["fakeours"]
    assert 0 < measured["median"] < 1
    assert 0 < measured["columns"]["part"] < 1


def test_fresh_processes(result):
    fresh = row(result, "fresh")
    assert fresh["peers"]["fakeours"]["rounds"] == [3.0, 3.0]
    assert fresh["ratio"] == 2.0
    broken = row(result, "broken")
    assert "no luck" in broken["peers"]["faketheirs"]["error"]
    assert broken["peers"]["fakeours"]["median"] == 3.0


def test_work_that_raises_spares_the_other_rows(result):
    raised = row(result, "raises")
    assert "the shape does not please" in raised["peers"]["faketheirs"]["error"]
    assert raised["peers"]["fakeours"]["median"] == 1.0
    assert "median" in row(result, "timed")["peers"]["faketheirs"]


def test_a_peer_that_dies_spares_the_others(result):
    error = row(result, "dies")["peers"]["faketheirs"]["error"]
    assert "exit status 7" in error
    assert error.endswith("last words")
    assert result["peers"]["faketheirs"]["status"] == "failed"
    assert "faketheirs" not in row(result, "after")["peers"]
    assert row(result, "after")["peers"]["fakeours"]["median"] == 1.0


def test_absent_peers_and_peers_that_fail_to_import(result):
    states = result["peers"]
    assert states["fakeabsent"]["status"] == "absent"
    assert "has no fakeabsent" in states["fakeabsent"]["why"]
    assert states["fakebroken"]["status"] == "failed"
    assert "fakemissing_part" in states["fakebroken"]["why"]
    assert states["fakeours"]["status"] == "ready"


def test_an_interpreter_that_is_not_there(made_up):
    found = compare.run(made_up, ["faketheirs"], pythons={"faketheirs": "/no/such/python"}, quick=True, ours="fakeours")
    assert found["peers"]["faketheirs"]["status"] == "absent"
    assert found["summary"] == {"geometric_mean": None, "worst": None, "missed": []}
    assert "no peer to compare with" in report.table("made-up", found)


def test_table(result):
    lines = report.table("made-up", result).splitlines()
    assert lines[0] == "made-up: made-up"
    assert lines[1].split()[:3] == ["fakeours", "fakeours", "part"]
    plain = next(line for line in lines if line.startswith("plain"))
    assert "2 MiB" in plain
    assert "failed" in plain
    assert "absent" in plain
    assert plain.endswith("2.50x  faketheirs  ≥ 2x, < 3 MiB met")
    assert "faketheirs failed at raises:" in lines
    assert "\n".join(lines).count("last words") == 1
    assert "plain: the results of faketheirs differ from ours" in lines
    assert lines[-3] == "targets missed: slower"
    assert lines[-2].startswith("geometric mean: ")
    assert lines[-1] == "worst: 0.25x, slower"


def test_json(result, tmp_path):
    report.write(tmp_path / "deep" / "made-up.json", {"made-up": result}, {"repeat": 2})
    read = json.loads((tmp_path / "deep" / "made-up.json").read_text())
    written = read["benchmarks"]["made-up"]
    assert {**written, "rows": []} == {**result, "rows": []}
    errors = [m.pop("error") for found in written["rows"] for m in found["peers"].values() if "error" in m]
    assert errors[0] == "ValueError: the shape does not please"  # and no traceback, with paths of this machine
    assert "no luck" in errors[1]
    assert not any("File" in error or "\n" in error for error in errors)
    assert row(written, "plain") == row(result, "plain")
    assert read["options"] == {"repeat": 2}
    assert read["machine"]["cores"] >= 1
    assert read["machine"]["cpu"]
    assert read["date"][:2] == "20"


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (1.234e-6, "s", "1.23 µs"),
        (99.96e-6, "s", "100 µs"),
        (999.6e-6, "s", "1.00 ms"),
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.50 s"),
        (1234.5, "MiB", "1234 MiB"),
        (1.2345e-7, "", "1.2e-07"),
        (float("inf"), "", "inf"),
        (None, "s", ""),
    ],
)
def test_readable(number, unit, text):
    assert report.readable(number, unit) == text


def test_a_target_against_one_peer():
    case = Case("x", faster=1.0, against="torch")
    measured = {n: {"rounds": [s], "columns": {}, "check": []} for n, s in [("minigrad", 2), ("torch", 3), ("jax", 1)]}
    found = compare._row(case, measured, "minigrad")
    assert (found["best"], found["ratio"], found["met"]) == ("jax", 0.5, True)
    assert found["target"] == "≥ 1x torch"


def test_the_ratio_is_taken_round_by_round():
    assert compare._ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0


def test_equal_errors_are_told_once_and_a_busy_machine_is():
    case = Case("a")
    rows = [compare._row(case, {"torch": {"error": "lost"}}, "minigrad") for _ in range(2)]
    peer = {"torch": {"status": "ready", "why": ""}}
    text = report.table("t", {"title": "", "load": 2.0, "peers": peer, "rows": rows, "summary": compare.summary(rows)})
    assert "torch failed at a, a:\nlost\n" in text
    assert "busy (2.0 " in text


def test_measure_gives_the_median_or_the_lowest(monkeypatch):
    class Clock:
        now, steps = 0.0, 0

    def run(state):
        Clock.steps += 1
        Clock.now += 1.0 if Clock.steps % 3 == 0 else 4.0

    monkeypatch.setattr(worker.time, "perf_counter", lambda: Clock.now)
    work = Work(run, setup=lambda: None, per=2)
    assert worker.measure(work, 30.0) == 2.0
    assert worker.measure(work, 30.0, True) == 0.5


def test_measure_leaves_the_setup_out():
    calls = []
    work = Work(lambda state: calls.append(state), setup=lambda: len(calls))
    assert worker.measure(work, 0.001) > 0
    assert calls == list(range(len(calls)))
    assert len(calls) > 3


def test_a_silent_peer_is_given_up(made_up, monkeypatch):
    peer = peers.Peer("fakeours", made_up)
    try:
        peer.wait_until_ready()
        assert peer.versions["python"].count(".") == 2
        monkeypatch.setattr(peers, "PATIENCE", 0.05)
        monkeypatch.setattr(peer._process.stdin, "write", lambda text: None)  # the request gets lost
        with pytest.raises(peers.PeerError, match=r"fakeours: no answer within 0 s"):
            peer.ask(do="measure", seconds=0.0)
        assert peer.status == "failed"
    finally:
        peer.close()


def test_suites_are_well_formed():
    options = command.parse([])
    assert set(options.names) >= {"norms", "train", "engine"}
    for name in options.names:
        suite = import_module(f"bench.suites.{name}")
        for quick in (True, False):
            names = [c.name for c in suite.cases(quick)]
            assert names
            assert len(set(names)) == len(names)
        assert suite.TITLE


def test_a_suite_without_its_device_is_skipped(monkeypatch, capsys):
    monkeypatch.setattr(import_module("bench.suites.gpu"), "missing", lambda: "no GPU here")
    assert command.main(["gpu"]) == 0
    assert capsys.readouterr().out == "gpu: no GPU here\n\n"


def test_suites_import_no_library():
    code = (
        "import sys, pkgutil, importlib, bench.suites as s\n"
        "for m in pkgutil.iter_modules(s.__path__): importlib.import_module('bench.suites.' + m.name).cases(False)\n"
        "print(sorted({'numpy', 'numba', 'minigrad', 'minigrad_norms', 'torch', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line(monkeypatch, capsys):
    monkeypatch.setenv("BENCH_PYTHON_TORCH", "/a")
    monkeypatch.setenv("BENCH_PYTHON_JAX", "/b")
    options = command.parse(["norms", "--python", "jax=/c", "--quick"])
    assert options.pythons == {"torch": "/a", "torch.compile": "/a", "jax": "/c"}
    assert (options.names, options.repeat, options.peers) == (["norms"], 1, ["torch", "torch.compile", "jax"])
    for bad, message in [
        (["nothing"], "no benchmark"),
        (["--python", "x"], "PEER=PATH"),
        (["--repeat", "0"], "positive"),
    ]:
        with pytest.raises(SystemExit):
            command.parse(bad)
        assert message in capsys.readouterr().err


def test_norms_quick(tmp_path, capsys):
    out = tmp_path / "norms.json"
    status = command.main(["norms", "--quick", "--repeat", "1", "--peers", "", "--out", str(out)])
    printed = capsys.readouterr().out
    assert status == 0, printed
    rows = json.loads(out.read_text())["benchmarks"]["norms"]["rows"]
    assert [r["case"] for r in rows] == ["batch (60, 100)", "layer (64, 768)", "group (32, 26, 26, 10) NHWC in 5"]
    assert all(0 < r["peers"]["minigrad"]["median"] < 1 for r in rows)
    assert printed.splitlines()[-2] == "no peer to compare with"


def test_accuracy_quick(capsys):
    status = command.main(["accuracy", "--quick", "--peers", ""])
    printed = capsys.readouterr().out
    assert status == 0, printed
    rows = [line for line in printed.splitlines() if "mean 1e6, spread 1" in line]
    assert len(rows) == 10
    assert all(line.endswith("< 5e-07  met") for line in rows)


def test_the_share_of_copy_counts_bytes_over_time(monkeypatch):
    class Clock:
        now = 0.0

        @classmethod
        def move(cls, seconds):
            cls.now += seconds

    monkeypatch.setattr(copying.time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr("numpy.copyto", lambda target, source: Clock.move(2.0))
    # A copy moves 2 n bytes in 2 seconds; five passes over n bytes in 4 seconds are 5/4 of that bandwidth.
    assert copying.share_of_copy(lambda: Clock.move(4.0), 1 << 16, passes=5, threads=1) == 125.0
    assert copying.share_of_copy(lambda: Clock.move(4.0), 1 << 16, passes=2, threads=1) == 50.0


def test_another_use_of_a_library_is_a_peer_of_its_own(made_up):
    found = compare.run(made_up, ["faketheirs.twice"], rounds=1, quick=True, ours="fakeours")
    assert found["peers"]["faketheirs.twice"]["status"] == "ready"
    assert row(found, "plain")["peers"]["faketheirs.twice"]["median"] == 10.0


def test_what_is_not_compared_has_no_ratio_and_infinities_are_spelled(tmp_path):
    case = Case("x", unit="", below=1.0, compared=False)
    measured = {n: {"rounds": [v], "columns": {}, "check": []} for n, v in [("ours", 0.0), ("theirs", float("inf"))]}
    found = compare._row(case, measured, "ours")
    assert (found["best"], found["ratio"], found["met"]) == (None, None, True)
    report.write(tmp_path / "a.json", {"made-up": {"rows": [found]}}, {})
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["benchmarks"]["made-up"]["rows"][0]["peers"]["theirs"]["median"] == "inf"


def test_a_column_may_have_a_unit_of_its_own():
    assert report._unit("share of copy [%]") == "%"
    assert report._unit("kernels") == ""


@pytest.mark.slow
def test_engine_and_train_quick(tmp_path, capsys):
    for name in ("engine", "train"):
        status = command.main([name, "--quick", "--repeat", "1", "--peers", ""])
        assert status == 0, capsys.readouterr().out


def test_processors_are_limited_to_those_allowed():
    code = "from bench.worker import limit_processors as f; import os; f(1); print(len(os.sched_getaffinity(0)))"
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to processors")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_only_some_cases(made_up):
    found = compare.run(made_up, ["faketheirs"], rounds=1, ours="fakeours", only="a")  # plain, raises, after
    assert [r["case"] for r in found["rows"] if "e" not in r["case"]] == ["plain"]
    assert row(found, "after")["ratio"] == 1.0
