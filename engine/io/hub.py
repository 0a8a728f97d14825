"""Download files of weights: verified, resumable, safe to do twice at once, and never half there.

A file is stored in `$ENGINE_HOME/weights` (default `$XDG_CACHE_HOME/engine` or `~/.cache/engine`). It grows under the
name `<file>.partial`, which also is the lock between processes, and takes its own name when it is complete, flushed to
the disk, and its SHA-256 begins with the digits that were asked for. Files that PyTorch has downloaded before are
verified and used where they are; that folder is never written to.

Environment: ENGINE_OFFLINE=1 never opens a connection. ENGINE_HUB_LOOPBACK=1 accepts http:// from this very machine,
for tests and local mirrors; anything else must be https://, redirects included. Proxies are taken from the usual
variables.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import ipaddress
import os
import re
import shutil
import stat
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from engine.io.atomic_file import flush_folder

__all__ = ["HubError", "download", "download_to", "find", "is_offline", "weights_folder"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_DIGITS = re.compile(r"[0-9a-f]{8,64}")
_MD5 = re.compile(r"md5:[0-9a-f]{32}")  # what some data sets are published with
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5
_PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
_MAX_PAUSE = 60.0
_MAX_REDIRECTS = 5
_LOCK_POLL = 0.1
_DEFAULT_LIMIT = 1 << 36
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class HubError(RuntimeError):
    """A file cannot be downloaded, stored or verified; the message names the file and what is wrong.

    Example:
        >>> download("http://example.org/a-01234567.pth", "01234567")
        Traceback (most recent call last):
            ...
        engine.io.hub.HubError: a-01234567.pth: refusing http://example.org/a-01234567.pth: only https is trusted
    """


class _Retry(Exception):
    """An attempt failed in a way that the next one may not; `wait` is what the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def is_offline() -> bool:
    """Whether ENGINE_OFFLINE forbids all connections."""
    return os.environ.get("ENGINE_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")


def weights_folder() -> Path:
    """Where downloaded weights are kept; the folder need not exist yet.

    Raises:
        HubError: the user has no home directory, and ENGINE_HOME is not set.
    """
    home = os.environ.get("ENGINE_HOME")
    folder = os.path.expanduser(home) if home else os.path.join(_user_cache(), "engine")
    if folder.startswith("~"):
        raise HubError(f"{folder}: there is no home directory: set ENGINE_HOME to a folder for downloaded weights")
    return Path(folder, "weights")


def _user_cache() -> str:
    return os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _foreign_folders() -> list[Path]:
    """Where PyTorch keeps its downloads."""
    home = os.environ.get("TORCH_HOME")
    torch = os.path.expanduser(home) if home else os.path.join(_user_cache(), "torch")
    return [Path(torch, "hub", "checkpoints")]


def find(file: str, sha256: str) -> Path | None:
    """Look for a file in this package's cache, then in PyTorch's; nothing is downloaded.

    A file in our own cache whose name carries the digits was verified before it got its name. Any other is verified
    now, and passed over when it differs.

    Args:
        file: the file's name.
        sha256: the first digits of its SHA-256, at least 8.

    Raises:
        ValueError: no proper file name, or too few digits.
    """
    _check_arguments(file, sha256)
    own = weights_folder() / file
    if _is_right(own, sha256, trusted=True):
        return own
    for folder in _foreign_folders():
        if _is_right(folder / file, sha256, trusted=False):
            return folder / file
    return None


def _is_right(path: Path, expected: str, trusted: bool) -> bool:
    """Whether a file is there and has this hash; where we put it ourselves, its name says so."""
    try:
        return path.is_file() and (
            trusted and f"-{expected}." in path.name or _digest(path, expected).startswith(_digits(expected))
        )
    except OSError:
        return False


def _new_digest(expected: str) -> Any:
    """The hash function of what is expected: "md5:" and all digits, or the first digits of a SHA-256."""
    return hashlib.md5(usedforsecurity=False) if expected.startswith("md5:") else hashlib.sha256()


def _digits(expected: str) -> str:
    return expected.removeprefix("md5:")


