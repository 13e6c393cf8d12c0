"""The short table that ends ``fit`` and ``test``."""

from collections.abc import Sequence
from statistics import NormalDist, mean, stdev


def wilson_interval(share: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share of ``count`` independent trials (Wilson 1927).

    Args:
        share: observed share in [0, 1].
        count: number of trials, >= 1.
        confidence: in (0, 1).
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    return max(0.0, center - half), min(1.0, center + half)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean of independent values.

    Args:
        values: two or more.
        confidence: in (0, 1).
    """
    from scipy import stats  # here, for a run of its own needs none

    count = len(values)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * stdev(values) / count**0.5
    return mean(values) - half, mean(values) + half


def table(figures: dict[str, float], count: int) -> str:
    """Return accuracy, its 95 % interval over ``count`` images, and loss, a line for each kind.

    Args:
        figures: acc, loss, acc_negative, loss_negative; acc_views and loss_views if there are any.
        count: images evaluated.
    """
    lines = [f"{'':12}{'accuracy':>10}{'95 % interval':>20}{'loss':>10}"]
    for label, suffix in (("originals", ""), ("negatives", "_negative"), ("views", "_views")):
        if f"acc{suffix}" not in figures:
            continue
        accuracy, loss = figures[f"acc{suffix}"], figures[f"loss{suffix}"]
        low, high = wilson_interval(accuracy, count)
        interval = f"{low:.2%} to {high:.2%}"
        lines.append(f"{label:12}{accuracy:>10.2%}{interval:>20}{loss:>10.4f}")
    return "\n".join(lines)


def networks_table(
    figures: Sequence[dict[str, float]],
    labels: Sequence[str],
    together: dict[str, float] | None = None,
) -> str:
    """Return accuracies and losses, a line for each network, their mean and its 95 % interval.

    Args:
        figures: acc, loss, acc_negative and loss_negative of each; acc_views where there are any.
        labels: what to call each network.
        together: such figures of all networks as one, for a line at the end.
    """
    columns = {"accuracy": "acc", "negatives": "acc_negative", "views": "acc_views", "loss": "loss"}
    columns = {title: key for title, key in columns.items() if key in figures[0]}
    rows = dict(zip(labels, figures, strict=True))
    if len(figures) > 1:
        series = {key: [own[key] for own in figures] for key in columns.values()}
        rows["mean"] = {key: mean(values) for key, values in series.items()}
        bounds = {key: mean_interval(values) for key, values in series.items()}
        for key, (low, high) in bounds.items():  # of few networks it is wider than what can be
            bounds[key] = max(0.0, low), high if key == "loss" else min(1.0, high)
        for i, label in enumerate(("95 % from", "95 % to")):
            rows[label] = {key: pair[i] for key, pair in bounds.items()}
        if together:
            rows["ensemble"] = together
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{title:>12}" for title in columns)]
    forms = {key: ".4f" if key == "loss" else ".2%" for key in columns.values()}
    for label, own in rows.items():
        cells = (f"{own[key]:{form}}" if key in own else "" for key, form in forms.items())
        lines.append(f"{label:{width}}" + "".join(f"{cell:>12}" for cell in cells).rstrip())
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Format a time for people: ``48 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
