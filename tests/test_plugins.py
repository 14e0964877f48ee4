"""The plugin host: finding, loading, rolling back what failed; and a third-party package from folder to training."""

import ast
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import venv
from pathlib import Path

import numpy as np
import pytest
from fake_plugins import WORKING, announce, write_plugin

import minigrad as mg
from minigrad import plugins, primitive
from minigrad.errors import ArgumentError, PluginError, RegistrationError

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin_entmax"

BROKEN = {
    "import error": ("import there_is_no_such_module\n", "ModuleNotFoundError: No module named 'there_is_no_such"),
    "syntax error": ("def broken(:\n", "SyntaxError"),
    "half way": (WORKING + "\nraise ValueError('half way')\n", "ValueError: half way"),
    "exits": (WORKING + "\nraise SystemExit(3)\n", "SystemExit: 3"),
    "no version": (WORKING.replace("MINIGRAD_API = 1", ""), "states no MINIGRAD_API, this minigrad has version 1"),
    "later version": (WORKING.replace("API = 1", "API = 2"), "states MINIGRAD_API = 2, this minigrad has version 1"),
    "taken name": (WORKING.replace("{name}::twice", "mg::exp"), "RegistrationError: .*'mg::exp' is registered already"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the path for fake plugins, of which nothing is left after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))
    modules, registered = set(sys.modules), primitive.registered()
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name.startswith("fake_"):
            del sys.modules[name]
    primitive.restore(registered)


def primitives_of(namespace):
    return [p.name for p in primitive.primitives(namespace)]


def unchanged(before):
    """Whether the registry is what it was; derivatives that other tests made on the way don't count."""
    now = primitive.registered()
    return {n: p for n, p in now.items() if not p.derived} == {n: p for n, p in before.items() if not p.derived}


# Finding and loading


def test_finding_a_plugin_does_not_import_it(folder):
    module = write_plugin(folder, "lazy")
    assert "lazy" in plugins.names()
    assert module not in sys.modules
    assert primitives_of("lazy") == []


def test_loading_imports_once(folder):
    count = "from pathlib import Path\nwith (Path(__file__).parent / 'runs').open('a') as f:\n    f.write('once ')\n"
    module = write_plugin(folder, "once", WORKING + count)
    loaded = plugins.load("once")
    assert loaded is sys.modules[module]
    assert plugins.load("once") is loaded
    assert (folder / "runs").read_text() == "once "
    assert primitives_of("once") == ["once::twice"]
    np.testing.assert_array_equal(loaded.twice(mg.tensor([1.0, 2.0])).numpy(), [2, 4])


def test_a_plugin_that_the_user_imported_is_not_imported_again(folder):
    imported = importlib.import_module(write_plugin(folder, "direct"))
    assert plugins.load("direct") is imported
    assert primitives_of("direct") == ["direct::twice"]


def test_an_unknown_plugin_is_refused_with_those_known(folder):
    write_plugin(folder, "known")
    with pytest.raises(ArgumentError, match=r"load: 'unknown' is not installed, there are \[.*'known', 'norms'"):
        plugins.load("unknown")
    with pytest.raises(ArgumentError, match="'unknown' is not installed"):
        plugins.report("unknown")


def test_find_loads_the_plugin_of_the_namespace_and_no_other(folder):
    write_plugin(folder, "wanted")
    other = write_plugin(folder, "other", "raise ValueError\n")
    found = plugins.find("wanted::twice")
    assert found.name == "wanted::twice"
    assert plugins.find("wanted::twice") is found
    assert other not in sys.modules
    assert plugins.find("mg::exp").name == "mg::exp"


def test_find_says_what_there_is(folder):
    write_plugin(folder, "wanted")
    with pytest.raises(ArgumentError, match=r"no primitive 'wanted::thrice'; 'wanted' has \['wanted::twice'\]"):
        plugins.find("wanted::thrice")
    with pytest.raises(ArgumentError, match="no primitive 'nowhere::thrice'"):
        plugins.find("nowhere::thrice")
    write_plugin(folder, "broken", "raise ValueError('why')\n")
    with pytest.raises(PluginError, match="why"):
        plugins.find("broken::twice")


