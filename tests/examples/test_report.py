"""python -m examples: the list, one example, all on one page, and the page itself, in a browser where there is one."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
TABLE = {"title": "a < b", "columns": ["name", "value"], "rows": [["x & y", 0.5], ["z", None]], "note": "<note>"}
RESULTS = {"title": "t", "data": "glyphs", "options": {"quick": True, "lr": 0.1, "data": None}, "numbers": {}}
PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x00\x05\xfe\x02\xfe\xa75\x81\x84\x00\x00\x00\x00IEND\xaeB`\x82"
)


class Page(HTMLParser):
    """What a page consists of: its tags in order, checked for nesting, and what its attributes refer to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references, self.texts = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def command(example, monkeypatch):
    """The module behind ``python -m examples``."""
    example("page")
    spec = importlib.util.spec_from_file_location("examples_command", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


def leave(folder, pictures=(), **changes):
    folder.mkdir(parents=True)
    content = {**RESULTS, "tables": [TABLE], "pictures": [[name, f"a picture: {name}"] for name in pictures], **changes}
    (folder / "results.json").write_text(json.dumps(content))
    for name in pictures:
        (folder / name).write_bytes(PNG)


def test_every_script_is_listed(command, capsys):
    assert command.main([]) == 0
    out = capsys.readouterr().out
    helpers = {"__main__", "experiment", "page", "style_parts"}
    assert {p.stem for p in FOLDER.glob("*.py")} - helpers == set(command.NAMES)
    for name in command.NAMES:
        assert re.search(rf"^  {name} +\S.*\.$", out, re.MULTILINE)


def test_as_a_user_runs_it():
    done = subprocess.run(
        [sys.executable, "-m", "examples"], cwd=FOLDER.parent, capture_output=True, text=True, check=True
    )
    assert "norm_layers" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "examples", "nothing"], cwd=FOLDER.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_one_example_gets_the_arguments(command, tmp_path, capsys):
    assert command.main(["tf_batch_norm", "--quick", "--quiet", "--only", "none", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "results.json").exists()
    with pytest.raises(SystemExit) as caught:
        command.main(["tf_batch_norm", "--help"])
    assert caught.value.code == 0
    assert "usage: examples/tf_batch_norm.py" in capsys.readouterr().out.replace("\n       ", " ")


def test_report_runs_examples_into_folders(command, tmp_path, monkeypatch, capsys):
    calls = []

    def run(name, arguments):
        calls.append((name, arguments))
        if name == "norm_layers":
            return 1
        leave(Path(arguments[-1]))
        return 0

    monkeypatch.setattr(command, "run", run)
    out = tmp_path / "out"
    assert command.main(["tf_batch_norm", "norm_layers", "mlp10", "--quick", "--quiet", "--report", str(out)]) == 1
    assert [name for name, _ in calls] == ["tf_batch_norm", "norm_layers", "mlp10"]
    assert calls[0][1] == ["--quick", "--quiet", "--out", str(out / "tf_batch_norm")]
    assert calls[2][1] == ["--quick", "--quiet", "--out", str(out / "mlp10")]
    assert "failed: norm_layers" in capsys.readouterr().err
    text = (out / "report.html").read_text(encoding="utf-8")
    assert text.count("There are no results") == 1
    calls.clear()
    assert command.main(["--report", str(out), "tf_batch_norm", "--page-only"]) == 0
    assert calls == []
    for bad in (["nothing", "--report", str(out)], ["--quick"]):
        with pytest.raises(SystemExit) as caught:
            command.main(bad)
        assert caught.value.code == 2


def test_the_page_holds_all_and_loads_nothing(command, tmp_path):
    leave(tmp_path / "one", ["a.png", "b.png"])
    leave(tmp_path / "two")
    path = command.page.write(tmp_path, {"one": "The first & only.", "two": "Second.", "three": "Third."})
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert page.tags.count("table") == 2
    assert page.tags.count("img") == 2
    assert page.tags.count("section") == 3
    assert "script" not in page.tags
    assert [r for r in page.references if r.startswith("#")] == ["#one", "#two", "#three"]
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in page.references)
    assert "http" not in text
    for shown in ("The first & only.", "a < b", "x & y", "0.5000", "<note>", "a picture: a.png"):
        assert shown in page.texts
    assert any("Options: quick=True lr=0.1" in t for t in page.texts)


def test_mlp10_has_its_place(command, tmp_path):
    outcome = {"name": "without", "steps": 3, "accuracy": 0.25, "loss": 2.0, "seconds": 1.5, "steps_per_second": 2.0,
               "note": "diverged", "history": {}}  # fmt: skip
    (tmp_path / "mlp10").mkdir()
    kept = {"data": "glyphs", "options": {"width": 100}, "outcomes": [outcome]}
    (tmp_path / "mlp10" / "history.json").write_text(json.dumps(kept))
    page = Page(command.page.write(tmp_path, {"mlp10": "Ten layers."}).read_text(encoding="utf-8"))
    assert page.texts.index("without") < page.texts.index("0.2500") < page.texts.index("diverged")


#: Cut off from any network: of what the browser asks for itself nothing goes out, nor could what a page asks for.
SILENT = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def test_the_page_in_a_browser(command, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here, which shows whether the page opens without a network and without complaints")
    leave(tmp_path / "one", ["a.png"])
    path = command.page.write(tmp_path, {"one": "The first."})

    def opened(page):
        log = tmp_path / "network.json"
        flags = [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--enable-logging=stderr"]
        done = subprocess.run(
            [browser, *SILENT, *flags, "--dump-dom", page.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        events = json.loads(log.read_text(encoding="utf-8"))["events"]
        given = [e["params"] for e in events if "url" in e.get("params", {})]
        asked = {p["url"] for p in given if p.get("initiator", "not an origin") != "not an origin"}  # by a page
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], asked

    shown, complaints, asked = opened(path)
    assert "a picture: a.png" in shown
    assert "minigrad: the examples" in shown
    assert complaints == []
    assert not any(url.startswith(("http", "ws")) for url in asked)
    # A page that does both is found out.
    bad = path.with_name("bad.html")
    bad.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('no')</script>", encoding="utf-8")
    _, complaints, asked = opened(bad)
    assert complaints
    assert "http://127.0.0.1:9/x.png" in asked
