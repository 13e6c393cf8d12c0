"""The docs site: ``sphinx-build -W docs docs/_build`` (``pip install -e '.[docs]'`` first)."""

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

from lenet_lightning import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # pages of the site that are files outside docs/
    "index": "README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "run_folders": "lightning_logs/README.md",
}
HERE = "<!-- on the site, the file is above this line -->"

project = "lenet_lightning"
author = "the lenet_lightning authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "quoted"]
highlight_language = "none"  # of blocks that name none
html_theme = "furo"
html_title = f"lenet_lightning {release}"
myst_heading_anchors = 3  # links to headings, as on GitHub
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # public names are documented in their modules too

shutil.rmtree(ROOT / "docs" / "api", ignore_errors=True)  # written by autosummary in every build


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Begin a page with a file from outside docs/, whose links become links as seen from docs/."""
    if name not in PAGES:
        return
    folder = (ROOT / PAGES[name]).parent
    names = {ROOT / path: f"{page}.md" for page, path in PAGES.items()}

    def link(match: re.Match[str]) -> str:
        target = folder / match[1]
        inside = target.is_relative_to(ROOT / "docs")
        seen = (
            str(target.relative_to(ROOT / "docs")) if inside else f"../{target.relative_to(ROOT)}"
        )
        return f"]({names.get(target, seen)}"

    text = re.sub(r"\]\(([^)#:]+)", link, (ROOT / PAGES[name]).read_text())
    source[0] = text + source[0].partition(HERE)[2]


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("source-read", read_page)