def test_the_report_names_module_distribution_and_primitives(folder):
    write_plugin(folder, "reported")
    report = plugins.report("reported")
    assert report == plugins.Plugin("reported", "fake_reported", "fake-reported 1.0", ("reported::twice",))


# Broken plugins


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_leaves_no_trace_and_hurts_nobody(folder, fault):
    source, message = BROKEN[fault]
    module = write_plugin(folder, "broken", source)
    write_plugin(folder, "sound")
    before = primitive.registered()
    with pytest.raises(PluginError, match=f"plugin 'broken': .*{message}") as caught:
        plugins.load("broken")
    assert (caught.value.__cause__ is None) == ("version" in fault)
    assert module not in sys.modules
    assert unchanged(before)
    reports = {r.name: r for r in plugins.load_all()}
    assert re.search(message, str(reports["broken"].error))
    assert reports["broken"].primitives == ()
    assert reports["sound"].error is None
    assert reports["sound"].primitives == ("sound::twice",)
    assert reports["norms"].error is None


def test_a_plugin_that_is_mended_loads_with_all_its_modules(folder):
    (folder / "fake_parts").mkdir()
    (folder / "fake_parts" / "inner.py").write_text(WORKING.replace("{name}", "parts"))
    top = folder / "fake_parts" / "__init__.py"
    top.write_text("from fake_parts import inner\nMINIGRAD_API = 1\nraise ValueError('not yet')\n")
    announce(folder, "parts", "fake_parts", "fake-parts")
    with pytest.raises(PluginError, match="not yet"):
        plugins.load("parts")
    assert primitives_of("parts") == []
    assert not [m for m in sys.modules if m.startswith("fake_parts")]
    top.write_text("from fake_parts import inner\nMINIGRAD_API = 1\n")
    importlib.invalidate_caches()
    plugins.load("parts")
    assert primitives_of("parts") == ["parts::twice"]


def test_what_a_broken_plugin_replaced_is_put_back(folder):
    exp = primitive.get("mg::exp")
    source = WORKING.replace('"{name}::twice"', '"mg::exp", override=True') + "\nraise ValueError('late')\n"
    write_plugin(folder, "thief", source)
    with pytest.raises(PluginError, match="late"):
        plugins.load("thief")
    assert primitive.get("mg::exp") is exp


def test_packages_that_a_broken_plugin_imported_keep_their_primitives(folder):
    base = write_plugin(folder, "base")
    write_plugin(folder, "broken", f"import {base}\n{WORKING}\nraise ValueError('after')\n")
    with pytest.raises(PluginError, match="after"):
        plugins.load("broken")
    assert primitives_of("broken") == []
    assert primitives_of("base") == ["base::twice"]
    assert plugins.load("base").twice is primitive.get("base::twice")


def test_a_plugin_that_needs_a_broken_one_is_reported_under_its_own_name(folder):
    write_plugin(folder, "lower", "raise ValueError('deep')\n")
    write_plugin(folder, "upper", 'from minigrad import plugins\nplugins.load("lower")\nMINIGRAD_API = 1\n')
    with pytest.raises(PluginError, match=r"plugin 'upper': .*plugin 'lower': .*deep"):
        plugins.load("upper")


