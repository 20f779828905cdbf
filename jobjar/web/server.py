"""The server: which address is answered by which view, to whom, and what is sent while something changes.

It answers GET and HEAD alone. One event loop serves all; a jar is asked in the looker's thread, outputs are read in two others,
in pieces. What a slow reader does not take is not read. Writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from jobjar.access.refusals import name_refusal
from jobjar.errors import JarError, NoOutput, NothingSelected, UnknownBatch, UnknownJob, UsageError
from jobjar.jar import Jar
from jobjar.ledger.database import UNREADABLE, name_error
from jobjar.reports.jobs import find_output
from jobjar.reports.metrics import CONTENT_TYPE, format_status
from jobjar.reports.output import OpenOutput
from jobjar.selecting.named import find_job
from jobjar.text import printable
from jobjar.web import batches_view, jobs_view, views
from jobjar.web.access import HEADERS, Access
from jobjar.web.looker import Busy, Looker, Seen, TooLong
from jobjar.web.render import ASSETS, read_asset, render

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PIECE_BYTES = 1 << 16
# So many pages that listen, and so long one may take to take in what it is sent.
_MOST_LISTENERS = 200
_SEND_S = 10.0
_BEAT_S = 15.0
# Between two pieces of the past that are counted, and until it is asked again whether there are more.
_COUNT_S, _COUNT_AGAIN_S = 0.05, 60.0
# So long a reader of an output may pause.
_TAKE_S = 300.0
# So many pages are kept while nothing changes, of not more than so many characters.
_MOST_KEPT, _LONGEST_KEPT = 64, 300_000


class _Listeners:
    """Of each page that listens: where the number of the last look is put."""

    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[int]] = set()


_LOOKER: web.AppKey[Looker] = web.AppKey("looker", Looker)
_ACCESS: web.AppKey[Access] = web.AppKey("access", Access)
_READERS: web.AppKey[ThreadPoolExecutor] = web.AppKey("readers", ThreadPoolExecutor)
_KEPT: web.AppKey[OrderedDict[str, tuple[int, str]]] = web.AppKey("kept", OrderedDict)
_LISTENERS = web.AppKey("listeners", _Listeners)
_STATUS = {
    UnknownJob: 404,
    UnknownBatch: 404,
    NothingSelected: 404,
    NoOutput: 404,
    UsageError: 400,
    TooLong: 503,
    Busy: 503,
}


def make_app(looker: Looker, access: Access) -> web.Application:
    """The application, which `serve` in serve.py runs."""
    app = web.Application(middlewares=[_guard], client_max_size=4096)
    app[_LOOKER], app[_ACCESS], app[_KEPT], app[_LISTENERS] = looker, access, OrderedDict(), _Listeners()
    app[_READERS] = ThreadPoolExecutor(2, thread_name_prefix="output")
    pages: dict[str, tuple[str, Callable[..., dict[str, Any]], Callable[[web.Request], tuple[Any, ...]]]] = {
        "/": ("overview.html", views.view_overview, lambda request: (request.query.get("span", "hour"),)),
        "/jobs": ("jobs.html", jobs_view.view_jobs, lambda request: (dict(request.query),)),
        "/job": ("job.html", jobs_view.view_job, lambda request: (_wanted(request, "id"),)),
        "/arrays": ("arrays.html", views.view_arrays, lambda request: ()),
        "/array": ("array.html", views.view_array, lambda request: (_wanted(request, "id"), _number(request, "first"))),
        "/task": (
            "task.html",
            views.view_task,
            lambda request: (_wanted(request, "id"), _number(request, "number") or 0),
        ),
        "/batches": ("batches.html", batches_view.view_batches, lambda request: ()),
        "/batch": (
            "batch.html",
            batches_view.view_batch,
            lambda request: (_wanted(request, "name"), request.query.get("variable", "")),
        ),
        "/workers": ("workers.html", views.view_workers, lambda request: ()),
        "/failures": ("failures.html", views.view_failures, lambda request: (request.query.get("since", ""),)),
    }
    for path, (template, view, read_words) in pages.items():
        app.router.add_get(path, _make_page(template, view, read_words))
    app.router.add_get("/output", _send_output)
    app.router.add_get("/follow", _follow_output)
    app.router.add_get("/events", _send_events)
    app.router.add_get("/metrics", _send_metrics)
    app.router.add_get("/assets/{name}", _send_asset)
    app.cleanup_ctx.append(_keep_looking)
    return app


def _wanted(request: web.Request, name: str) -> str:
    value = request.query.get(name, "")
    if not value:
        raise UsageError(reason=f"this address wants {name}=…")
    return value


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 15:
        raise UsageError(reason=f"{name}: {text[:40]!r} is no number")
    return int(text)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in who may come in, and make a page of each error."""
    access = request.app[_ACCESS]
    try:
        refused = access.refuse(request.headers)
        if refused is not None:
            return _error_page(403, "Not from there", refused)
        if request.method not in ("GET", "HEAD"):
            return _error_page(405, "Nothing is changed here", "this view only reads; the command line changes jobs")
        token = request.query.get("token")
        if token is not None:
            if not access.knows_token(token):
                return _error_page(403, "Another token", "use the address that `jobjar web` printed when it began")
            # The address without the token: what is in it stays in the browser's history.
            rest = {name: value for name, value in request.query.items() if name != "token"}
            away = web.HTTPSeeOther(str(request.rel_url.with_query(rest)))
            away.set_cookie(
                access.cookie_name,
                access.cookie,
                httponly=True,
                samesite="Strict",
                secure=access.scheme == "https",
                path="/",
            )
            raise away
        if not access.knows_cookie(request.cookies.get(access.cookie_name, "")) and not access.knows_bearer(
            request.headers.get("Authorization", "")
        ):
            return _error_page(
                401, "A token is wanted", "use the whole address that `jobjar web` printed when it began"
            )
        if any("\0" in value for value in request.query.values()):
            return _error_page(400, "That cannot be shown", "nothing is called so: there is a NUL in it")
        return _with_headers(await handler(request))
    except web.HTTPException as error:
        if error.status < 400:
            return _with_headers(error)
        return _error_page(error.status, "There is no such page", "the links above lead to all that there are")
    except JarError as error:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
        return _error_page(status, "That cannot be shown", str(error))
    except UNREADABLE as error:
        return _error_page(500, "The ledger cannot be read", str(name_error(error, "of this node")))
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        return _error_page(500, "The jar cannot be read", f"{name_refusal(error)}. Check the disk and the permissions")
    except Exception:
        # It goes on for all others. What a job is called may be in the text, so its escapes are shown.
        logging.getLogger(__name__).error("%s", printable(traceback.format_exc()))
        return _error_page(500, "That went wrong", "the terminal of `jobjar web` says how")


