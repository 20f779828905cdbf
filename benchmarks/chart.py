"""A line chart as SVG with two logarithmic axes. A figure that grows with the size has a slope; one that does not is level."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 80, 340, 20, 50
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf")


def draw_chart(x_label: str, y_label: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw the lines by name, each through its points. All numbers must be above 0."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_powers, y_powers = _powers(xs), _powers(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x) - x_powers[0]) / (x_powers[-1] - x_powers[0])
        up = (math.log10(y) - y_powers[0]) / (y_powers[-1] - y_powers[0])
        return LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle"),
        _text(LEFT, TOP - 6, y_label, "end"),
    ]
    for power in x_powers:
        x, _ = place(10.0**power, 10.0 ** y_powers[0])
        parts += [
            _line([(x, TOP), (x, HEIGHT - BOTTOM)], "#ddd", 1),
            _text(x, HEIGHT - BOTTOM + 18, f"{10**power:,}", "middle"),
        ]
    for power in y_powers:
        _, y = place(10.0 ** x_powers[0], 10.0**power)
        parts += [_line([(LEFT, y), (WIDTH - RIGHT, y)], "#ddd", 1), _text(LEFT - 8, y + 4, f"{10.0**power:g}", "end")]
    for number, (name, points) in enumerate(lines.items()):
        colour, dashes = COLOURS[number // 2 % len(COLOURS)], "" if number % 2 == 0 else "6 4"
        placed = [place(x, y) for x, y in points]
        y = TOP + 20 + 22 * number
        key = [(WIDTH - RIGHT + 15, y - 4), (WIDTH - RIGHT + 45, y - 4)]
        parts += [
            _line(placed, colour, 2, dashes),
            _line(key, colour, 2, dashes),
            _text(WIDTH - RIGHT + 52, y, name, "start"),
        ]
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
    return "\n".join([*parts, "</svg>", ""])


def _powers(values: Iterable[float]) -> range:
    """The powers of ten that enclose the values."""
    logs = [math.log10(value) for value in values] or [0.0]
    least = math.floor(min(logs))
    return range(least, max(math.ceil(max(logs)), least + 1) + 1)


def _line(points: Sequence[tuple[float, float]], colour: str, width: int, dashes: str = "") -> str:
    along = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{along}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
