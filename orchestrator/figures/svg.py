"""The few shapes that our drawings need, as SVG text on a white ground.

No library: a drawing is made for every trial, in well under a millisecond.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

INK = "#1e293b"
PALE = "#64748b"
_FONT = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """How one kind of thing is told from others."""

    fill: str
    edge: str


BLUE = Colour(fill="#dbeafe", edge="#2563eb")
ORANGE = Colour(fill="#ffedd5", edge="#ea580c")
GREEN = Colour(fill="#bbf7d0", edge="#15803d")
PURPLE = Colour(fill="#ede9fe", edge="#7c3aed")
GREY = Colour(fill="#f1f5f9", edge="#64748b")
FRAME = Colour(fill="#fafafa", edge="#cbd5e1")


def document(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A whole drawing; the title is what a screen reader says."""
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    ground = f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} font-family="{_FONT}">\n'
        f"<title>{escape(title)}</title>\n{ground}\n" + "\n".join(parts) + "\n</svg>\n"
    )


def words(
    x: float,
    y: float,
    text: str,
    *,
    size: float = 12,
    bold: bool = False,
    fill: str = INK,
    anchor: str = "middle",
) -> str:
    """One line of text whose baseline is at y."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}" '
        f'text-anchor="{anchor}"{weight}>{escape(text)}</text>'
    )


def box(
    x: float, y: float, width: float, height: float, colour: Colour, *, corner: float = 6
) -> str:
    """A rectangle with round corners."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{corner:g}" '
        f'fill="{colour.fill}" stroke="{colour.edge}" stroke-width="1.5"/>'
    )


def path(steps: str, *, colour: str = PALE, width: float = 1.5) -> str:
    """An open line along SVG path steps."""
    return f'<path d="{steps}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def polyline(points: Sequence[tuple[float, float]], *, colour: str, width: float = 2) -> str:
    """A line through points."""
    through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{through}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def dot(x: float, y: float, radius: float, *, colour: str) -> str:
    """A filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """A line that leaves and arrives level, with a head at its end."""
    middle = (x + to_x) / 2
    line = f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"
    head = f"M{to_x - 6:g} {to_y - 4:g}L{to_x:g} {to_y:g}L{to_x - 6:g} {to_y + 4:g}"
    return path(line) + path(head)
