"""Start workers on other hosts by ssh: keys only, no prompt, each host with a time of its own, several hosts at once.

Each host runs `start_worker` of the jar's own bin directory, which has the same path there, and is told by name what settings
this environment has. Writes nothing here.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

from jobjar.jar import Jar
from jobjar.settings.table import TABLE

_AT_ONCE = 16
# A name, an address, or an alias of ssh's configuration, perhaps with a login. Never an option.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%@\[\]-]*")
# Those that differ from host to host.
_OF_A_HOST = ("JJ_HOME", "JJ_NODE")


class Answer(NamedTuple):
    """What a host said: the names of the workers that it started, what else it said, and why it did not start all; '' if it
    did."""

    host: str
    workers: tuple[str, ...]
    said: str
    trouble: str


def parse_hosts(text: str) -> list[str]:
    """The hosts of a list with commas, each once. Raises ValueError."""
    hosts = [host.strip() for host in text.split(",")]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no name of a host")
    return list(dict.fromkeys(hosts))


def start_on(
    jar: Jar,
    hosts: Sequence[str],
    words: Sequence[str],
    per_host: int,
    timeout_s: float,
    environment: Mapping[str, str],
) -> Iterator[Answer]:
    """Start `per_host` workers with these words on each host; yields the answers as they come."""
    ssh = [*shlex.split(jar.settings.ssh), "-o", "BatchMode=yes", "-T", "-n"]
    ssh += ["-o", f"ConnectTimeout={max(1, int(timeout_s))}", "-o", "ServerAliveInterval=15"]
    command = shlex.join(_remote_words(jar, [*words, "--per-host", str(per_host)], environment))
    with ThreadPoolExecutor(min(_AT_ONCE, len(hosts))) as pool:
        asked = [pool.submit(_ask, ssh, host, command, timeout_s) for host in hosts]
        for answer in as_completed(asked):
            yield answer.result()


def _remote_words(jar: Jar, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    names = [setting.name for setting in TABLE if setting.name in environment and setting.name not in _OF_A_HOST]
    settings = [f"JJ_HOME={jar.layout.home}", *(f"{name}={environment[name]}" for name in names)]
    return ["env", *settings, f"{jar.layout.bin}/start_worker", *words]


def _ask(ssh: Sequence[str], host: str, command: str, timeout_s: float) -> Answer:
    try:
        process = subprocess.Popen(
            [*ssh, "--", host, command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
        )
    except OSError as error:
        return Answer(host, (), "", f"{ssh[0]}: {error.strerror}")
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        why = f"no answer within {timeout_s:g} s; `jobjar workers` shows whether workers were started all the same"
        return Answer(host, tuple(output.split()), errors.strip(), why)
    trouble = "" if process.returncode == 0 else errors.strip().splitlines()[-1:] or [f"status {process.returncode}"]
    return Answer(host, tuple(output.split()), errors.strip(), "".join(trouble))
