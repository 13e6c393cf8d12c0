"""The docs site: ``sphinx-build -W docs docs/_build`` (``pip install -e '.[docs]'`` first)."""

import contextlib
import io
import os
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from lenet_lightning import __version__
from lenet_lightning.__main__ import main

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
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

# Written anew by every build: the API reference, and the cards of the shipped networks.
shutil.rmtree(DOCS / "api", ignore_errors=True)
shutil.rmtree(DOCS / "networks", ignore_errors=True)
(DOCS / "networks").mkdir()
for card in sorted((ROOT / "lenet_lightning" / "weights").glob("*.md")):
    PAGES[f"networks/{card.stem}"] = str(card.relative_to(ROOT))
    (DOCS / "networks" / card.name).touch()


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Begin a page with its file from outside docs/, and let links lead to pages of the site."""
    file = ROOT / PAGES.get(name, f"docs/{name}.md")
    folder = (DOCS / name).parent
    pages = {ROOT / path: DOCS / f"{page}.md" for page, path in PAGES.items()}

    def link(match: re.Match[str]) -> str:
        text, target, rest = match.groups()
        path = Path(os.path.normpath(file.parent / target))
        if path.is_dir():
            return text
        return f"[{text}]({os.path.relpath(pages.get(path, path), folder)}{rest or ''})"

    if name in PAGES:
        source[0] = file.read_text() + source[0].partition(HERE)[2]
    if name == "sharing":
        source[0] += '\n<a href="draw.html">Draw a digit here.</a>\n'
    source[0] = re.sub(r"\[([^\[\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)", link, source[0])


def draw(app: Sphinx, exception: Exception | None) -> None:
    """Write the page to draw on beside the pages of the site."""
    page = Path(app.outdir) / "draw.html"
    page.unlink(missing_ok=True)
    words = ["export", "--pretrained", "mnist_polarity", "--format", "html", "--output", str(page)]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(words)
    if code and exception is None:
        raise ExtensionError(output.getvalue())


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("source-read", read_page)
    app.connect("build-finished", draw)
