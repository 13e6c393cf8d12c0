"""Figures of docs/reliability.md."""

PAGE = "docs/reliability.md"
STATED = {
    "200 random examples": "tests/conftest.py",
    "10,000 in the nightly run": "tests/conftest.py",
}


def expected() -> list[str]:
    """Nothing on this page is measured."""
    return []
