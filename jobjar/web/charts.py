"""Charts as SVG, drawn here: bars, lines, time lines, tiles. Shapes only, that fit any width; words stand beside them in HTML.

Every colour is a class of the style sheet, so light and dark, and a printer, have their own. Reads and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 1000.0, 240.0


class Series(NamedTuple):
    """Values with a name; `kind` is the class that colours them."""

    name: str
    kind: str
    values: Sequence[float]


class Piece(NamedTuple):
    """A piece of a time line: from when to when, its class, what it is, and where it leads."""

    begins_at: float
    ends_at: float
    kind: str
    title: str
    address: str = ""


def nice_top(value: float) -> float:
    """A round number that is at least this."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def draw_bars(series: Sequence[Series], label: str) -> Markup:
    """Bars, the series one on the other."""
    count = max((len(each.values) for each in series), default=0)
    sums = [sum(each.values[number] for each in series) for number in range(count)]
    top = nice_top(max(sums, default=0.0))
    wide = _WIDTH / max(count, 1)
    gap = min(2.0, wide * 0.15)
    shapes = []
    for number in range(count):
        y = _HEIGHT
        for each in series:
            height = each.values[number] / top * _HEIGHT
            if height > 0:
                height = max(height, 2.0)
                y -= height
                shapes.append(_rect(number * wide + gap / 2, y, wide - gap, height, each.kind))
    return _svg(shapes, label, "bars")


def draw_area(values: Sequence[float], kind: str, label: str) -> Markup:
    """A filled line of values at equal distances."""
    top = nice_top(max(values, default=0.0))
    step = _WIDTH / max(len(values) - 1, 1)
    points = [f"{number * step:.1f},{_HEIGHT - value / top * _HEIGHT:.1f}" for number, value in enumerate(values)]
    if not points:
        return _svg([], label, "area")
    area = f'<polygon class="area {kind}" points="0,{_HEIGHT:g} {" ".join(points)} {_WIDTH:g},{_HEIGHT:g}"/>'
    return _svg([area, f'<polyline class="line {kind}" points="{" ".join(points)}"/>'], label, "area")


def draw_lines(lines: Sequence[Sequence[tuple[float, float]]], label: str, with_points: bool = True) -> Markup:
    """Lines of (x, y), all on the same axes from the least to the greatest of each."""
    every = [point for line in lines for point in line]
    if not every:
        return _svg([], label, "lines")
    (left, right), (low, high) = (spread([point[axis] for point in every]) for axis in (0, 1))
    shapes = []
    for number, line in enumerate(lines):
        placed = [((x - left) / (right - left) * _WIDTH, _HEIGHT - (y - low) / (high - low) * _HEIGHT) for x, y in line]
        kind = f"hue{number % 6}"
        if len(placed) > 1:
            shapes.append(f'<polyline class="line {kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>')
        if with_points and len(every) <= 2000:
            # A stroke of no length: its width is not stretched with the chart.
            shapes += [f'<path class="point {kind}" d="M{x:.1f} {y:.1f}h0"/>' for x, y in placed]
    return _svg(shapes, label, "lines")


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest value, a little apart if they are one."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def draw_time_line(pieces: Sequence[Piece], since: float, until: float, label: str) -> Markup:
    """Pieces on one line of time."""
    span = max(until - since, 1e-3)
    shapes = []
    for piece in pieces:
        left = max(0.0, (piece.begins_at - since) / span * _WIDTH)
        right = min(_WIDTH, (piece.ends_at - since) / span * _WIDTH)
        if right < 0 or left > _WIDTH:
            continue
        shape = _rect(left, 0, max(right - left, 1.5), 24, piece.kind, piece.title)
        if piece.address:
            # They are reached by keyboard in the table beside them, which has each of them too.
            shape = _link(shape, piece.address, piece.title)
        shapes.append(shape)
    return _svg(shapes, label, "time", 24.0)


def draw_tiles(kinds: Sequence[tuple[str, str, str]], columns: int, label: str) -> Markup:
    """Squares, row by row, each by its class, its title, and the address to which it leads ("": to none)."""
    rows = max(1, math.ceil(len(kinds) / columns))
    shapes = []
    for number, (kind, title, address) in enumerate(kinds):
        row, column = divmod(number, columns)
        shape = _rect(column * 10 + 0.5, row * 10 + 0.5, 9, 9, kind, title)
        shapes.append(_link(shape, address, title) if address else shape)
    return _svg(shapes, label, "tiles", rows * 10.0, columns * 10.0, is_stretched=False)


def _link(shape: str, address: str, title: str) -> str:
    return f'<a href="{escape(address)}" tabindex="-1" aria-label="{escape(title)}">{shape}</a>'


def _rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    about = f"<title>{escape(title)}</title>" if title else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place}>{about}</rect>' if about else f'<rect class="{kind}" {place}/>'


def _svg(
    shapes: Sequence[str],
    label: str,
    kind: str,
    height: float = _HEIGHT,
    width: float = _WIDTH,
    is_stretched: bool = True,
) -> Markup:
    # A picture may have no links in it for who is read to.
    role = "group" if any(shape.startswith("<a ") for shape in shapes) else "img"
    stretch = ' preserveAspectRatio="none"' if is_stretched else ""
    return Markup(
        f'<svg class="chart {kind}" viewBox="0 0 {width:g} {height:g}"{stretch} role="{role}" aria-label="{escape(label)}">'
        f"{''.join(shapes)}</svg>"
    )
