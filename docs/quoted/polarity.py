"""Figures of docs/polarity/README.md."""

from __future__ import annotations

from statistics import fmean

from quoted.kept import benchmark, interval, paired, rows, span, spread, table, values

PAGE = "docs/polarity/README.md"
STATED = {
    "z = x - 0.5": "definition",
    "the shift by 0.5": "definition",
}
RESULTS = "polarity/results.csv"
GROUPS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
SETTINGS = {
    "plain": "plain, trained on originals",
    "half": "half of the training images negated",
    "random": "each negated with probability one half",
    "absolute": "`absolute`",
    "averaged": "`averaged`",
}


def altered(setting: str, perturbation: str, level: str = "") -> list[float]:
    """Return the accuracy of each seed on altered images."""
    return [
        float(row["accuracy"])
        for row in rows("polarity/robustness.csv", setting=setting, perturbation=perturbation)
        if row["level"] == level
    ]


def corruptions(setting: str) -> list[float]:
    """Return the mean accuracy of each seed over the corruptions of MNIST-C."""
    seeds: dict[str, list[float]] = {}
    for row in rows("polarity/robustness.csv", setting=setting, perturbation="corruption"):
        if row["level"] not in ("identity", "inverse"):
            seeds.setdefault(row["seed"], []).append(float(row["accuracy"]))
    return [fmean(values) for values in seeds.values()]


def differing(setting: str) -> str:
    """Write the share of images whose negative is classified differently, in per cent."""
    share = 100 * fmean(values(RESULTS, setting, "differing_predictions"))
    return f"{share:.2f}" if share else "0"


def comparison(group: str, construction: str) -> str:
    """Write the paired difference from the plain network, in points with its interval."""
    gain = paired(RESULTS, f"{group}_{construction}", f"{group}_plain")
    low, high = interval(gain, sign="+")
    low, high = (end.replace("+0.00", "0.00").replace("-0.00", "0.00") for end in (low, high))
    return f"{100 * fmean(gain):+.2f} ({low} to {high})"


def expected() -> list[str]:
    """Return the sentences and tables of the page with recomputed figures."""
    accuracies = []
    for group, title in GROUPS.items():
        accuracies.append((f"**{title}**", "", "", ""))
        for setting, name in SETTINGS.items():
            originals = values(RESULTS, f"{group}_{setting}")
            negatives = values(RESULTS, f"{group}_{setting}", "honest_accuracy_negative")
            accuracies.append(
                (
                    name,
                    spread(originals, unit=""),
                    spread(negatives, unit=""),
                    differing(f"{group}_{setting}"),
                )
            )
    steps = [
        row
        for workload in ("MNIST, batch 64", "CIFAR-10, batch 16")
        for row in (
            benchmark("polarity.csv", workload=workload, polarity=polarity)
            for polarity in ("plain", "absolute", "averaged")
        )
    ]
    quarter = [altered(f"mnist_{setting}", "inversion", "0.25") for setting in SETTINGS]
    return [
        table(*accuracies).replace("|  |  |  |", "| | | |"),
        table(
            *(
                (title, *(comparison(group, name) for name in ("absolute", "averaged")))
                for group, title in GROUPS.items()
            )
        ),
        table(
            *(
                (
                    f"{row['workload']}: plain"
                    if row["polarity"] == "plain"
                    else f"`{row['polarity']}`",
                    span(row, "ms", 2),
                    "1"
                    if row["polarity"] == "plain"
                    else f"{float(row['ratio_median']):.2f}",
                )
                for row in steps
            )
        ),
        table(
            *(
                (
                    title,
                    spread(altered(f"{group}_plain", "inversion", "0.5"), 1),
                    spread(altered(f"{group}_absolute", "inversion", "0.5"), 1),
                    f"{100 * fmean(altered(f'{group}_averaged', 'inversion', '0.5')):.1f} %",
                )
                for group, title in GROUPS.items()
            )
        ),
        f"on MNIST is {spread(quarter[3], 1)}, lower than the plain network's "
        f"{spread(quarter[0], 1)}.",
        table(
            *((title, *gain(f"{group}_absolute", f"{group}_plain"))
              for group, title in GROUPS.items())
        ),
    ]  # fmt: skip


def gain(first: str, second: str) -> tuple[str, str]:
    """Write the mean difference over the corruptions, with its interval."""
    pairs = zip(corruptions(first), corruptions(second), strict=True)
    differences = [a - b for a, b in pairs]
    return f"{100 * fmean(differences):+.1f}", "{} to {}".format(*interval(differences, 1))
