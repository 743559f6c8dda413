"""Every page is in the navigation of the site; every link and file in Markdown exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.commands.registry import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
OUTSIDE_THE_SITE = {"SECURITY.md"}
"""Only for those who look for it in the top folder; it links to the page."""
HISTORY = {"CHANGELOG.md", "decisions.md"}
"""May name files as they were called then."""
_CODE = re.compile(r"^(?:```.*?^```| {4}[^\n]*)$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"`((?:orchestrator|search_spaces|workers|tests|benchmarks)/[\w/.]+)`")
_NEW_FILE = re.compile(r"^1\. `.*`:$", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def pages_of(navigation: Any) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
        return
    for entry in navigation.values() if isinstance(navigation, dict) else navigation:
        yield from pages_of(entry)


def anchors(page: Path) -> set[str]:
    titles = _HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_navigation_of_the_site_names_every_page() -> None:
    navigation = list(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(navigation) == sorted({page.name for page in PAGES} - OUTSIDE_THE_SITE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_resolves(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_CODE.sub("", page.read_text("utf-8"))):
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = "" if page.name in HISTORY else page.read_text("utf-8")
    named = _FILE.findall(_NEW_FILE.sub("", text))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_page_of_commands_has_each_command_under_its_purpose() -> None:
    sections = (ROOT / "docs" / "commands.md").read_text("utf-8").split("\n## ")
    named = {section.splitlines()[0].lower(): section for section in sections}
    assert [n for n, c in COMMANDS.items() if f"| `{n}" not in named[c.group]] == []
