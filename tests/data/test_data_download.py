"""Downloads: over https alone, checked, resilient to bad mirrors, and leaving nothing behind when they fail."""

import hashlib
import http.server
import io
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from minigrad import _paths
from minigrad.data import cache_folder
from minigrad.data.download import Remote, fetch, https_opener
from minigrad.errors import DataError

BODY = bytes(range(256)) * 1000
NAME = "some-file.gz"


def remote(digest=None):
    return Remote(NAME, len(BODY), digest or "sha256:" + hashlib.sha256(BODY).hexdigest())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        folder = self.path.split("/")[1]
        self.server.asked.append(self.path)
        if folder == "absent":
            self.send_error(404)
            return
        if folder.startswith("to"):
            self.send_response(302)
            self.send_header("Location", self.server.target)
            self.end_headers()
            return
        body = {"good": BODY, "wrong": BODY[:-1] + b"?", "long": BODY + b"?"}.get(folder, BODY)
        self.send_response(200)
        if folder != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: 70_000 if folder in ("cut", "unsized") else None])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    server.handle_error = lambda *_: None  # a client that hangs up early is part of the test
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running):
    running.asked, running.target = [], ""
    running.at = lambda folder: f"http://127.0.0.1:{running.server_port}/{folder}/"
    return running


local = https_opener(loopback=True, timeout=5)


def test_downloads_and_makes_the_folder(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    path = fetch(remote(), [server.at("good")], folder, opener=local)
    assert path == folder / NAME
    assert path.read_bytes() == BODY
    assert os.listdir(folder) == [NAME]
    assert server.asked == ["/good/" + NAME]


def test_md5_digests_are_checked_too(server, tmp_path):
    right = "md5:" + hashlib.md5(BODY).hexdigest()
    assert fetch(remote(right), [server.at("good")], tmp_path, opener=local).read_bytes() == BODY
    with pytest.raises(DataError, match=r"has the md5 .*, expected 0000"):
        fetch(remote("md5:" + "0" * 32), [server.at("good")], tmp_path / "b", opener=local)


def test_mirrors_are_tried_in_order(server, tmp_path):
    mirrors = [server.at(folder).rstrip("/") for folder in ("absent", "wrong", "cut", "good", "never")]
    assert fetch(remote(), mirrors, tmp_path, opener=local).read_bytes() == BODY
    assert [path.split("/")[1] for path in server.asked] == ["absent", "wrong", "cut", "good"]
    assert os.listdir(tmp_path) == [NAME]


def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"old")
    with pytest.raises(DataError):
        fetch(remote(), [server.at("wrong")], tmp_path, opener=local)
    assert (tmp_path / NAME).read_bytes() == b"old"
    fetch(remote(), [server.at("good")], tmp_path, opener=local)
    assert (tmp_path / NAME).read_bytes() == BODY


