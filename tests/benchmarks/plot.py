"""A plot of latency over the number of connections, as SVG, from the rows of a benchmark."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from harness import Measured

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 420, 70, 50, 30, 190
_COLOURS = ("#1b6ca8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0f766e")


def latency_plot(rows: Sequence[Measured], *only: str) -> str:
    """Draw p50 (dashed) and p99 (solid) in milliseconds for each server, both axes logarithmic.

    Args:
        rows: Of the accept benchmark.
        only: Parts that the name of a load must have.
    """
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        if all(part in row.load for part in only) and (found := re.search(r"(\d+) conn\.", row.load)):
            for figure in ("p50_ms", "p99_ms"):
                lines.setdefault((row.server, figure), []).append((int(found.group(1)), row.extra[figure]))
    values = [value for points in lines.values() for _, value in points if value > 0]
    counts = sorted({count for points in lines.values() for count, _ in points})
    if not values:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>\n'
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))

    def x(count: int) -> float:
        share = math.log(count / counts[0]) / math.log(counts[-1] / counts[0]) if len(counts) > 1 else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(milliseconds: float) -> float:
        share = math.log(max(milliseconds, low) / low) / math.log(high / low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="18">Latency from MAIL to the reply after the final dot, ms ({escape(", ".join(only))})'
        "</text>",
    ]
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = y(10**exponent)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10**exponent:g}</text>')
    parts += [f'<text x="{x(n):.1f}" y="{_HEIGHT - 28}" text-anchor="middle">{n}</text>' for n in counts]
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 10}">connections; solid p99, dashed p50</text>')
    servers = list(dict.fromkeys(server for server, _ in lines))
    for (server, figure), points in lines.items():
        colour = _COLOURS[servers.index(server) % len(_COLOURS)]
        path = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in sorted(points))
        dash = ' stroke-dasharray="5 4"' if figure == "p50_ms" else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    for index, server in enumerate(servers):
        colour, at = _COLOURS[index % len(_COLOURS)], _TOP + 20 * index
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 14}" y="{at}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{at + 11}">{escape(server)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
