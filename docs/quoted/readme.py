"""Figures of README.md."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from statistics import fmean

from quoted import best, polarity
from quoted.kept import DOCS, interval, rows, spread, table, values

PAGE = "README.md"
REPORT = "report/results.csv"
STATED = {
    "in about ten seconds, or twenty the first time": "runs on two cores",
    "| `MNIST` | 12 MB |": "lenet_lightning/data/registry.py",
    "| `KMNIST` | 21 MB |": "lenet_lightning/data/registry.py",
    "| `FashionMNIST` | 31 MB |": "lenet_lightning/data/registry.py",
    "| `CIFAR10` | 139 MB |": "lenet_lightning/data/registry.py",
    "| `EMNISTLetters`, `EMNISTBalanced` | 560 MB |": "lenet_lightning/data/registry.py",
    "Python 3.11 or later": "pyproject.toml",
    "a learning rate of 0.05": "configs/studies/report.yaml",
}


def ends(setting: str, column: str) -> str:
    """Write a mean in per cent with its interval in brackets."""
    shares = values(REPORT, setting, column)
    return f"{100 * fmean(shares):.2f} % [{', '.join(interval(shares))}]"


def study_minutes() -> str:
    """Write the wall time of the report's study in minutes."""
    runs = [
        (datetime.fromisoformat(row["started"]), timedelta(seconds=float(row["seconds"])))
        for row in rows(REPORT)
    ]
    end = max(start + length for start, length in runs)
    return f"{(end - min(start for start, _ in runs)) / timedelta(minutes=1):.0f} minutes"


def expected() -> list[str]:
    """Return the sentences and tables of the page with recomputed figures."""
    groups = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
    invariance = {
        "mnist_plain": "plain, trained on originals",
        "mnist_half": "half of the training images negated",
        "mnist_absolute": "`model.network.invariance: absolute`",
    }
    rate = "cifar10_lr_0.05"
    students = (
        (best.FOURTH, "mnist", values(best.FOURTH, "mnist_alone")),
        (best.THIRD, "fashion_mnist", values(best.THIRD, "fashion_mnist_alone")),
        (best.FIRST, "cifar10", best.cifar10_single()),
    )
    fast = "fast/results.csv"
    text = (DOCS / "report" / "report.md").read_text()
    verdicts = re.search(r"Of (\d+) claims: (\d+) reproduced, (\d+) not .*?(\d+) undecided", text)
    assert verdicts
    claims, reproduced, _, undecided = verdicts.groups()
    return [
        f"Of its {claims} claims",
        f"{reproduced} are reproduced",
        f"{undecided} need more seeds",
        f"{study_minutes()} for {len(rows(REPORT))} runs",
        f"it never leaves {100 * max(values(REPORT, rate, 'best_accuracy')):.0f} %",
        table(
            *(
                (
                    f"{title}, Adam, he_normal",
                    ends(f"{group}_adam", "best_accuracy"),
                    ends(f"{group}_adam", "honest_accuracy"),
                )
                for group, title in groups.items()
            )
        ),
        table(
            *(
                (
                    title,
                    spread(values(polarity.RESULTS, setting)),
                    spread(values(polarity.RESULTS, setting, "honest_accuracy_negative")),
                    spread(polarity.altered(setting, "inversion", "0.5")),
                )
                for setting, title in invariance.items()
            )
        ),
        table(
            *(
                (
                    groups[group],
                    spread(values(path, f"{group}_taught")),
                    spread(values(path, f"{group}_taught", best.TTA)),
                    spread(single),
                    f"{spread(values(fast, f'{group}_recipe'))} after "
                    f"{rows(fast, setting=f'{group}_recipe')[0]['epochs']}"
                    f"{' epochs' if group == 'mnist' else ''}",
                )
                for path, group, single in students
            )
        ),
    ]
