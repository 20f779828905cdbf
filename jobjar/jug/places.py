"""Where files are fetched from: a path of this node, an http(s) address, a path of another host. Each is opened, tells what
it shows of its content without giving it, and copies it. Writes nothing itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

from jobjar.disk import write_all
from jobjar.errors import CannotFetch
from jobjar.jobname import node_name
from jobjar.mounts import is_local
from jobjar.patience import patiently
from jobjar.session import give_up, start_awaited

_CHUNK = 1 << 20
_CONNECT_S, _SILENCE_S = 30.0, 120.0
# No leading hyphen: ssh would take the host for an option.
_HOST_PATH = re.compile(
    r"((?:[A-Za-z0-9_.][A-Za-z0-9_.-]*@)?(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])):(/(?!/).*)", re.DOTALL
)
_SSH = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15"]


class Writer(Protocol):
    """What content is copied to. `failure`: why it refused."""

    failure: OSError | None

    def write(self, data: bytes) -> int: ...


class FileWriter:
    """A Writer to an open file. Its `failure` is of that file, not of where the bytes come from."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None
        self.size = 0

    def write(self, data: bytes) -> int:
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            self.failure = error
            raise
        self.take(data)
        self.size += len(data)
        return len(data)

    def take(self, data: bytes) -> None:
        """What else is done with bytes that were written."""

    # With these fsspec takes it for an open file.
    def read(self, size: int = -1) -> bytes:
        raise OSError("only written to")

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        pass


class Place(Protocol):
    """One file somewhere. `open` comes first; all raise CannotFetch."""

    # Whether the node's cache is worth asking: a copy from another local disk costs the same.
    is_far: bool
    is_runnable: bool

    def open(self) -> None: ...

    def shown(self) -> str | None:
        """What changes when the content does; None where nothing such is known."""

    def copy_to(self, writer: Writer) -> None: ...
    def close(self) -> None: ...


def hide_password(location: str) -> str:
    """A location as it may be told to people."""
    return re.sub(r"(?<=://)[^/@]*:[^/@]*@", "…@", location)


def local_path(location: str) -> str | None:
    """The path on this node that a location means; None where it is elsewhere. Raises CannotFetch."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", location)
    if scheme and scheme.group(1).lower() in ("http", "https"):
        return None
    if location.lower().startswith("file:"):
        location = _path_of_file_address(location)
    elif scheme:
        raise CannotFetch(
            location=hide_password(location), reason="files are fetched from paths, file:, http:, https: and host:/path"
        )
    found = _HOST_PATH.fullmatch(location)
    if found:
        return found.group(2) if _is_this_node(found.group(1)) else None
    if not location.startswith("/"):
        raise CannotFetch(
            location=location, reason="it is not an absolute path, and a worker runs in no place of yours"
        )
    return location


def _path_of_file_address(location: str) -> str:
    """`file:/path`, `file:///path` and `file://host/path` (RFC 8089) as a path or host:/path."""
    rest = location[len("file:") :]
    host = ""
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
    path = unquote(rest, errors="surrogateescape")
    if not path.startswith("/") or "\0" in path:
        raise CannotFetch(location=location, reason="it is not of the form file:///path")
    return f"{host}:{path}" if host else path


def _is_this_node(host: str) -> bool:
    name = host.lower()
    own = node_name().lower()
    return name in ("localhost", own, own.partition(".")[0], os.uname().nodename.lower())


def find_place(location: str) -> Place:
    """Where a location is. Raises CannotFetch."""
    path = local_path(location)
    if path is not None:
        return LocalFile(path, location)
    if location.lower().startswith("file:"):
        location = _path_of_file_address(location)
    found = _HOST_PATH.fullmatch(location)
    return FileOfHost(found.group(1), found.group(2)) if found else HttpFile(location)


# Whether a disk, by its number, is a local one: the table of mounts is long where there are containers.
_local_disks: dict[int, bool] = {}


def _is_on_local_disk(path: str, disk: int) -> bool:
    if disk not in _local_disks:
        _local_disks[disk] = is_local(path)
    return _local_disks[disk]


class LocalFile:
    """A file by its path on this node, on whatever disk."""

    def __init__(self, path: str, location: str) -> None:
        self.path = path
        self._location = location
        self._descriptor = -1
        self.is_runnable = False
        self.is_far = False

    def _refuse(self, reason: str | None) -> CannotFetch:
        where = "" if self._location == self.path else f"{self.path}: "
        return CannotFetch(location=self._location, reason=f"{where}{reason}")

    def open(self) -> None:
        # Not blocked by a fifo that nobody writes to.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._descriptor = patiently(lambda: os.open(self.path, flags), self.path)
            self._status = os.fstat(self._descriptor)
        except (OSError, ValueError) as error:
            raise self._refuse(error.strerror if isinstance(error, OSError) else str(error)) from error
        if not stat.S_ISREG(self._status.st_mode):
            kind = "a directory" if stat.S_ISDIR(self._status.st_mode) else "not a regular file"
            raise self._refuse(f"it is {kind}")
        self.is_runnable = bool(self._status.st_mode & 0o100)
        self.is_far = not _is_on_local_disk(self.path, self._status.st_dev)

    def shown(self) -> str | None:
        found = self._status
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"

    def is_settled(self, age_s: float) -> bool:
        """Whether a change from now on would show in the file's times, which tick slowly on some disks."""
        return abs(time.time() - max(self._status.st_mtime, self._status.st_ctime)) > age_s

    def read_all(self, take: Callable[[bytes], object]) -> None:
        """All of the content. Raises CannotFetch where it changes meanwhile."""

        def read(offset: int) -> bytes:
            return patiently(lambda: os.pread(self._descriptor, _CHUNK, offset), self.path)

        offset = 0
        # One that somebody keeps appending to would have no end.
        while offset <= self._status.st_size:
            try:
                chunk = read(offset)
            except OSError as error:
                raise self._refuse(error.strerror) from error
            if not chunk:
                break
            take(chunk)
            offset += len(chunk)
        before, self._status = self._status, os.fstat(self._descriptor)
        if (before.st_size, before.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise self._refuse("it was changed while it was read")

    def copy_to(self, writer: Writer) -> None:
        self.read_all(writer.write)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class HttpFile:
    """What an http(s) address gives. Proxies are those of the environment (http_proxy and so on)."""

    is_far = True
    is_runnable = False

    def __init__(self, address: str) -> None:
        self._address = address
        self._files: Any = None

    def open(self) -> None:
        import aiohttp

        # The thread that fsspec makes for its connections must not take the worker's signals.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            from fsspec.asyn import get_loop

            get_loop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        from fsspec.implementations.http import HTTPFileSystem

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
        # Bytes as they are stored: a .tar.gz that a server calls gzip-encoded stays one.
        self._files = HTTPFileSystem(
            skip_instance_cache=True,
            headers={"Accept-Encoding": "identity"},
            client_kwargs={"timeout": timeout, "trust_env": True, "auto_decompress": False},
        )

    def shown(self) -> str | None:
        try:
            found = self._files.info(self._address)
        except Exception:  # a server that knows no HEAD: the copy says what is wrong, if anything
            return None
        etag, modified = found.get("ETag"), found.get("Last-Modified")
        return f"{etag} {modified} {found.get('size')}" if etag or modified else None

    def copy_to(self, writer: Writer) -> None:
        try:
            self._files.get_file(self._address, writer)
        except Exception as error:
            if writer.failure is not None:
                raise writer.failure from error
            raise CannotFetch(location=hide_password(self._address), reason=_say_http(error)) from error

    def close(self) -> None:
        if self._files is not None:
            session, self._files._session = self._files._session, None
            if session is not None:
                from fsspec.asyn import sync

                with contextlib.suppress(Exception):  # the answer is here, or the error is told already
                    sync(self._files.loop, session.close, timeout=5)
            self._files = None


def _say_http(error: Exception) -> str:
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError):
        return "the server has no such file (404)"
    if status:
        return f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
    return " ".join(str(error).split()) or type(error).__name__


