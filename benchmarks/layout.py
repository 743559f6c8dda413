"""Measure layout and language of a checkout: modules, imports, sizes, docstrings, words.

    .venv/bin/python benchmarks/layout.py [CHECKOUT] [--json | --offenders]
    .venv/bin/python benchmarks/layout.py --compare BEFORE AFTER

Sources are parsed and never imported, so any commit can be measured: `git worktree add DIR COMMIT`.
`tests/test_layout.py` holds this checkout to its bounds by the same functions.
"""

import argparse
import ast
import io
import json
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prose import KINDS, Text, Vocabulary, docstrings, locate, pages, texts, vocabulary
from sources import Layout, Module, cycles

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
REASON = re.compile(r"#.*PLC0415\s*-\s*\w")
"""Comment of an import inside a function: the suppressed rule, then the reason."""
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place that breaks a rule."""

    path: Path
    line: int
    text: str


def code_lines(module: Module) -> int:
    """Return the number of lines that hold more than comments and docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in docstrings(module.tree):
        lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def long_files(layout: Layout) -> list[Finding]:
    """Return the files of more than `MAX_FILE_LINES` lines."""
    lengths = [(module, module.source.count("\n")) for module in layout.modules.values()]
    return [
        Finding(path=module.path, line=1, text=f"{length} lines")
        for module, length in lengths
        if length > MAX_FILE_LINES
    ]


def _functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, _FUNCTION):
            yield node


