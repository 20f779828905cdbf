"""`jobjar web` as a process of a test, and a client that speaks to it as plainly as can be."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.rig import BIN, PATIENCE_S, Rig


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "backslashreplace")


class Viewed:
    """A server under way. `address` is what it printed, with its token."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        parts = urlsplit(address)
        self.host, self.port = str(parts.hostname), int(parts.port or 0)
        self.token = parts.query.removeprefix("token=")
        self.bearer = {"Authorization": f"Bearer {self.token}"}

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)

    def ask(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        """What it says to one request; with the token, unless other headers are given."""
        with contextlib.closing(self.connect()) as connection:
            connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
            for name, value in (self.bearer if headers is None else headers).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            return Answer(response.status, response.msg, response.read())


@contextlib.contextmanager
def viewed(rig: Rig, *words: str, **changes: str) -> Iterator[Viewed]:
    """`jobjar web` on a rig's jar, ended afterwards as Ctrl-C does; it has to have complained of nothing."""
    process = subprocess.Popen(
        [*rig.before, str(BIN / "jobjar"), "web", "--port", "0", *words],
        env={**rig.environment, **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise AssertionError(f"jobjar web did not start: {process.communicate(timeout=PATIENCE_S)[1]}")
        yield Viewed(process, address)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert (process.returncode, said) == (0, "jobjar web: ended\n"), f"{process.returncode}: {said}"
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
