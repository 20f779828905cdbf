"""jobjar web: show a jar in a browser."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.errors import JarError, UsageError
from jobjar.programs.command import complain, make_parser, named_jar, run

if TYPE_CHECKING:
    import ssl

_ABOUT = """Show the jar in a browser: what waits, runs and ends, jobs, arrays, batches, workers, failures. It only reads. It
prints an address with a token, which lets one browser in; it serves this machine alone unless --host says otherwise. Ctrl-C
ends it."""
_PORT = 7117
_ANYBODY = "--yes-to-everybody-on-this-network"


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar web") -> int:
    parser = make_parser(program, _ABOUT)
    parser.add_argument(
        "--port", type=int, default=_PORT, metavar="N", help=f"the port; 0: any that is free (default: {_PORT})"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="serve at this address (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="HOST", help="another name of this host that browsers may use"
    )
    parser.add_argument("--tls-certificate", metavar="FILE", help="serve https with this certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the key of that certificate (PEM)")
    parser.add_argument(
        _ANYBODY,
        action="store_true",
        dest="anybody",
        help="with --host, without a certificate: who listens on the network reads the token and all pages",
    )

    def body(options: argparse.Namespace) -> int:
        _load_server()
        import asyncio

        from jobjar.web.access import LOOPBACK, Access
        from jobjar.web.looker import Looker
        from jobjar.web.serve import serve
        from jobjar.web.server import make_app

        if not 0 <= options.port <= 65535:
            raise UsageError(reason=f"--port: {options.port} is no port")
        if (options.tls_certificate is None) != (options.tls_key is None):
            raise UsageError(reason="--tls-certificate and --tls-key go together")
        is_local = options.host in LOOPBACK
        if not is_local and not options.anybody and options.tls_certificate is None:
            raise UsageError(
                reason=f"--host {options.host}: others could read the token and the pages on their way. Give "
                f"--tls-certificate and --tls-key, or {_ANYBODY}; or go by ssh -L {_PORT}:127.0.0.1:{_PORT}"
            )
        context = _make_context(options)
        with named_jar(options, program_path) as jar:
            settings = jar.settings
        port, listening = _choose_port(options.host, options.port)
        names = [*(LOOPBACK if is_local or options.host in ("0.0.0.0", "::") else ()), options.host, *options.name]
        if not is_local:
            names += [socket.gethostname(), socket.getfqdn()]
        access = Access(names, port, context is not None)
        app = make_app(Looker(settings), access)
        shown = options.host if options.host not in ("0.0.0.0", "::") else socket.gethostname()
        shown = f"[{shown}]" if ":" in shown else shown

        def begun() -> None:
            print(f"{access.scheme}://{shown}:{port}/?token={access.token}", flush=True)

        async def until_ended() -> None:
            import signal

            end = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, end.set)
            await serve(app, listening, context, begun, end)

        _allow_many_files()
        asyncio.run(until_ended())
        complain(program, "ended")
        return 0

    return run(parser, argv, body)


def _load_server() -> None:
    """Raise JarError if what draws the pages is not installed."""
    try:
        import aiohttp.web
        import jinja2  # noqa: F401
    except ImportError as error:
        raise JarError(
            reason=f"pages cannot be drawn: {error}; install what draws them: {sys.executable} -m pip install 'jobjar[web]'"
        ) from error
    del aiohttp


def _make_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.tls_certificate is None:
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise JarError(reason=f"{options.tls_certificate}, {options.tls_key}: they cannot be used: {error}") from error
    return context


def _choose_port(host: str, port: int) -> tuple[int, socket.socket]:
    """An open socket, and its port. Raises JarError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(found[0], found[1])
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found[4])
        listening.listen(256)
    except OSError as error:
        raise JarError(
            reason=f"{host}, port {port} cannot be served: {error.strerror}; choose another: --port N, or --port 0 for any"
        ) from error
    return int(listening.getsockname()[1]), listening


def _allow_many_files() -> None:
    """Each page that listens is an open file."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)) if hard >= 0 else 8192, hard))
    os.umask(0o077)
