"""Figures of docs/cluster.md."""

PAGE = "docs/cluster.md"
STATED = {
    "a share of 0.25 or less": "example of an option; no GPU was measured",
    "1,024": "docs/performance.md, the table of devices",
}


def expected() -> list[str]:
    """Nothing on this page is measured."""
    return []
