"""A digest of the code that decides the numbers of a run."""

import ast
import hashlib
import re
import tomllib
from functools import cache
from pathlib import Path

DECIDING = ("data/", "networks/", "training/", "callbacks/run_callbacks.py", "process.py")
"""Data, networks, training, the choice of the best epoch, and how floats are computed."""

# A string, which is kept, or a comment.
C_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*', re.DOTALL)


@cache
def code_version(package: Path = Path(__file__).parents[1]) -> str:
    """Return 16 hexadecimal digits that change with the code that decides the numbers of a run.

    Comments, docstrings, layout and the messages of errors do not count, so that rewording one
    leaves finished runs valid. Defaults of options outside of ``DECIDING`` are part of a run's
    configuration.
    """
    digest = hashlib.sha256()
    plain = {".py": plain_python, ".c": plain_c, ".toml": lambda text: repr(tomllib.loads(text))}
    for path in sorted(p for p in package.rglob("*") if p.suffix in plain):
        name = path.relative_to(package).as_posix()
        if name.startswith(DECIDING):
            text = path.read_text(encoding="utf-8")
            digest.update(f"{name}\n{plain[path.suffix](text)}\n".encode())
    return digest.hexdigest()[:16]


def plain_c(text: str) -> str:
    """Return C without comments, every run of white space as one space."""
    return " ".join(C_COMMENT.sub(lambda found: found[1] or " ", text).split())


def plain_python(text: str) -> str:
    """Return Python as the parser writes it, without comments, docstrings and errors' messages."""
    return ast.unparse(_Plain().visit(ast.parse(text)))


class _Plain(ast.NodeTransformer):
    """Removes what cannot change a number."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Replace a text that stands alone: a docstring."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Leave the arguments of an exception out: a run that raised has no numbers."""
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(raised)