@pytest.mark.parametrize(
    ("folder", "fault"),
    [
        ("absent", "HTTPError: HTTP Error 404"),
        ("wrong", "has the sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"),
        ("cut", "ended after 70000 of 256000 bytes"),
        ("unsized", "ended after 70000 of 256000 bytes"),
        ("long", "gave more than the 256000 bytes expected"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(server, tmp_path, folder, fault):
    with pytest.raises(DataError, match=fault) as caught:
        fetch(remote(), [server.at(folder)], tmp_path, opener=local)
    assert server.at(folder) + NAME in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_all_failures_are_listed(server, tmp_path):
    with socket.socket() as free:  # a port that nothing listens on
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
        with pytest.raises(DataError) as caught:
            fetch(remote(), [server.at("absent"), closed, "http://example.org/"], tmp_path / "f", opener=local)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"download: no mirror gave {NAME}:"
    assert "404" in lines[1]
    assert closed in lines[2]
    assert "refused" in lines[2].lower()
    assert (
        lines[3] == f"  http://example.org/{NAME}: refused, only https addresses are opened: http://example.org/{NAME}"
    )
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupted_download_leaves_nothing(tmp_path, error):
    seen = []

    class Response(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                seen.extend(os.listdir(tmp_path))
                raise error
            return super().read(size)

    with pytest.raises(type(error)):
        fetch(remote(), ["https://mirror.invalid"], tmp_path, opener=lambda url: Response(BODY))
    assert len(seen) == 1  # there was something aside when it happened
    assert seen[0].endswith(".part")
    assert os.listdir(tmp_path) == []


def test_a_connection_lost_halfway_leaves_nothing_and_the_next_mirror_serves(tmp_path):
    class Lost(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise ConnectionResetError("gone")
            return super().read(size)

    def opener(url):
        return Lost(BODY) if "first" in url else io.BytesIO(BODY)

    with pytest.raises(DataError, match="ConnectionResetError: gone"):
        fetch(remote(), ["https://first"], tmp_path, opener=opener)
    assert os.listdir(tmp_path) == []
    assert fetch(remote(), ["https://first", "https://second"], tmp_path, opener=opener).read_bytes() == BODY
    assert os.listdir(tmp_path) == [NAME]


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file/sub can't be written"):
        fetch(remote(), ["https://m"], tmp_path / "file" / "sub", opener=lambda url: io.BytesIO(BODY))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x",
        "http://localhost/x",
        "ftp://127.0.0.1/x",
        "file:///etc/hostname",
        "HTTP://example.org/x",
        "//example.org/x",
        "data:,x",
        "",
    ],
)
def test_only_https_is_opened(url):
    with pytest.raises(DataError, match="refused, only https addresses are opened"):
        https_opener()(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "http://127.0.0.1.example.org/x",
        "http://127.0.0.1@example.org/x",
        "http://10.0.0.1/x",
        "file:///etc/hostname",
        "ftp://127.0.0.1/x",
    ],
)
def test_the_loopback_hook_opens_this_machine_only(url):
    with pytest.raises(DataError, match="refused"):
        local(url)


def test_redirects_are_followed_where_they_may_go(server, tmp_path):
    server.target = server.at("good") + NAME
    assert fetch(remote(), [server.at("to")], tmp_path, opener=local).read_bytes() == BODY
    assert [path.split("/")[1] for path in server.asked] == ["to", "good"]


@pytest.mark.parametrize("target", ["http://example.org/x", "ftp://127.0.0.1/x"])
def test_redirects_away_from_https_are_refused(server, tmp_path, target):
    server.target = target
    with pytest.raises(DataError, match=f"refused, only https addresses are opened: {target}"):
        fetch(remote(), [server.at("to")], tmp_path, opener=local)
    assert os.listdir(tmp_path) == []


def test_the_default_opener_refuses_http(server, tmp_path):
    with pytest.raises(DataError, match="refused"):
        fetch(remote(), [server.at("good")], tmp_path)
    assert server.asked == []


def test_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    given = str(tmp_path / "given")
    cases = [
        ("linux", {"XDG_CACHE_HOME": given, "LOCALAPPDATA": "/no"}, Path(given)),
        ("linux", {}, tmp_path / ".cache"),
        ("linux", {"XDG_CACHE_HOME": ""}, tmp_path / ".cache"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, tmp_path / ".cache"),
        ("freebsd14", {"XDG_CACHE_HOME": given}, Path(given)),
        ("darwin", {"XDG_CACHE_HOME": given}, tmp_path / "Library" / "Caches"),
        ("win32", {"LOCALAPPDATA": given, "XDG_CACHE_HOME": "/no"}, Path(given)),
        ("win32", {}, tmp_path / "AppData" / "Local"),
    ]
    for platform, environment, wanted in cases:
        assert _paths._base(platform, environment) == wanted, (platform, environment)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG_CACHE_HOME is for the other platforms")
def test_cache_folder_reads_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "minigrad" / "data"
    assert not cache_folder().exists()


def test_cache_folder_without_a_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)

    def no_home():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataError, match=r"cache_folder: the user's home folder can't be told: no home"):
        cache_folder()