class FileOfHost:
    """A file of another host, by ssh. One connection: it shows size, time and mode, and gives the content when told to."""

    is_far = True
    is_runnable = False

    def __init__(self, host: str, path: str) -> None:
        self._host = host.replace("[", "").replace("]", "")
        self._path = path
        self._location = f"{host}:{path}"
        self._process: subprocess.Popen[bytes] | None = None
        self._shown: str | None = None
        self._size: int | None = None

    def open(self) -> None:
        path = shlex.quote(self._path)
        # GNU's stat, or that of BSD; where there is neither, an empty line. Then it waits for a line.
        script = (
            f"test -f {path} || {{ echo 'no such file, or not a regular one' >&2; exit 1; }}; "
            f"stat -L -c '%s %Y %a' -- {path} 2>/dev/null || stat -L -f '%z %m %Lp' -- {path} 2>/dev/null || echo; "
            f"read go && exec cat -- {path}"
        )
        # In sh, whatever the login shell is there.
        words = [*_SSH, "--", self._host, f"exec sh -c {shlex.quote(script)}"]
        pipe = subprocess.PIPE

        def start() -> int:
            self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
            return self._process.pid

        try:
            start_awaited(start)
        except OSError as error:
            raise CannotFetch(location=self._location, reason=f"ssh: {error.strerror}") from error
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._say_end()
        fields = line.decode("ascii", "replace").split()
        if len(fields) == 3 and all(field.isdigit() for field in fields):
            self._shown = " ".join(fields)
            self._size = int(fields[0])
            self.is_runnable = bool(int(fields[2], 8) & 0o100)

    def _say_end(self) -> CannotFetch:
        process = self._process
        assert process is not None and process.stderr is not None and process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        said = process.stderr.read(4096).decode("utf-8", "replace").split("\n")
        status = process.wait()
        reason = next((line.strip() for line in reversed(said) if line.strip()), f"ssh ended with status {status}")
        return CannotFetch(location=self._location, reason=reason)

    def shown(self) -> str | None:
        return self._shown

    def copy_to(self, writer: Writer) -> None:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(b"\n")
            process.stdin.close()
        except OSError as error:
            raise self._say_end() from error
        copied = 0
        while chunk := process.stdout.read(_CHUNK):
            writer.write(chunk)
            copied += len(chunk)
        if process.wait() != 0:
            raise self._say_end()
        if self._size is not None and copied != self._size:
            raise CannotFetch(location=self._location, reason="it was changed while it was read")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()
            give_up(process.pid)
