"""Plotly figures as HTML pages, with plotly.js included or loaded from the network."""

import plotly.graph_objects as go

_WITHOUT_NETWORK = (
    "<script>window.Plotly||document.write('While its search runs, this page loads plotly.js from "
    "the network. At the end of the search it is replaced by one that needs no network.')</script>"
)


def to_page(figure: go.Figure, *, offline: bool) -> str:
    """Return a complete HTML page.

    Args:
        figure: The figure.
        offline: Whether it opens without a network; plotly.js then makes it 5 MB large.
    """
    if offline:
        return str(figure.to_html(include_plotlyjs=True, full_html=True))
    html: str = figure.to_html(include_plotlyjs="cdn", full_html=True)
    return html.replace("</body>", f"{_WITHOUT_NETWORK}</body>")