def download(
    url: str,
    sha256: str,
    *,
    file: str | None = None,
    limit: int = _DEFAULT_LIMIT,
    progress: bool = True,
) -> Path:
    """Return the path of a file, downloading it first if it is in no cache.

    An interrupted download is resumed, also by another process. Processes that want the same file wait for the one
    that is downloading it.

    Args:
        url: where the file is.
        sha256: the first digits of the file's SHA-256 in lower case, at least 8.
        file: its name in the cache; the last part of the URL by default. A file of this name and other content is
            replaced.
        limit: bytes that the file may have at most.
        progress: show a progress bar on standard error.

    Raises:
        HubError: the connection, the server, the content, or the place to store it is at fault; the message says
            which. Under the file's name there is nothing, or the complete file.
        ValueError: no proper file name, or too few digits.
    """
    file = os.path.basename(urllib.parse.urlsplit(url).path) if file is None else file
    found = find(file, sha256)
    if found is not None:
        return found
    _check_url(url, file)
    folder = weights_folder()
    if is_offline():
        raise HubError(
            f"{file}: not in {folder} nor in PyTorch's cache, and ENGINE_OFFLINE forbids to download it: "
            f"unset it, or put the file there from {url}"
        )
    target = folder / file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _partial_file(target, sha256) as partial:
            if partial is not None:
                _Download(url, sha256, target, partial, limit, progress).run()
    except OSError as error:
        _storage_fault(target, error)
    return target


def download_to(
    folder: str | os.PathLike[str], urls: Sequence[str], file: str, md5: str, *, progress: bool = True
) -> Path:
    """Return the path of a data set's file in a folder, downloading it first if it is not there.

    Resumed and locked as `download` does. MD5 is what data sets were published with: it finds out damage.

    Args:
        folder: where the file belongs; made if need be.
        urls: where the file is, the preferred place first; the next one is tried when one fails.
        file: its name in the folder. A file of this name and other content is replaced.
        md5: all 32 digits in lower case.
        progress: show a progress bar on standard error.

    Raises:
        HubError: no address gave the file; the message says what was wrong with each. Or it cannot be stored.
        ValueError: no proper file name, no MD5, or no address.
    """
    expected = f"md5:{md5}"
    if not _NAME.fullmatch(file) or file.endswith(".partial") or not _MD5.fullmatch(expected) or not urls:
        raise ValueError(f"[hub] expected a file name, 32 hexadecimal digits and an address: {file!r}, {md5!r}, {urls}")
    target = Path(folder, file)
    if _is_right(target, expected, trusted=False):
        return target
    for url in urls:
        _check_url(url, file)
    if is_offline():
        raise HubError(
            f"{target}: not there, and ENGINE_OFFLINE forbids to download it: unset it, or put the file there from "
            f"{urls[0]}"
        )
    faults = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                with _partial_file(target, expected) as partial:
                    if partial is not None:
                        _Download(url, expected, target, partial, _DEFAULT_LIMIT, progress).run()
                return target
            except HubError as error:
                faults.append(str(error))
    except OSError as error:
        _storage_fault(target, error)
    raise HubError("; ".join(faults))


def _check_arguments(file: str, sha256: str) -> None:
    if not _NAME.fullmatch(file) or file.endswith(".partial"):
        raise ValueError(f"[hub] {file!r} is no proper file name: letters, digits and ._- only")
    if not _DIGITS.fullmatch(sha256):
        raise ValueError(f"[hub] {file}: expected at least 8 lower-case hexadecimal digits of its SHA-256: {sha256!r}")


def _digest(path: Path, expected: str) -> str:
    digest = _new_digest(expected)
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _storage_fault(target: Path, error: OSError) -> NoReturn:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        advice = "no space to store it", "free some, or set ENGINE_HOME to another place"
    else:
        advice = "cannot be stored", "set ENGINE_HOME to a folder that you can write to"
    raise HubError(f"{target}: {advice[0]}: {reason}: {advice[1]}") from error


