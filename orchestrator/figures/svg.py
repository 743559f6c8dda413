"""SVG shapes of our drawings, as text on a white background.

Without a library: every trial gets a drawing, in well under a millisecond.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

INK = "#1e293b"
PALE = "#64748b"
_FONT = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True, kw_only=True)
class Color:
    """Colors of a rectangle's area and border."""

    fill: str
    edge: str


BLUE = Color(fill="#dbeafe", edge="#2563eb")
ORANGE = Color(fill="#ffedd5", edge="#ea580c")
GREEN = Color(fill="#bbf7d0", edge="#15803d")
PURPLE = Color(fill="#ede9fe", edge="#7c3aed")
GRAY = Color(fill="#f1f5f9", edge="#64748b")
FRAME = Color(fill="#fafafa", edge="#cbd5e1")


def document(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """Return a complete drawing; screen readers read the title."""
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    background = f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} font-family="{_FONT}">\n'
        f"<title>{escape(title)}</title>\n{background}\n" + "\n".join(parts) + "\n</svg>\n"
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 12,
    bold: bool = False,
    fill: str = INK,
    anchor: str = "middle",
) -> str:
    """Return one line of text with its baseline at y."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}" '
        f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
    )


def rectangle(
    x: float, y: float, width: float, height: float, color: Color, *, corner: float = 6
) -> str:
    """Return a rectangle with rounded corners."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{corner:g}" '
        f'fill="{color.fill}" stroke="{color.edge}" stroke-width="1.5"/>'
    )


def path(steps: str, *, color: str = PALE, width: float = 1.5) -> str:
    """Return an open line along SVG path steps."""
    return f'<path d="{steps}" fill="none" stroke="{color}" stroke-width="{width:g}"/>'


def polyline(points: Sequence[tuple[float, float]], *, color: str, width: float = 2) -> str:
    """Return a line through points."""
    through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{through}" fill="none" stroke="{color}" stroke-width="{width:g}"/>'


def dot(x: float, y: float, radius: float, *, color: str) -> str:
    """Return a filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color}"/>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return a curve with an arrowhead, horizontal at both ends."""
    middle = (x + to_x) / 2
    line = f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"
    head = f"M{to_x - 6:g} {to_y - 4:g}L{to_x:g} {to_y:g}L{to_x - 6:g} {to_y + 4:g}"
    return path(line) + path(head)
