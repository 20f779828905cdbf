"""Pages as HTML, by the templates of this room. All that is put into them is quoted. Writes nothing."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup, escape

from jobjar.reports.listing import iso_time
from jobjar.text import printable_name
from jobjar.units import format_bytes, format_moment, format_rate, format_seconds
from jobjar.version import VERSION

_HERE = os.path.dirname(os.path.abspath(__file__))
ASSETS = {
    "style.css": "text/css",
    "live.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(f"{_HERE}/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=lambda moment: "" if moment is None else f"{format_seconds(max(0.0, time.time() - moment))} ago",
        age=lambda moment: "" if moment is None else format_seconds(max(0.0, time.time() - moment)),
        seconds=lambda value: "" if value is None else format_seconds(value),
        moment=lambda moment: "" if moment is None else format_moment(moment).replace("T", " "),
        iso=iso_time,
        bytes=lambda size: "" if size is None else format_bytes(int(size)),
        rate=lambda value: "" if value is None else format_rate(value),
        plain=lambda text: printable_name(str(text)),
        words=lambda text: printable_name(str(text)).replace("_", " "),
        count=lambda number: f"{number:,}",
        code=_mark_code,
        number=lambda number: f"{number:,.6g}",
    )
    environment.globals.update(address=address, version=VERSION)
    return environment


def _mark_code(text: str) -> Markup:
    """Text in which commands stand between backticks."""
    parts = printable_name(text).split("`")
    marked = (
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )
    return Markup("").join(marked)


def address(path: str, **query: object) -> str:
    """An address of this server, with what it asks for quoted. Fields that are None or "" are left out."""
    fields = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(fields, errors='replace')}" if fields else path


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def read_asset(name: str) -> bytes:
    """A file of `assets/`, which is one of ASSETS."""
    with open(f"{_HERE}/assets/{name}", "rb") as file:
        return file.read()