# ---- addresses


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _check_url(url: str, file: str, local: bool = True) -> None:
    """Refuse what is not encrypted; `local` says whether this machine may be an exception."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise HubError(f"{file}: {url!r} is no address: {error}") from None
    if parts.scheme == "https" and host:
        return
    opted_in = os.environ.get("ENGINE_HUB_LOOPBACK", "") == "1"
    if parts.scheme == "http" and local and opted_in and _is_loopback(host):
        return
    raise HubError(f"{file}: refusing {url}: only https is trusted")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, each to an address that would have been accepted in the first place."""

    max_redirections = _MAX_REDIRECTS

    def __init__(self, file: str, local: bool) -> None:
        self._file = file
        self._local = local

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        target = urllib.parse.urljoin(req.full_url, headers.get("location") or headers.get("uri") or "")
        try:
            _check_url(target, f"{self._file}: {req.full_url} redirects elsewhere", self._local)
        except HubError:
            fp.close()
            raise
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener(url: str, file: str) -> urllib.request.OpenerDirector:
    """Handlers for http(s) only: the usual opener also knows file:, ftp: and data:."""
    local = _is_loopback(urllib.parse.urlsplit(url).hostname or "")
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(file, local),
    ]
    if not local:
        handlers.append(urllib.request.ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


# ---- the partial file, and the lock on it


@contextlib.contextmanager
def _partial_file(target: Path, expected: str) -> Iterator[IO[bytes] | None]:
    """Open and lock `<target>.partial`; None when another process has completed the file meanwhile."""
    path = target.with_name(target.name + ".partial")
    flags = (
        os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    while True:
        descriptor = os.open(path, flags, 0o666)
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise HubError(f"{path}: not a regular file: remove it")
            _lock(descriptor, target)
            # Whoever held the lock may have renamed or removed the file that was opened here.
            try:
                current = os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
            except FileNotFoundError:
                current = False
            if _is_right(target, expected, trusted=True):
                if current:
                    path.unlink()
                yield None
                return
            if current:
                yield stream
                return


def _lock(descriptor: int, target: Path) -> None:
    """Wait for the lock; it ends with the descriptor, however the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two downloads at once spoil each other, which the hash finds out
        return
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told and sys.stderr is not None and sys.stderr.isatty():
                print(f"{target.name}: another process is downloading it, waiting", file=sys.stderr)
            told = True
            time.sleep(_LOCK_POLL)
        except OSError:  # a file system without locks: as on Windows
            return


# ---- downloading


class _Download:
    """One download into a partial file that is open and locked."""

    def __init__(self, url: str, expected: str, target: Path, stream: IO[bytes], limit: int, progress: bool) -> None:
        self._url = url
        self._wanted = expected
        self._target = target
        self._stream = stream
        self._limit = limit
        self._progress = progress
        self._digest = _new_digest(self._wanted)
        self._size = 0

    @property
    def _name(self) -> str:
        return self._target.name

    @property
    def _partial(self) -> Path:
        return self._target.with_name(self._name + ".partial")

    def run(self) -> None:
        """Download, verify, and give the file its name."""
        try:
            self._adopt()
            resumed = self._size > 0
            self._transfer()
            if resumed and not self._is_right():  # the part that lay here may have been of another file
                self._restart()
                self._transfer()
            if not self._is_right():
                kind = "MD5" if self._wanted.startswith("md5:") else "SHA-256"
                digits = _digits(self._wanted)
                found = self._digest.hexdigest()[: max(len(digits), 16)]
                self._drop()
                raise HubError(
                    f"{self._name}: the content from {self._url} has the {kind} {found}..., expected "
                    f"{digits}...: it was damaged on the way, or the server has another file; nothing was kept"
                )
            self._finish()
        except BaseException as error:
            # What came is kept for the next try, but not an empty file, nor the one that filled the disk.
            if self._size == 0 or (isinstance(error, OSError) and error.errno in _FULL):
                self._drop()
            raise

    def _is_right(self) -> bool:
        found: str = self._digest.hexdigest()
        return found.startswith(_digits(self._wanted))

    def _adopt(self) -> None:
        """Take over what an interrupted download left behind."""
        self._stream.seek(0)
        while chunk := self._stream.read(_CHUNK):
            self._digest.update(chunk)
            self._size += len(chunk)

    def _restart(self) -> None:
        self._stream.seek(0)
        self._stream.truncate(0)
        self._digest = _new_digest(self._wanted)
        self._size = 0

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def _finish(self) -> None:
        os.fsync(self._stream.fileno())
        if os.name == "nt":
            self._stream.close()
        # Renamed while it is locked: nobody can take the complete file for a partial one.
        os.replace(self._partial, self._target)
        flush_folder(os.fspath(self._target.parent))

    def _transfer(self) -> None:
        """Try until the body is complete, each time from where the last attempt ended."""
        failures, farthest = 0, self._size
        while True:
            try:
                self._attempt()
                return
            except _Retry as error:
                failures = 1 if self._size > farthest else failures + 1  # getting on is no failure
                farthest = max(farthest, self._size)
                if failures >= _ATTEMPTS:
                    kept = f"; {self._size} bytes are kept, and the next try goes on from there" if self._size else ""
                    raise HubError(f"{self._name}: cannot be downloaded from {self._url}: {error}{kept}") from None
                time.sleep(min(max(_PAUSE * 2 ** (failures - 1), error.wait), _MAX_PAUSE))

    def _attempt(self) -> None:
        from engine._version import __version__

        headers = {"User-Agent": f"engine/{__version__}", "Accept-Encoding": "identity"}
        if self._size:
            headers["Range"] = f"bytes={self._size}-"
        request = urllib.request.Request(self._url, headers=headers)
        try:
            with _network_faults(), _opener(self._url, self._name).open(request, timeout=_TIMEOUT) as response:
                total = self._expected(response)
                self._check_space(total)
                self._copy(response, total)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)

    def _refused(self, error: urllib.error.HTTPError) -> None:
        """Decide what an error status means."""
        if error.code == 416 and self._size:  # nothing follows what is here: complete, or of another file
            if not self._is_right():
                self._restart()
                raise _Retry("the server has fewer bytes than were stored") from None
            return
        if error.code in _TRANSIENT:
            wait = error.headers.get("Retry-After", "")
            raise _Retry(f"the server answers {error.code} {error.reason}", float(wait) if wait.isdigit() else 0.0)
        raise HubError(f"{self._name}: {self._url}: the server answers {error.code} {error.reason}") from None

    def _expected(self, response: http.client.HTTPResponse) -> int | None:
        """Check the answer's header; return how long the file will be in the end, if the server says so."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise HubError(f"{self._name}: {self._url}: the server sends it compressed, which was not asked for")
        if response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != self._size:
                self._restart()
                raise _Retry("the server sends another part than the one asked for")
        elif response.status != 200:
            raise HubError(f"{self._name}: {self._url}: the server answers {response.status} {response.reason}")
        else:
            self._restart()  # the server does not know ranges
        length = response.headers.get("Content-Length", "")
        if not length.isdigit():
            return None
        total = self._size + int(length)
        if total > self._limit:
            raise HubError(f"{self._name}: {self._url}: the server announces {total} bytes, the limit is {self._limit}")
        return total

    def _check_space(self, total: int | None) -> None:
        if total is None:
            return
        free = shutil.disk_usage(self._target.parent).free
        if free < total - self._size:
            raise _StorageError(OSError(errno.ENOSPC, f"{total - self._size} more bytes are needed, {free} are free"))

    def _copy(self, response: http.client.HTTPResponse, total: int | None) -> None:
        with _progress_bar(self._name, self._size, total, self._progress) as advance:
            while True:
                chunk = response.read(_CHUNK)
                if not chunk:
                    break
                if self._size + len(chunk) > self._limit:
                    self._drop()
                    raise HubError(f"{self._name}: {self._url}: the server sends more than {self._limit} bytes")
                _write_all(self._stream, chunk)
                self._digest.update(chunk)
                self._size += len(chunk)
                advance(len(chunk))
        if total is not None and self._size != total:
            raise _Retry(f"the connection ended after {self._size} of {total} bytes")


def _write_all(stream: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered file; what fails is the disk, not the network."""
    view = memoryview(data)
    try:
        while view:
            view = view[stream.write(view) :]
    except OSError as error:
        raise _StorageError(error) from error


class _StorageError(Exception):
    """Carries an error of the disk past the handler for errors of the network."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _network_faults() -> Iterator[None]:
    """Turn what sockets and HTTP raise into `_Retry`."""
    try:
        yield
    except _StorageError as error:
        raise error.error from error
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _Retry(str(error.reason)) from None
    except (http.client.HTTPException, OSError) as error:
        raise _Retry(f"the connection broke: {str(error) or type(error).__name__}") from None


@contextlib.contextmanager
def _progress_bar(name: str, start: int, total: int | None, wanted: bool) -> Iterator[Callable[[int], object]]:
    """Show how far it is: with tqdm where it is installed, else in one line on a terminal."""
    if not wanted or sys.stderr is None:
        yield lambda count: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        if not sys.stderr.isatty():
            yield lambda count: None
            return
        done = start
        shown = 0.0

        def advance(count: int) -> None:
            nonlocal done, shown
            done += count
            now = time.monotonic()
            if now - shown >= 0.2 or done == total:
                shown = now
                share = f" {100 * done / total:3.0f} %" if total else ""
                print(f"\r{name}:{share} {done / 2**20:.1f} MiB", end="", file=sys.stderr, flush=True)

        try:
            yield advance
        finally:
            print(file=sys.stderr)
        return
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, unit_divisor=1024, desc=name, leave=False) as bar:
        yield bar.update
