"""Read files that have no path on this node: from an http(s) address, or from another host by ssh.

Writes nothing itself. A silent connection is given up after SILENCE_S. `between_pieces` is called every LOOKS_S, and ends the
work at once when it raises. After a kill midway, the ssh process sees its standard input end, and ends.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import email.utils
import os
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from jobjar.errors import CannotFetch
from jobjar.fetching.copying import LOOKS_S, BetweenPieces, nothing
from jobjar.fetching.settled import SETTLED_S
from jobjar.processes.children import give_up, start_awaited
from jobjar.processes.ending import doubt

CONNECT_S, SILENCE_S = 30.0, 120.0
_CHUNK = 1 << 20
_LONGEST_LINE = 4096
_SSH = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15"]

# ssh's own status for its failures, also after a signal to end.
_SSH_FAILED = 255
# The statuses of http whose body is the file (RFC 9110). With 203, a server on the way may have changed it.
_WHOLE = (200, 203)


class Writer(Protocol):
    """The target of a copy. `failure`: the error with which it refused a write."""

    failure: OSError | None

    def write(self, data: bytes) -> int: ...


def hide_password(location: str) -> str:
    """A location without its password, for messages."""
    return re.sub(r"(?<=://)[^/@]*:[^/@]*@", "…@", location)


class HttpFile:
    """A file at an http(s) address. Proxies come from the environment (http_proxy and so on)."""

    is_remote = True
    is_runnable = False

    def __init__(self, address: str, between_pieces: BetweenPieces = nothing) -> None:
        self._address = address
        self._between_pieces = between_pieces
        self._files: Any = None
        self._is_settled = False

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

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        # Takes the bytes as they are stored: a .tar.gz that a server calls gzip-encoded stays one.
        self._files = HTTPFileSystem(
            skip_instance_cache=True,
            headers={"Accept-Encoding": "identity"},
            client_kwargs={"timeout": timeout, "trust_env": True, "auto_decompress": False},
        )

    def shown(self) -> str | None:
        asked = self._ask(self._look())
        if asked.exception() is not None:  # the copy meets the error too, and reports it
            return None
        found = asked.result()
        etag, modified = found.get("ETag"), found.get("Last-Modified")
        self._is_settled = _is_old(modified, found.get("Date")) if modified else True
        return f"{etag} {modified} {found.get('Content-Length')}" if etag or modified else None

    async def _look(self) -> Any:
        """The headers of the server's answer to HEAD; where that fails, of its answer to GET."""
        session = await self._files.set_session()
        address = self._files.encode_url(self._address)
        async with session.head(address, allow_redirects=True, **self._files.kwargs) as answer:
            if answer.status in _WHOLE:
                return answer.headers
        async with session.get(address, **self._files.kwargs) as answer:
            _check_is_whole(answer)
            return answer.headers

    def is_settled(self, made: os.stat_result | None) -> bool:
        """By the server's own clock (RFC 9110, 8.8.2.2). An ETag does not help: nginx makes it from the second and the size."""
        return self._is_settled

    def copy_to(self, writer: Writer) -> None:
        answer = self._take(self._ask(self._begin()))
        # This thread writes, not fsspec's: a disk that hangs must not stop the connections of other jobs.
        while piece := self._take(self._ask(_read_piece(answer))):
            writer.write(piece)

    async def _begin(self) -> Any:
        session = await self._files.set_session()
        answer = await session.get(self._files.encode_url(self._address), **self._files.kwargs)
        _check_is_whole(answer)
        return answer

    def _ask(self, question: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Run a coroutine in fsspec's thread, until it ends, or until `between_pieces` raises."""
        import asyncio

        asked = asyncio.run_coroutine_threadsafe(question, self._files.loop)
        try:
            while not concurrent.futures.wait([asked], LOOKS_S).done:
                self._between_pieces()
        except BaseException:
            asked.cancel()
            raise
        return asked

    def _take(self, asked: concurrent.futures.Future[Any]) -> Any:
        try:
            return asked.result()
        except Exception as error:
            raise CannotFetch(location=hide_password(self._address), reason=_explain_http(error)) from error

    def close(self) -> None:
        if self._files is not None:
            session, self._files._session = self._files._session, None
            if session is not None:
                from fsspec.asyn import sync

                with contextlib.suppress(Exception):  # the content is here, or the error is raised already
                    sync(self._files.loop, session.close, timeout=5)
            self._files = None


def _is_old(modified: str, date: str | None) -> bool:
    """Whether a server's Date is more than SETTLED_S later than its Last-Modified."""
    try:
        changed, now = (email.utils.parsedate_to_datetime(text) for text in (modified, date or ""))
        return (now - changed).total_seconds() > SETTLED_S
    except (ValueError, TypeError):  # no date, or only one of them has a time zone
        return False


async def _read_piece(answer: Any) -> bytes:
    """The next _CHUNK bytes of an answer; fewer at its end."""
    piece = bytearray()
    while len(piece) < _CHUNK and (read := await answer.content.read(_CHUNK - len(piece))):
        piece += read
    return bytes(piece)


def _check_is_whole(answer: Any) -> None:
    """Raise where an answer's body is not the whole file: a part of it, nothing, or a page about a redirection."""
    if answer.status in _WHOLE:
        return
    answer.raise_for_status()
    said = f"the server answers {answer.status} {answer.reason or ''}".rstrip()
    if answer.status == 206:
        why = "that is a part of the file, and the whole was asked for"
    elif 300 <= answer.status < 400:
        why = "it does not say where the file went" if "Location" not in answer.headers else "that is no file"
    else:
        why = "that is no file"
    raise _Unfit(f"{said}: {why}")


class _Unfit(Exception):
    """An answer that is no http error, but no file either."""


def _explain_http(error: Exception) -> str:
    import aiohttp

    if isinstance(error, aiohttp.TooManyRedirects):
        steps = " → ".join(hide_password(str(answer.url)) for answer in error.history[-2:])
        return f"it is redirected in a circle, or too often ({len(error.history)} times, last {steps})"
    if "RedirectClientError" in type(error).__name__:  # aiohttp before 3.10 has no such class
        return f"it is redirected to {hide_password(str(error))}, where http cannot follow"
    if isinstance(error, aiohttp.ClientConnectorError):
        refusal = (
            error.os_error
        )  # asyncio's own words repeat the address; a name that is not found has no positive number
        number = refusal.errno or 0
        why = os.strerror(number) if number > 0 else refusal.strerror or str(refusal)
        return f"no connection to {error.host}:{error.port}: {why}; see whether that server runs, or to the network"
    status = getattr(error, "status", None)
    if status == 404:
        return "the server has no such file (404)"
    if status:
        return f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
    return " ".join(str(error).split()) or type(error).__name__


class FileOfHost:
    """A file of another host, read by ssh. One connection shows size, times and mode, and gives the content on request."""

    is_remote = True
    is_runnable = False

    def __init__(self, host: str, path: str, between_pieces: BetweenPieces = nothing) -> None:
        self._host = host.replace("[", "").replace("]", "")
        self._path = path
        self._location = f"{host}:{path}"
        self._between_pieces = between_pieces
        self._process: subprocess.Popen[bytes] | None = None
        self._shown: str | None = None
        self._is_settled = False
        self._size: int | None = None

    def open(self) -> None:
        path = shlex.quote(self._path)
        # Prints one line: that host's clock and the output of GNU's or BSD's stat; without a stat, the clock alone. Then it waits
        # for a line, and prints the content.
        script = (
            f"test -f {path} || {{ echo 'no such file, or not a regular one' >&2; exit 1; }}; "
            f"found=$(stat -L -c '%s %Y %Z %a' -- {path} 2>/dev/null || stat -L -f '%z %m %c %Lp' -- {path} 2>/dev/null); "
            "echo $(date +%s) $found; "
            f"read go && exec cat -- {path}"
        )
        # Runs in sh, because the login shell may be any.
        words = [*_SSH, "--", self._host, f"exec sh -c {shlex.quote(script)}"]
        # A file and no pipe: ssh may start a process that shares its connection, and that would keep a pipe open after ssh.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        pipe = subprocess.PIPE

        def start() -> int:
            self._process = subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=self._said, start_new_session=True, bufsize=0
            )
            return self._process.pid

        try:
            start_awaited(start)
        except OSError as error:
            self._said.close()
            raise CannotFetch(location=self._location, reason=f"ssh: {error.strerror}") from error
        line = b""
        while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            read = self._read()
            if not read:
                raise self._explain_end()
            line += read
        fields = line.decode("ascii", "replace").split()
        if len(fields) == 5 and all(field.isdigit() for field in fields):
            now, size, modified, changed, mode = fields
            self._shown = " ".join(fields[1:])
            self._is_settled = int(now) - max(int(modified), int(changed)) > SETTLED_S
            self._size = int(size)
            self.is_runnable = bool(int(mode, 8) & 0o100)

    def _read(self) -> bytes:
        """The next output of ssh; empty at its end. Raises CannotFetch where ssh is silent for too long."""
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + SILENCE_S
        while not poll.poll(LOOKS_S * 1000):
            self._between_pieces()
            self._check_silence(deadline)
        self._between_pieces()
        return os.read(descriptor, _CHUNK)

    def _check_silence(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise CannotFetch(location=self._location, reason=f"ssh was silent for {SILENCE_S:g} s")

    def _wait_for_end(self) -> int:
        """Wait for ssh, whose output has ended. Returns its exit status."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        deadline = time.monotonic() + SILENCE_S
        while True:
            try:
                return self._process.wait(LOOKS_S)
            except subprocess.TimeoutExpired:
                self._between_pieces()
                self._check_silence(deadline)

    def _explain_end(self) -> CannotFetch:
        status = self._wait_for_end()
        if status < 0 or status == _SSH_FAILED:
            doubt(self._between_pieces)
        said = os.pread(self._said.fileno(), _LONGEST_LINE, 0).decode("utf-8", "replace").split("\n")
        reason = next((line.strip() for line in reversed(said) if line.strip()), f"ssh ended with status {status}")
        return CannotFetch(location=self._location, reason=reason)

    def shown(self) -> str | None:
        return self._shown

    def is_settled(self, made: os.stat_result | None) -> bool:
        return self._is_settled

    def copy_to(self, writer: Writer) -> None:
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(b"\n")
        except OSError as error:
            raise self._explain_end() from error
        copied = 0
        while chunk := self._read():
            writer.write(chunk)
            copied += len(chunk)
        if self._wait_for_end() != 0:
            raise self._explain_end()
        if self._size is not None and copied != self._size:
            raise CannotFetch(location=self._location, reason="it was changed while it was read")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()
            give_up(process.pid)
            self._said.close()
