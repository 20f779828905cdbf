"""Real servers on loopback for tests: http.server with a directory, and sshd with a key of its own."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.rig import wait_until


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with ETags; counts what it is asked for."""

    server: Server

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def send_response(self, code: int, message: str | None = None) -> None:
        self.server.asked.append((self.command, self.path, code))
        super().send_response(code, message)

    def do_GET(self) -> None:
        if self.path == "/circle":
            self.send_response(302)
            self.send_header("Location", "/circle?again")
            self.end_headers()
        elif self.path == "/circle?again":
            self.send_response(302)
            self.send_header("Location", "/circle")
            self.end_headers()
        elif self.path.startswith("/broken"):
            self.send_error(500, "Broken here")
        elif self.path.startswith("/cut"):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"only so much")
        elif self.path.startswith("/says/"):
            # /says/CODE[/LOCATION]: that answer to everything, with a body that is not the file.
            code, _, location = self.path.removeprefix("/says/").partition("/")
            self.send_response(int(code))
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "9" if code not in ("204", "304") else "0")
            self.end_headers()
            if code not in ("204", "304"):
                self.wfile.write(b"some page")
        elif self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def end_headers(self) -> None:
        if self.path.endswith(".gz") and self.server.says_encoded:
            self.send_header("Content-Encoding", "gzip")
        path = self.translate_path(self.path)
        if os.path.isfile(path) and self.server.has_etags:
            status = os.stat(path)
            times = (
                f"{int(status.st_mtime):x}"
                if self.server.has_whole_seconds
                else f"{status.st_ino}-{status.st_mtime_ns}"
            )
            self.send_header("ETag", f'"{times}-{status.st_size:x}"')
        super().end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.server.clock if timestamp is None else timestamp)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified" or self.server.has_etags:
            super().send_header(keyword, value)


class Server(http.server.ThreadingHTTPServer):
    """`asked`: method, path and answer of each request."""

    has_etags = True
    has_whole_seconds = False  # in its ETags, as those of nginx
    clock: float | None = None  # what it takes for now
    says_encoded = False

    def __init__(self, directory: Path) -> None:
        self.asked: list[tuple[str, str, int]] = []
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(directory)))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self, path: str) -> int:
        """How often a file's content was given."""
        return self.asked.count(("GET", path, 200))


@contextlib.contextmanager
def http_server(directory: Path) -> Iterator[Server]:
    """An HTTP server of a directory; ended afterwards."""
    server = Server(directory)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def ssh_server(directory: Path, setting: str = "") -> Iterator[Path]:
    """A real sshd on loopback, known to the real ssh as host `far`; gives a directory for PATH, whose `ssh` uses its settings.
    `setting` is one more line for sshd."""
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    port = free_port()
    (directory / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {directory}/user_key.pub\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"{setting}\n"
    )
    public = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (directory / "ssh_config").write_text(
        f"Host far\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {directory}/user_key\n"
        f"  UserKnownHostsFile {directory}/known_hosts\n  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n"
    )
    programs = directory / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {directory}/ssh_config "$@"\n')
    (programs / "ssh").chmod(0o755)
    os.makedirs("/run/sshd", exist_ok=True)
    log = (directory / "sshd.log").open("wb")
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", f"{directory}/sshd_config"], stderr=log)
    try:

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_until(answers, "an answer of sshd")
        yield programs
    finally:
        server.terminate()
        server.wait()
        log.close()
