"""Figures of docs/cluster.md."""

PAGE = "docs/cluster.md"
STATED = {"a share of 0.25 or less": "example of an option; no GPU was measured"}


def expected() -> list[str]:
    """Nothing on this page is measured."""
    return []