def _with_headers(response: web.StreamResponse) -> web.StreamResponse:
    if not response.prepared:
        response.headers.update(HEADERS)
    return response


def _error_page(status: int, title: str, what: str) -> web.Response:
    text = render("error.html", title=title, what=what, status=status)
    return _html(text, status)


def _html(text: str, status: int = 200) -> web.Response:
    body = text.encode("utf-8", "backslashreplace")
    response = web.Response(body=body, status=status, content_type="text/html", charset="utf-8")
    response.headers.update(HEADERS)
    return response


def _make_page(
    template: str, view: Callable[..., dict[str, Any]], read_words: Callable[[web.Request], tuple[Any, ...]]
) -> Handler:
    def question(jar: Jar, seen: Seen, kept: tuple[int, str] | None, *words: Any) -> tuple[int, str]:
        if kept is not None and kept[0] == seen.number:
            return kept
        values = view(jar, seen, *words)
        return seen.number, render(template, **views.view_frame(jar, seen), **{"title": "", "command": "", **values})

    async def handle(request: web.Request) -> web.StreamResponse:
        pages = request.app[_KEPT]
        key = str(request.rel_url)
        made = await request.app[_LOOKER].ask(question, pages.get(key), *read_words(request))
        # What a job writes, nobody journals.
        if len(made[1]) <= _LONGEST_KEPT and request.path != "/job":
            pages[key] = made
            pages.move_to_end(key)
            while len(pages) > _MOST_KEPT:
                pages.popitem(last=False)
        return _html(made[1])

    return handle


async def _send_asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in ASSETS:
        raise web.HTTPNotFound
    return web.Response(body=read_asset(name), content_type=ASSETS[name], charset="utf-8")


async def _send_metrics(request: web.Request) -> web.StreamResponse:
    text = await request.app[_LOOKER].ask(lambda jar, seen: format_status(jar, seen.status))
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})


def _open_output(jar: Jar, seen: Seen, word: str, number: int | None) -> tuple[OpenOutput | None, bool]:
    """A job's output, and whether the job may still write to it."""
    job = find_job(jar, word)
    path = find_output(jar, job, number)
    return None if path is None else OpenOutput(jar, path), job.state == "claimed"


