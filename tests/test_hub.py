"""Downloads: what goes well, and above all what does not; a server on this machine plays both."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback import Server, serving

from engine.io import hub
from engine.io.hub import HubError

CONTENT = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own and one of torch's; retries without waiting."""
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("ENGINE_HUB_LOOPBACK", "1")
    monkeypatch.delenv("ENGINE_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_PAUSE", 0.0)
    return tmp_path / "home" / "weights"


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


# ---- what goes well


def test_a_file_is_downloaded_once(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    path = hub.download(url, sha256)
    assert path == cache / url.rpartition("/")[2]
    assert path.read_bytes() == CONTENT
    assert files(cache) == [path.name]
    assert hub.download(url, sha256) == path
    assert len(server.requests) == 1


def test_a_longer_hash_is_checked_to_its_end(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT, digits=64)
    assert hub.download(url, sha256).read_bytes() == CONTENT
    wrong = sha256[:-1] + ("0" if sha256[-1] != "0" else "1")
    with pytest.raises(HubError, match="has the SHA-256"):
        hub.download(url, wrong, file="other.pth")


def test_a_file_whose_name_does_not_tell_is_verified(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    assert hub.download(url, sha256, file="model.pth").read_bytes() == CONTENT
    assert hub.download(url, sha256, file="model.pth").read_bytes() == CONTENT
    assert len(server.requests) == 1
    other, digits = server.add("other", CONTENT[::-1])
    assert hub.download(other, digits, file="model.pth").read_bytes() == CONTENT[::-1]
    assert files(cache) == ["model.pth"]


def test_an_empty_file_and_one_without_a_length(server: Server, monkeypatch) -> None:
    url, sha256 = server.add("empty", b"")
    assert hub.download(url, sha256).read_bytes() == b""
    url, sha256 = server.add("chunked", CONTENT)
    server.headers = {"Content-Length": "", "Connection": "close"}  # an empty value is as good as none
    assert hub.download(url, sha256).read_bytes() == CONTENT


@pytest.mark.parametrize("home", ["TORCH_HOME", "XDG_CACHE_HOME"])
def test_torch_has_it_already(server: Server, cache: Path, tmp_path: Path, monkeypatch, home: str) -> None:
    url, sha256 = server.add("model", CONTENT)
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv(home, str(tmp_path / "theirs"))
    folder = tmp_path / "theirs" / ("" if home == "TORCH_HOME" else "torch") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    theirs = folder / url.rpartition("/")[2]
    theirs.write_bytes(CONTENT)
    before = theirs.stat()
    assert hub.download(url, sha256) == theirs
    assert not server.requests
    assert not cache.exists()
    assert files(folder) == [theirs.name]
    assert theirs.stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_file_of_torch_is_passed_over(server: Server, cache: Path, tmp_path: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / url.rpartition("/")[2]).write_bytes(CONTENT[:-1])
    assert hub.download(url, sha256).parent == cache
    assert (folder / url.rpartition("/")[2]).read_bytes() == CONTENT[:-1]


def test_progress_is_shown_when_wanted(server: Server, capfd, monkeypatch) -> None:
    url, sha256 = server.add("model", CONTENT)
    hub.download(url, sha256, progress=False)
    assert capfd.readouterr().err == ""
    pytest.importorskip("tqdm")
    url, sha256 = server.add("other", CONTENT)
    hub.download(url, sha256)
    assert "other" in capfd.readouterr().err


def test_without_tqdm_a_terminal_gets_a_line(server: Server, capfd, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    url, sha256 = server.add("quiet", CONTENT)
    hub.download(url, sha256)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    url, sha256 = server.add("model", CONTENT)
    hub.download(url, sha256)
    assert "100 % 2.9 MiB" in capfd.readouterr().err


# ---- a bad connection


def test_a_dropped_connection_is_resumed(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.cuts = [1_000_000, 500_000]
    assert hub.download(url, sha256).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["", "bytes=1000000-", "bytes=1500000-"]
    assert len(files(cache)) == 1


def test_a_connection_that_always_drops_is_an_error_and_the_next_call_goes_on(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.cuts = [1_000_000] + [0] * 10
    with pytest.raises(HubError, match=r"model-\w+\.pth: cannot be downloaded .* ended after 1000000 of 3000000 bytes"):
        hub.download(url, sha256)
    assert files(cache) == [url.rpartition("/")[2] + ".partial"]
    server.cuts.clear()
    server.requests.clear()
    assert hub.download(url, sha256).read_bytes() == CONTENT
    assert server.requests[0][1] == "bytes=1000000-"
    assert len(files(cache)) == 1


def test_a_server_without_ranges_starts_over(server: Server) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.cuts, server.ranges = [1_000_000], False
    assert hub.download(url, sha256).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_partial_file_of_something_else_is_thrown_away(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    cache.mkdir(parents=True)
    (cache / (url.rpartition("/")[2] + ".partial")).write_bytes(b"x" * 1000)
    assert hub.download(url, sha256).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", ""]


@pytest.mark.parametrize("extra", [0, 10])
def test_a_partial_file_that_is_complete_or_too_long(server: Server, cache: Path, extra: int) -> None:
    url, sha256 = server.add("model", CONTENT)
    cache.mkdir(parents=True)
    (cache / (url.rpartition("/")[2] + ".partial")).write_bytes(CONTENT + b"x" * extra)
    assert hub.download(url, sha256).read_bytes() == CONTENT
    assert len(server.requests) == (2 if extra else 1)


def test_a_partial_name_that_is_a_link_is_not_followed(server: Server, cache: Path, tmp_path: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    cache.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (cache / (url.rpartition("/")[2] + ".partial")).symlink_to(victim)
    with pytest.raises(HubError, match="cannot be stored"):
        hub.download(url, sha256)
    assert victim.read_bytes() == b"precious"


def test_a_busy_server_is_asked_again(server: Server) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.statuses = [503, 429, 500]
    assert hub.download(url, sha256).read_bytes() == CONTENT
    server.statuses = [503] * 5
    url, sha256 = server.add("other", CONTENT)
    with pytest.raises(HubError, match="the server answers 503"):
        hub.download(url, sha256)


def test_nobody_listens(server: Server, cache: Path) -> None:
    import socket

    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/model-01234567.pth"
        with pytest.raises(HubError, match=r"model-01234567\.pth: cannot be downloaded.*refused"):
            hub.download(url, "01234567")
    assert files(cache) == []


def test_a_server_that_falls_silent(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(hub, "_TIMEOUT", 0.1)
    monkeypatch.setattr(hub, "_ATTEMPTS", 2)
    url, sha256 = server.add("model", CONTENT)
    server.before_body = lambda: time.sleep(0.4)
    with pytest.raises(HubError, match="timed out"):
        hub.download(url, sha256)


# ---- a bad server


def test_wrong_content_is_not_kept(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.files["/" + url.rpartition("/")[2]] = CONTENT[:-1] + b"x"
    with pytest.raises(HubError, match=rf"model-{sha256}\.pth: the content .* has the SHA-256 .* expected {sha256}"):
        hub.download(url, sha256)
    assert files(cache) == []


def test_a_file_that_is_not_there(server: Server, cache: Path) -> None:
    with pytest.raises(HubError, match=r"none-01234567\.pth: .*404 Not Found"):
        hub.download(f"{server.address}/none-01234567.pth", "01234567")
    assert len(server.requests) == 1
    assert files(cache) == []


def test_more_than_was_agreed(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    with pytest.raises(HubError, match="announces 3000000 bytes, the limit is 1000000"):
        hub.download(url, sha256, limit=1_000_000)
    server.headers = {"Content-Length": "", "Connection": "close"}
    with pytest.raises(HubError, match="sends more than 1000000 bytes"):
        hub.download(url, sha256, limit=1_000_000)
    assert files(cache) == []


def test_fewer_bytes_than_announced(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.announce, server.ranges = len(CONTENT) + 10, False
    with pytest.raises(HubError, match="ended after 3000000 of 3000010 bytes"):
        hub.download(url, sha256)


def test_a_compressed_answer_is_refused(server: Server) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(HubError, match="compressed"):
        hub.download(url, sha256)


def test_another_part_than_the_one_asked_for(server: Server) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.cuts = [1000]
    server.headers = {"Content-Range": "bytes 5-2999999/3000000"}
    assert hub.download(url, sha256).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["", "bytes=1000-", ""]
    server.cuts = [1000, 1000, 1000, 1000, 1000]  # a loop of getting on and starting over ends, too
    url, sha256 = server.add("other", CONTENT)
    with pytest.raises(HubError, match="cannot be downloaded"):
        hub.download(url, sha256)


# ---- addresses


def test_redirects_on_this_machine_are_followed(server: Server) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.redirects = {"/a": "/b", "/b": url}
    assert hub.download(f"{server.address}/a", sha256, file="model.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "target",
    ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "http://127.0.0.1.example/"],
)
def test_redirects_to_what_is_not_trusted(server: Server, cache: Path, target: str) -> None:
    server.redirects = {"/a": target}
    with pytest.raises(HubError, match=r"model\.pth: http://127\S+ redirects elsewhere: refusing .*only https"):
        hub.download(f"{server.address}/a", "01234567", file="model.pth")
    assert len(server.requests) == 1
    assert files(cache) == []


def test_redirects_without_end(server: Server) -> None:
    server.redirects = {"/a": "/b", "/b": "/a"}
    with pytest.raises(HubError, match="302"):
        hub.download(f"{server.address}/a", "01234567", file="model.pth")
    assert len(server.requests) < 20


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.pth",
        "http://10.0.0.1/a.pth",
        "http://localhost.example.org/a.pth",
        "ftp://127.0.0.1/a.pth",
        "file:///etc/passwd",
        "//127.0.0.1/a.pth",
        "https:///a.pth",
        "http://[::1/a.pth",
    ],
)
def test_only_https_is_trusted(url: str, cache: Path) -> None:
    with pytest.raises(HubError, match=r"^a\.pth: "):
        hub.download(url, "01234567", file="a.pth")
    assert files(cache) == []


def test_http_on_this_machine_has_to_be_allowed(server: Server, monkeypatch) -> None:
    url, sha256 = server.add("model", CONTENT)
    monkeypatch.delenv("ENGINE_HUB_LOOPBACK")
    with pytest.raises(HubError, match="only https is trusted"):
        hub.download(url, sha256)
    assert not server.requests


@pytest.mark.parametrize("sha256", ["", "0123456", "0123456g", "ABCDEF01", "0" * 65])
def test_a_hash_is_required(server: Server, sha256: str) -> None:
    with pytest.raises(ValueError, match="at least 8"):
        hub.download(f"{server.address}/model.pth", sha256)
    assert not server.requests


@pytest.mark.parametrize("name", ["", "../x.pth", "a/b.pth", "a\\b.pth", ".hidden", "C:x.pth", "x" * 300, "a.partial"])
def test_names_stay_in_the_folder(name: str, cache: Path) -> None:
    with pytest.raises(ValueError, match="proper file name"):
        hub.download("https://127.0.0.1:1/x", "01234567", file=name)
    assert not cache.exists()


def test_offline(server: Server, cache: Path, monkeypatch) -> None:
    url, sha256 = server.add("model", CONTENT)
    monkeypatch.setenv("ENGINE_OFFLINE", "1")
    with pytest.raises(HubError, match=rf"model-{sha256}\.pth: not in .*ENGINE_OFFLINE"):
        hub.download(url, sha256)
    assert not server.requests
    assert not cache.exists()
    monkeypatch.setenv("ENGINE_OFFLINE", "0")
    path = hub.download(url, sha256)
    monkeypatch.setenv("ENGINE_OFFLINE", "1")
    assert hub.download(url, sha256) == path


# ---- the place to store it


def test_a_full_disk_is_noticed_before_writing(server: Server, cache: Path, monkeypatch) -> None:
    url, sha256 = server.add("model", CONTENT)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(HubError, match=r"model-\w+\.pth: no space to store it: 3000000 more bytes are needed"):
        hub.download(url, sha256)
    assert files(cache) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up(server: Server, cache: Path, monkeypatch, number: int) -> None:
    url, sha256 = server.add("model", CONTENT)
    real, written = hub._write_all, []

    class Full:
        def write(self, data: memoryview) -> int:
            raise OSError(number, os.strerror(number))

    def write(stream, data: bytes) -> None:
        real(Full() if len(written) == 2 else stream, data)
        written.append(len(data))

    monkeypatch.setattr(hub, "_write_all", write)
    with pytest.raises(HubError, match=r"model-\w+\.pth: no space to store it"):
        hub.download(url, sha256)
    assert len(written) == 2
    assert files(cache) == []


def test_a_limit_of_the_system(server: Server, cache: Path) -> None:
    """A real error of a real write: the process may not make files this large."""
    url, sha256 = server.add("model", CONTENT)
    code = (
        "import resource, signal, sys; from engine.io import hub\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 21, 1 << 21))\n"
        "try: hub.download(*sys.argv[1:], progress=False)\n"
        "except hub.HubError as error: print(error)"
    )
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("there is such a limit already")
    done = subprocess.run([sys.executable, "-c", code, url, sha256], capture_output=True, text=True, check=True)
    assert "no space to store it: File too large" in done.stdout
    assert files(cache) == []


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path / "file" / "home"))
    url, sha256 = server.add("model", CONTENT)
    with pytest.raises(HubError, match=r"model-\w+\.pth: cannot be stored: .*ENGINE_HOME"):
        hub.download(url, sha256)


def test_without_a_home_directory(server: Server, tmp_path: Path, monkeypatch) -> None:
    for name in ("ENGINE_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.weights_folder() == tmp_path / ".cache" / "engine" / "weights"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(HubError, match="no home directory: set ENGINE_HOME"):
        hub.download(f"{server.address}/x", "01234567", file="x.pth")


@pytest.fixture
def read_only_cache(monkeypatch) -> Iterator[Path]:
    """A cache that may be read, not written. To root everything is allowed: then as another user."""
    home = Path(tempfile.mkdtemp())
    (home / "weights").mkdir()
    monkeypatch.setenv("ENGINE_HOME", str(home))
    other = os.name == "posix" and os.geteuid() == 0
    yield home / "weights"
    if other:
        os.seteuid(0)
    for folder in (home, home / "weights"):
        folder.chmod(0o755)
    shutil.rmtree(home)


def close(folder: Path) -> None:
    for path in (folder, folder.parent):
        path.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_a_read_only_cache(server: Server, read_only_cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    close(read_only_cache)
    with pytest.raises(HubError, match=r"model-\w+\.pth: cannot be stored: Permission denied: set ENGINE_HOME"):
        hub.download(url, sha256)
    assert not server.requests
    assert files(read_only_cache) == []


def test_a_read_only_cache_that_has_the_file(server: Server, read_only_cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    path = read_only_cache / url.rpartition("/")[2]
    path.write_bytes(CONTENT)
    path.chmod(0o444)
    close(read_only_cache)
    assert hub.download(url, sha256) == path
    assert not server.requests


# ---- several at once

CHILD = (
    "import sys; from engine.io import hub; hub._PAUSE = 0.0; print('ready', flush=True); sys.stdin.readline(); "
    "print(hub.download(*sys.argv[1:], progress=False), flush=True)"
)


def children(count: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """Processes that are about to download."""
    command = [sys.executable, "-c", CHILD, *arguments]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for child in started:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    return started


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_processes_download_once(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.before_body = lambda: time.sleep(0.3)
    started = children(3, url, sha256)
    for child in started:
        go(child)
    results = [child.communicate(timeout=60) for child in started]
    assert [child.returncode for child in started] == [0, 0, 0], results
    assert len(server.requests) == 1
    path = cache / url.rpartition("/")[2]
    assert {out.strip() for out, _ in results} == {str(path)}
    assert path.read_bytes() == CONTENT
    assert files(cache) == [path.name]


def test_a_killed_process_leaves_a_part_and_no_lock(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    import threading

    reached, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        if len(server.requests) > 1:
            reached.set()
            go_on.wait(20)

    server.cuts, server.before_body = [1_000_000], wait
    (first,) = children(1, url, sha256)
    go(first)
    assert reached.wait(20)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    go_on.set()
    server.before_body = None
    assert files(cache) == [url.rpartition("/")[2] + ".partial"]
    assert hub.download(url, sha256).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=1000000-"
    assert len(files(cache)) == 1


def test_who_waits_takes_over_when_the_first_fails(server: Server, cache: Path) -> None:
    url, sha256 = server.add("model", CONTENT)
    server.statuses = [404]
    server.before_body = lambda: time.sleep(0.2)
    started = children(2, url, sha256)
    for child in started:
        go(child)
    codes = []
    for child in started:
        child.communicate(timeout=60)
        codes.append(child.returncode)
    assert sorted(codes) == [0, 1]
    assert files(cache) == [url.rpartition("/")[2]]


def test_the_hash_of_the_content_is_what_counts(server: Server) -> None:
    """The digits in these tests are those of hashlib."""
    url, sha256 = server.add("model", CONTENT)
    assert hashlib.sha256(hub.download(url, sha256).read_bytes()).hexdigest().startswith(sha256)
