"""Print the shape of the package as Markdown: ``python docs/architecture.py [--files | --write]``.

One row a room (a folder or module directly under ``lenet_lightning``) or, with ``--files``, one row
a file: lines, lines of code, the class with most methods, the longest function and parameter list.
"""

import argparse
import ast
import re
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "lenet_lightning"
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Shape(NamedTuple):
    """The size of some files.

    Attributes:
        files: number of files.
        lines: number of lines.
        code: those of Python that are not blank, a comment or part of a docstring.
        methods: most methods of a class.
        function: lines of the longest function.
        parameters: most parameters of a function, ``self`` left out.
    """

    files: int
    lines: int
    code: int
    methods: int
    function: int
    parameters: int


def code_lines(text: str, nodes: list[ast.AST]) -> int:
    """Count the lines of Python that are not blank, a comment or part of a docstring."""
    texts = [  # a statement that is only a string: a docstring
        node
        for node in nodes
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    documented = {n for node in texts for n in range(node.lineno, (node.end_lineno or 0) + 1)}
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in documented
        for number, line in enumerate(text.splitlines(), start=1)
    )


def measure(path: Path) -> Shape:
    """Return the shape of one file; a file that is not Python has lines only."""
    text = path.read_text()
    nodes = list(ast.walk(ast.parse(text))) if path.suffix == ".py" else []
    functions = [node for node in nodes if isinstance(node, Function)]
    methods = [
        sum(isinstance(member, Function) for member in node.body)
        for node in nodes
        if isinstance(node, ast.ClassDef)
    ]
    parameters = [
        sum(arg.arg not in ("self", "cls") for arg in (*f.args.args, *f.args.kwonlyargs))
        for f in functions
    ]
    length = [(f.end_lineno or f.lineno) - f.lineno + 1 for f in functions]
    most = (max(values, default=0) for values in (methods, length, parameters))
    code = code_lines(text, nodes) if nodes else 0
    return Shape(1, text.count("\n"), code, *most)


def together(shapes: list[Shape]) -> Shape:
    """Return the shape of several files: sums of files and lines, maxima of the rest."""
    files, lines, code, *most = zip(*shapes, strict=True)
    return Shape(sum(files), sum(lines), sum(code), *map(max, most))


def table(folder: Path, files: bool) -> str:
    """Return the table of a folder's rooms, or of its files."""
    groups: dict[str, list[Shape]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".c")):
        parts = path.relative_to(folder).parts
        groups.setdefault("/".join(parts) if files else parts[0], []).append(measure(path))
    lines = [
        "| | files | lines | code | most methods | longest function | most parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    everything = [shape for shapes in groups.values() for shape in shapes]
    for room, shapes in {**groups, "all": everything}.items():
        lines.append(f"| {' | '.join(map(str, (f'`{room}`', *together(shapes))))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print one table, or put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true", help="one row a file")
    parser.add_argument("--write", action="store_true", help="renew the table in architecture.md")
    parser.add_argument("folder", nargs="?", type=Path, default=PACKAGE)
    options = parser.parse_args()
    rows = table(options.folder, options.files)
    if not options.write:
        print(rows, end="")
        return
    page = Path(__file__).with_suffix(".md")
    text, count = re.subn(r"\| \| files \|.*?\n(?!\|)", rows, page.read_text(), flags=re.DOTALL)
    assert count == 1, "no table in the page"
    page.write_text(text)


if __name__ == "__main__":
    main()