def test_an_interrupt_goes_through_and_leaves_no_trace(folder):
    before = primitive.registered()
    write_plugin(folder, "slow", WORKING + "\nraise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        plugins.load("slow")
    assert unchanged(before)


def test_an_entry_point_that_is_malformed_or_leads_nowhere(folder):
    announce(folder, "nowhere", "fake_module_that_was_removed", "fake-nowhere")
    announce(folder, "malformed", "no module at all", "fake-malformed")
    reports = {r.name: r for r in plugins.load_all()}
    assert "No module named 'fake_module_that_was_removed'" in str(reports["nowhere"].error)
    assert "'no module at all'" in str(reports["malformed"].error)


def test_metadata_that_can_not_be_read_takes_nothing_down(folder):
    write_plugin(folder, "bare")
    (folder / "fake_bare-1.0.dist-info" / "METADATA").unlink()
    assert plugins.report("bare") == plugins.Plugin("bare", "fake_bare", "unknown distribution", ("bare::twice",))


# Names that meet


def test_two_distributions_with_one_name_are_refused_with_both(folder):
    write_plugin(folder, "claimed", module="fake_first", distribution="fake-first")
    write_plugin(folder, "claimed", module="fake_second", distribution="fake-second")
    message = r"plugin 'claimed': the name is claimed by .*uninstall all but one"
    with pytest.raises(PluginError, match=message) as caught:
        plugins.load("claimed")
    for words in ("fake-first 1.0 (fake_first)", "fake-second 1.0 (fake_second)"):
        assert words in str(caught.value)
    assert plugins.names().count("claimed") == 1
    assert "fake_first" not in sys.modules
    assert "fake_second" not in sys.modules
    assert plugins.report("claimed").error is not None


def test_two_distributions_that_announce_the_same_module_agree(folder):
    write_plugin(folder, "agreed", distribution="fake-old-name")
    announce(folder, "agreed", "fake_agreed", "fake-new-name")
    assert plugins.load("agreed").__name__ == "fake_agreed"


def test_the_engines_own_namespace_is_refused(folder):
    module = write_plugin(folder, "mg")
    with pytest.raises(PluginError, match=r"plugin 'mg' of fake-mg 1.0: that namespace is minigrad's own"):
        plugins.load("mg")
    assert module not in sys.modules
    assert plugins.find("mg::exp").name == "mg::exp"


def test_a_name_is_registered_once_unless_it_is_overridden(folder):
    first = mg.elementwise("fake::meets")(lambda x: x + x)
    with pytest.raises(RegistrationError, match="'fake::meets' is registered already; override=True replaces it"):
        mg.elementwise("fake::meets")(lambda x: x)
    with pytest.raises(RegistrationError, match="registered already"):
        mg.Primitive("fake::meets")
    assert primitive.get("fake::meets") is first
    second = mg.elementwise("fake::meets", override=True)(lambda x: x * x)
    assert primitive.get("fake::meets") is second
    assert second(mg.tensor(3.0)).item() == 9
    assert first(mg.tensor(3.0)).item() == 6


# Threads


@pytest.mark.parametrize("works", [True, False])
def test_threads_that_load_at_once_import_once(folder, works):
    ending = "" if works else "raise ValueError('slow and broken')\n"
    write_plugin(folder, "shared", f"import time\n{WORKING}\ntime.sleep(0.05)\n{ending}")
    results, barrier = [], threading.Barrier(8)

    def work():
        barrier.wait()
        try:
            results.append(plugins.load("shared"))
        except PluginError as error:
            results.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 8
    if works:
        assert all(r is sys.modules["fake_shared"] for r in results)
        assert primitives_of("shared") == ["shared::twice"]
    else:  # a failed import that left something behind would fail differently the second time
        assert all("slow and broken" in r for r in results)
        assert primitives_of("shared") == []


# The third-party package of examples/


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Runs arguments with the Python of a fresh environment, which has the example installed and sees our packages."""
    root = tmp_path_factory.mktemp("third_party")
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    source = Path(shutil.copytree(EXAMPLE, root / "plugin", ignore=ignored))
    venv.create(root / "venv", with_pip=False, symlinks=os.name != "nt")
    executable = root / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def run(*arguments):
        return subprocess.run([executable, *arguments], cwd=root, capture_output=True, text=True, encoding="utf-8")

    site_packages = Path(run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    ours |= {str(Path(importlib.util.find_spec(m).origin).parents[1]) for m in ("minigrad", "numpy", "numba", "pytest")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(ours)]
    (site_packages / "packages_of_the_tests.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _install(executable, source, site_packages)
    return run


def _install(executable, source, site_packages):
    """Install with pip where a wheel can be built offline; else put in place what a wheel of it would."""
    if _can_build_wheels():
        command = [sys.executable, "-m", "pip", "--python", str(executable), "install", "--no-index", "--no-deps"]
        command += ["--no-build-isolation", "--disable-pip-version-check", str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    text = (source / "pyproject.toml").read_text()
    name, version = (re.search(rf'^{key} = "(.*)"$', text, re.M).group(1) for key in ("name", "version"))
    entries = re.search(r'^\[project.entry-points."minigrad.plugins"\]\n((?:\w+ = ".*"\n)+)', text, re.M).group(1)
    package = re.search(r'^packages = \["(.*)"\]$', text, re.M).group(1)
    shutil.copytree(source / package, site_packages / package)
    metadata = site_packages / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text("[minigrad.plugins]\n" + entries.replace('"', ""))


def _can_build_wheels():
    if not importlib.util.find_spec("pip") or not importlib.util.find_spec("setuptools"):
        return False
    versions = {m: tuple(map(int, importlib.metadata.version(m).split(".")[:2])) for m in ("pip", "setuptools")}
    oldest = (64, 0) if importlib.util.find_spec("wheel") else (70, 1)
    return versions["pip"] >= (22, 3) and versions["setuptools"] >= oldest


def test_an_installed_package_is_found_and_not_imported(python):
    found = python("-c", "import sys, minigrad as mg; print(mg.plugins.names(), 'minigrad_entmax' in sys.modules)")
    assert found.stdout.splitlines() == ["['entmax', 'norms'] False"], found.stderr


def test_an_installed_package_passes_the_checks(python):
    checked = python("-m", "minigrad", "check", "entmax")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 primitives: 2 passed, 0 failed, 0 inconclusive" in checked.stdout
    assert "entmax::sparsemax" in checked.stdout


def test_an_installed_package_is_listed(python):
    listed = python("-m", "minigrad", "info")
    assert listed.returncode == 0, listed.stderr
    words = " ".join(listed.stdout.split())
    assert "plugin entmax (minigrad_entmax, minigrad-entmax 1.0): 2 primitives: sigmoid15, sparsemax" in words


def test_an_installed_package_trains(python):
    program = """
import numpy as np, minigrad as mg
sparsemax_loss = mg.plugins.load("entmax").sparsemax_loss
x = np.random.default_rng(0).standard_normal((120, 5)).astype("float32")
labels = np.argmax(x[:, :3] + x[:, 2:], axis=1)
targets = np.eye(3, dtype="float32")[labels]
model = mg.nn.Sequential([mg.nn.Dense(16, activation="tanh"), mg.nn.Dense(3)])
model.set_generator(mg.random.Generator(0))
model(x)
optimizer = mg.optim.SGD(0.5)
variables = model.trainable_variables
for step in range(80):
    loss, gradients = mg.value_and_grad(lambda: sparsemax_loss(model(x), targets), variables=variables)()
    optimizer.update(variables, gradients)
    if step == 0:
        print(loss.item())
print(loss.item(), np.mean(np.argmax(model(x).numpy(), axis=1) == labels))
"""
    trained = python("-c", program)
    assert trained.returncode == 0, trained.stderr
    first, last, accuracy = map(float, trained.stdout.split())
    assert last < 0.3 * first
    assert accuracy > 0.9


def test_an_installed_package_passes_its_own_tests_and_examples(python):
    arguments = ["-q", "-p", "no:cacheprovider", "-W", "error", "--doctest-modules", "--doctest-glob=README.md"]
    tested = python("-m", "pytest", *arguments, "plugin/tests", "plugin/README.md", "--pyargs", "minigrad_entmax")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "failed" not in tested.stdout


def test_the_tutorial_shows_the_package_as_it_is():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (EXAMPLE / "minigrad_entmax").glob("*.py"))
    tutorial = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    excerpts = re.findall(r"```python\n(.*?)```", tutorial, re.S)
    assert len(excerpts) >= 6
    for excerpt in excerpts:
        assert excerpt in source
    assert re.search(r"```toml\n(.*?)```", tutorial, re.S).group(1) in (EXAMPLE / "pyproject.toml").read_text()


def test_the_package_uses_public_names_only():
    for path in (EXAMPLE / "minigrad_entmax").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "minigrad":
                assert node.module in ("minigrad", "minigrad.devices", "minigrad.errors")
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_") or node.attr.startswith("__"), node.attr