async def _send_output(request: web.Request) -> web.StreamResponse:
    """All of an output as text. It is read as fast as it is taken."""
    output, _ = await request.app[_LOOKER].ask(_open_output, _wanted(request, "id"), _number(request, "attempt"))
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/plain; charset=utf-8"})
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox; frame-ancestors 'none'"
    response.headers["Content-Disposition"] = "inline"
    try:
        await response.prepare(request)
        offset, loop = 0, asyncio.get_running_loop()
        # A job that writes on is not followed here.
        end = 0 if output is None else output.size()
        while output is not None and offset < end and request.method == "GET":
            piece = await loop.run_in_executor(
                request.app[_READERS], output.read_piece, offset, min(_PIECE_BYTES, end - offset)
            )
            if not piece:
                break
            offset += len(piece)
            await asyncio.wait_for(response.write(piece), _TAKE_S)
        await response.write_eof()
    except (ConnectionError, TimeoutError):
        return response  # who asked has gone
    finally:
        if output is not None:
            output.close()
    return response


class _Stream:
    """An answer of server-sent events. Raises TimeoutError if its reader takes too long."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"})

    async def begin(self) -> web.StreamResponse:
        await self._response.prepare(self._request)
        return self._response

    async def send(self, event: str, text: str) -> None:
        lines = "".join(f"data: {line}\n" for line in text.split("\n"))
        await asyncio.wait_for(self._response.write(f"event: {event}\n{lines}\n".encode()), _SEND_S)

    async def beat(self) -> None:
        await asyncio.wait_for(self._response.write(b": still here\n\n"), _SEND_S)


async def _send_events(request: web.Request) -> web.StreamResponse:
    """The number of each look at which something changed."""
    listeners = request.app[_LISTENERS].queues
    if len(listeners) >= _MOST_LISTENERS:
        raise Busy()
    numbers: asyncio.Queue[int] = asyncio.Queue(1)
    stream = _Stream(request)
    response = await stream.begin()
    listeners.add(numbers)
    try:
        await stream.send("look", str(await request.app[_LOOKER].look()))
        while True:
            try:
                number = await asyncio.wait_for(numbers.get(), _BEAT_S)
            except TimeoutError:
                await stream.beat()
                continue
            await stream.send("look", str(number))
    except (ConnectionError, TimeoutError):
        return response
    finally:
        listeners.discard(numbers)


async def _follow_output(request: web.Request) -> web.StreamResponse:
    """What a job writes from now on, or from the byte `from` on."""
    word, number = _wanted(request, "id"), _number(request, "attempt")
    looker, loop = request.app[_LOOKER], asyncio.get_running_loop()
    output, is_open = await looker.ask(_open_output, word, number)
    stream = _Stream(request)
    response = await stream.begin()
    if output is None:
        return response
    try:
        size = output.size()
        offset = min(max(_number(request, "from") or 0, size - jobs_view.TAIL_BYTES), size)
        quiet_s = 0.0
        while True:
            piece = await loop.run_in_executor(request.app[_READERS], output.read_piece, offset, _PIECE_BYTES)
            if piece:
                # A character of several bytes is not cut in two, as far as there is a line.
                whole = piece[: piece.rfind(b"\n") + 1] or piece
                offset += len(whole)
                await stream.send("output", jobs_view.show_output(whole))
                quiet_s = 0.0
            elif not is_open:
                await stream.send("end", "")
                return response
            if len(piece) < _PIECE_BYTES:
                await asyncio.sleep(looker.every_s)
                quiet_s += looker.every_s
            if quiet_s >= _BEAT_S:
                await stream.beat()
                quiet_s = 0.0
            if not piece and is_open:
                is_open = await looker.ask(lambda jar, seen: find_job(jar, word).state == "claimed")
    except (ConnectionError, TimeoutError, JarError):
        return response
    finally:
        output.close()


async def _keep_looking(app: web.Application) -> Any:
    """Look while anybody listens, and tell them."""

    async def look() -> None:
        last = 0
        while True:
            await asyncio.sleep(app[_LOOKER].every_s)
            if not app[_LISTENERS].queues:
                continue
            with contextlib.suppress(JarError, OSError, *UNREADABLE):
                number = await app[_LOOKER].look()
                if number != last:
                    last = number
                    for numbers in list(app[_LISTENERS].queues):
                        if numbers.full():
                            numbers.get_nowait()
                        numbers.put_nowait(number)

    async def count() -> None:
        while True:
            has_more = False
            with contextlib.suppress(JarError, OSError, *UNREADABLE):
                has_more = await app[_LOOKER].count_past()
            await asyncio.sleep(_COUNT_S if has_more else _COUNT_AGAIN_S)

    tasks = [asyncio.create_task(look()), asyncio.create_task(count())]
    yield
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    app[_READERS].shutdown(wait=False, cancel_futures=True)
    app[_LOOKER].close()
