"""Figures of docs/reliability.md."""

PAGE = "docs/reliability.md"
STATED = {
    "5,000 to 10,000 in the nightly run": "tests/store",
    "10,000 configurations in the nightly run": "tests/faults/test_config_properties.py",
}


def expected() -> list[str]:
    """Nothing on this page is measured."""
    return []
