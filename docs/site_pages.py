"""MkDocs hook: make the Markdown files of the top folder pages of the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LINK = re.compile(r"\]\((?:docs/|\.\./)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are outside of `docs/`."""
    for name in PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page with links between the top folder and `docs/` as links within the site."""
    return _LINK.sub("](", markdown)