def long_functions(layout: Layout) -> list[Finding]:
    """Return the functions of more than `MAX_FUNCTION_LINES` lines, docstrings included."""
    return [
        Finding(path=module.path, line=node.lineno, text=f"{node.name}: {length} lines")
        for module in layout.modules.values()
        for node in _functions(module)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def function_imports(layout: Layout) -> list[Finding]:
    """Return the import statements inside functions, of any module, with their source lines."""
    found = {}
    for module in layout.modules.values():
        lines = module.source.splitlines()
        for function in _functions(module):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    text = "\n".join(lines[node.lineno - 1 : node.end_lineno]).strip()
                    place = (module.path, node.lineno)
                    found[place] = Finding(path=module.path, line=node.lineno, text=text)
    return list(found.values())


def without_reason(imports: Iterable[Finding]) -> list[Finding]:
    """Return the imports inside functions that carry no reason (see `REASON`)."""
    return [found for found in imports if not REASON.search(found.text)]


def duplicate_classes(layout: Layout) -> list[Finding]:
    """Return every definition of a class whose name another class has too."""
    classes = defaultdict(list)
    for module in layout.modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append((module.path, node.lineno))
    return [
        Finding(path=path, line=line, text=name)
        for name, places in sorted(classes.items())
        if len(places) > 1
        for path, line in places
    ]


def public_definitions(module: Module) -> list[tuple[Finding, bool]]:
    """Return what is public in a module, each with whether it has a docstring.

    The module itself, its functions and classes and their methods; neither names with a leading
    underscore (so no special methods) nor overloads, setters and what a function defines.
    """
    if module.path.stem.startswith("_") and module.path.stem != "__init__":
        return []
    top = Finding(path=module.path, line=1, text=module.name)
    found = [(top, ast.get_docstring(module.tree) is not None)]

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if not isinstance(node, _NAMED) or node.name.startswith("_") or _repeats(node):
                continue
            name = f"{prefix}{node.name}"
            named = Finding(path=module.path, line=node.lineno, text=name)
            found.append((named, ast.get_docstring(node) is not None))
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{name}.")

    visit(module.tree.body, "")
    return found


def _repeats(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a definition repeats a documented one (an overload or a setter)."""
    return any(ast.unparse(mark).endswith(("overload", ".setter")) for mark in node.decorator_list)


def undocumented(layout: Layout) -> list[Finding]:
    """Return the public definitions without a docstring."""
    found = [pair for module in layout.modules.values() for pair in public_definitions(module)]
    return [named for named, documented in found if not documented]


def docstring_coverage(layout: Layout) -> float:
    """Return the share of public definitions that have a docstring, 0 to 1."""
    count = sum(len(public_definitions(module)) for module in layout.modules.values())
    return 1 - len(undocumented(layout)) / count


def prose_of(layout: Layout) -> list[Text]:
    """Return all prose of a checkout: docstrings, comments and messages of its code, its pages."""
    code = layout.modules.values()
    found = [text for module in code for text in texts(module.path, module.source, module.tree)]
    return [*found, *pages(layout.root)]


def dialect(found: Iterable[Text], words: Vocabulary) -> list[Finding]:
    """Return every use of a word that the dictionary replaces."""
    return [
        Finding(path=text.path, line=locate(text, word), text=f"{word} -> {words.use[word]}")
        for text in found
        for word in words.dialect(text.text)
    ]


def dialect_rate(found: Iterable[Text], words: Vocabulary) -> float:
    """Return the words that the dictionary replaces, per 1,000 words."""
    found = list(found)
    count = sum(len(words.words(text.text)) for text in found)
    return 1000 * sum(len(words.dialect(text.text)) for text in found) / max(count, 1)


def question_openings(found: Iterable[Text]) -> list[Finding]:
    """Return the texts that open with a question word (see `prose.QUESTION`)."""
    return [
        Finding(path=text.path, line=text.line, text=" ".join(text.text.split())[:80])
        for text in found
        if text.opens_with_question
    ]


def question_rate(found: Iterable[Text]) -> float:
    """Return the share of texts that open with a question word, 0 to 1."""
    found = list(found)
    return len(question_openings(found)) / max(len(found), 1)


def judged(found: Iterable[Text]) -> list[Text]:
    """Return the prose that the bounds are for: all but comments."""
    return [text for text in found if text.kind != "comment"]


def cycle_imports(layout: Layout) -> list[Finding]:
    """Return the imports that close a cycle at run time, those inside functions included."""
    groups = cycles(layout.arrows())
    return [
        Finding(
            path=layout.modules[found.importer].path,
            line=found.line,
            text=f"{found.importer} -> {found.imported} ({found.kind})",
        )
        for found in layout.imports
        if found.kind != "typing"
        and any(found.importer in group and found.imported in group for group in groups)
    ]


def offenders(layout: Layout, words: Vocabulary) -> dict[str, list[Finding]]:
    """Return every finding by the rule that it breaks."""
    found = prose_of(layout)
    inside = function_imports(layout)
    return {
        "Imports in a cycle": cycle_imports(layout),
        "Duplicate class names": duplicate_classes(layout),
        f"Files over {MAX_FILE_LINES} lines": long_files(layout),
        f"Functions over {MAX_FUNCTION_LINES} lines": long_functions(layout),
        "Imports inside functions without a reason": without_reason(inside),
        "Imports inside functions": inside,
        "Public definitions without a docstring": undocumented(layout),
        "Texts that open with a question word": question_openings(judged(found)),
        "Dialect words": dialect(found, words),
    }


def figures(layout: Layout, words: Vocabulary) -> dict[str, float]:
    """Return the figures of a checkout by name."""
    modules = layout.modules.values()
    found = prose_of(layout)
    inside = function_imports(layout)
    circles = cycles(layout.arrows())
    kinds = {"": judged(found)}
    kinds |= {f" in {kind}s": [text for text in found if text.kind == kind] for kind in KINDS}
    return {
        "modules": len(modules),
        "files in the widest folder": max(layout.folders().values()),
        "lines": sum(module.source.count("\n") for module in modules),
        "lines of code": sum(code_lines(module) for module in modules),
        "import arrows between modules": len(layout.arrows()),
        "import arrows between folders": len(layout.folder_arrows()),
        "import arrows inside orchestrator/": len(layout.child_arrows("orchestrator")),
        "import cycles": len(circles),
        "modules in an import cycle": sum(len(circle) for circle in circles),
        "import cycles inside orchestrator/": len(cycles(layout.child_arrows("orchestrator"))),
        "imports for type checking only": sum(i.kind == "typing" for i in layout.imports),
        "imports inside functions": len(inside),
        "imports inside functions without a reason": len(without_reason(inside)),
        "public definitions with a docstring, %": 100 * docstring_coverage(layout),
        **{f"dialect words per 1,000{k}": dialect_rate(of, words) for k, of in kinds.items()},
        **{f"question openings, %{k}": 100 * question_rate(of) for k, of in kinds.items()},
        "class names defined twice": len({found.text for found in duplicate_classes(layout)}),
        f"functions over {MAX_FUNCTION_LINES} lines": len(long_functions(layout)),
        f"files over {MAX_FILE_LINES} lines": len(long_files(layout)),
    }


def table(columns: dict[str, dict[str, float]]) -> str:
    """Return figures as a Markdown table, one column a checkout."""
    names = next(iter(columns.values()))
    rows = [["", *columns], ["---", *("---:" for _ in columns)]]
    rows += [[name, *(f"{round(each[name], 2):,}" for each in columns.values())] for name in names]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        f"| {row[0]:{widths[0]}} | "
        + " | ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        + " |"
        for row in rows
    )


def listing(layout: Layout, words: Vocabulary) -> str:
    """Return every finding as Markdown, by the rule that it breaks."""
    lines = []
    for rule, findings in offenders(layout, words).items():
        lines += [f"\n## {rule}: {len(findings)}\n"]
        lines += sorted(
            f"- {layout.where(found.path, found.line)} {found.text}" for found in findings
        )
    return "\n".join(lines)


def main() -> None:
    """Print the figures of one checkout or of two, or the findings of one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--offenders", action="store_true", help="list what breaks a rule")
    options = parser.parse_args()
    words = vocabulary()
    if options.offenders:
        print(listing(Layout.read(options.checkout), words))
        return
    checkouts = options.compare or [options.checkout]
    columns = {str(root): figures(Layout.read(root), words) for root in checkouts}
    print(json.dumps(columns, indent=2) if options.json else table(columns))


if __name__ == "__main__":
    main()
