"""The prose of a checkout (docstrings, comments, messages, pages) and the words to avoid in it.

The words are those of `docs/dictionary.txt`, which codespell reads too; what codespell is set to
ignore in `pyproject.toml` is ignored here as well.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DICTIONARY = ROOT / "docs" / "dictionary.txt"
KINDS = ("docstring", "message", "page", "comment")
MIN_MESSAGE_WORDS = 3
"""A string constant of fewer words counts as a name or a key, not as a message."""
QUESTION = re.compile(r"\W*(what|who|whom|whose|whether|where|when|why|how|which)\b", re.IGNORECASE)
WORD = re.compile("[\\w\\-'\u2019]+")
"""How codespell splits a text into words."""

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One piece of prose.

    Attributes:
        path: File that it is in.
        line: First line.
        kind: One of `KINDS`. Docstrings include those of attributes; a page counts by paragraphs.
        text: The text itself.
    """

    path: Path
    line: int
    kind: str
    text: str

    @property
    def opens_with_question(self) -> bool:
        """Whether the first word is a question word."""
        return QUESTION.match(self.text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words to avoid.

    Attributes:
        use: What to write instead, by word.
        ignored: Passages in which no word counts.
    """

    use: dict[str, str]
    ignored: re.Pattern[str]

    def words(self, text: str) -> list[str]:
        """Return the words of a text in lower case, without the passages that are ignored."""
        return WORD.findall(self.ignored.sub(" ", text).lower())

    def dialect(self, text: str) -> list[str]:
        """Return the words of a text that the dictionary replaces."""
        return [word for word in self.words(text) if word in self.use]


def vocabulary() -> Vocabulary:
    """Return the project's dictionary with what `[tool.codespell]` ignores."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"].get("codespell", {})
    kept = set(re.split(r"[\s,]+", settings.get("ignore-words-list", "")))
    entries = (line.split("->") for line in DICTIONARY.read_text().splitlines())
    use = {word: instead.rstrip(",") for word, instead in entries if word not in kept}
    return Vocabulary(use=use, ignored=re.compile(settings.get("ignore-regex", r"(?!)")))


def docstrings(tree: ast.Module) -> list[ast.Constant]:
    """Return the docstrings of a module and all in it, attributes included."""
    found = []
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        previous: ast.AST = node
        for statement in body if isinstance(body, list) else []:
            described = isinstance(previous, (*_DOCUMENTED, ast.Assign, ast.AnnAssign))
            first = previous is not node or isinstance(node, _DOCUMENTED)
            match statement:
                case ast.Expr(value=ast.Constant(value=str()) as text) if described and first:
                    found.append(text)
            previous = statement
    return found


def texts(path: Path, source: str, tree: ast.Module) -> Iterator[Text]:
    """Yield the docstrings, messages and comments of one Python file.

    A message is approximated as any other string constant of at least `MIN_MESSAGE_WORDS` words;
    an f-string is one message, with "..." in place of its values.
    """
    documentation = docstrings(tree)
    for node in documentation:
        yield Text(path=path, line=node.lineno, kind="docstring", text=str(node.value))
    for line, text in _strings(tree, {id(node) for node in documentation}):
        if len(text.split()) >= MIN_MESSAGE_WORDS:
            yield Text(path=path, line=line, kind="message", text=text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(path=path, line=token.start[0], kind="comment", text=token.string)


def _strings(node: ast.AST, documentation: set[int]) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string constant below `node` that is no docstring."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value
        return
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
        yield node.lineno, "".join(map(str, parts))
        children = [part for part in children if not isinstance(part, ast.Constant)]
    for child in children:
        yield from _strings(child, documentation)


def pages(root: Path) -> Iterator[Text]:
    """Yield the paragraphs of the Markdown files in the top folder and below `docs/`."""
    for path in sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")]):
        line = 1
        for paragraph in re.split(r"(\n\s*\n)", path.read_text()):
            if paragraph.strip():
                yield Text(path=path, line=line, kind="page", text=paragraph)
            line += paragraph.count("\n")


def locate(text: Text, word: str) -> int:
    """Return the line of the file on which a word of a text first is, at the earliest its own."""
    lines = text.path.read_text().splitlines()
    after = range(text.line, len(lines) + 1)
    found = (number for number in after if word in WORD.findall(lines[number - 1].lower()))
    return next(found, text.line)
