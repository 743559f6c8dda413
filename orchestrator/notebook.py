"""Output in a Jupyter notebook: one cell's HTML, replaced in place."""

import sys
from typing import Any


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython  # noqa: PLC0415 - loaded by the kernel, not installed elsewhere

    return get_ipython() is not None


class NotebookCell:
    """HTML in the output of the running cell."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, page: str) -> None:
        """Show a page, in the place of the one before."""
        untyped: Any = sys.modules["IPython"].display
        if self._handle is None:
            self._handle = untyped.display(untyped.HTML(page), display_id=True)
        else:
            self._handle.update(untyped.HTML(page))
