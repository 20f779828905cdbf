"""Serve an application at an open socket until somebody ends it. Reads and writes nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from aiohttp import web


async def serve(
    app: web.Application,
    listening: socket.socket,
    tls: ssl.SSLContext | None,
    begun: Callable[[], None],
    end: asyncio.Event,
) -> None:
    """Serve at an open socket until `end` is set. `begun` is called once requests are answered. Raises OSError."""
    # No log of requests: the first one has the token in its address.
    # Nor of what is no request: anybody on this machine could fill the terminal with it. `_guard` tells of faults.
    silent = logging.getLogger(f"{__name__}.requests")
    silent.setLevel(logging.CRITICAL)
    runner = web.AppRunner(
        app, access_log=None, logger=silent, handle_signals=False, keepalive_timeout=30.0, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=tls).start()
        begun()
        await end.wait()
    finally:
        await runner.cleanup()
