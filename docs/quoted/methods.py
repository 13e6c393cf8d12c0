"""Figures of docs/methods.md."""

from __future__ import annotations

import re

from quoted.kept import DOCS
from scipy import stats

PAGE = "docs/methods.md"
STATED = {
    "in [0, 1]": "definition",
    "5,000 in the recipes": "val_size in configs/best and configs/fast",
    "90 % of the training images": "definition of data.protocol holdout",
    "confidence 1 - 0.05 / k": "definition; lenet_lightning/study/claims.py",
    "hold at once with 95 % confidence": "definition",
    "torch 2.15, lightning 2.6": "docs/report/report.md, How it was made",
    "Python 3.11": "docs/report/report.md, How it was made",
}


def expected() -> list[str]:
    """Return the sentences of the page with recomputed figures."""
    three, five = (stats.t.ppf(0.975, n - 1) / n**0.5 for n in (3, 5))
    report = (DOCS / "report" / "report.md").read_text()
    claims = re.search(r"Of (\d+) claims", report)
    assert claims
    return [
        f"is {three:.2f} for n = 3 and {five:.2f} for n = 5",
        f"three of {claims[1]} verdicts",
    ]
