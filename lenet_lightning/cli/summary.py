"""Tables of accuracy and loss that ``fit``, ``validate`` and ``test`` print."""

from collections.abc import Sequence
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from lenet_lightning import formatting
from lenet_lightning.statistics import mean_interval, wilson


def table(figures: dict[str, float], count: int) -> str:
    """Return accuracy, its 95 % interval over ``count`` images, and loss, a line for each kind.

    Args:
        figures: acc, loss, acc_negative, loss_negative; acc_views and loss_views if there are any.
        count: images evaluated.
    """
    rows = [["", "accuracy", "95 % interval", "loss"]]
    for label, suffix in (("originals", ""), ("negatives", "_negative"), ("views", "_views")):
        if f"acc{suffix}" not in figures:
            continue
        accuracy, loss = figures[f"acc{suffix}"], figures[f"loss{suffix}"]
        low, high = wilson(accuracy, count)
        interval = f"{low:.2%} to {high:.2%}"
        rows.append([label, f"{accuracy:.2%}", interval, formatting.loss(loss)])
    return formatting.columns(rows)


def class_table(logits: Tensor, labels: Tensor, names: Sequence[str]) -> str:
    """Return the accuracy on each class, with its 95 % interval over the images of the class.

    Args:
        logits: float ``[2, images, classes]``, of originals and negatives.
        labels: int64 ``[images]``.
        names: class names; of more than 20, the 20 with the lowest accuracy on originals.
    """
    metric = MulticlassAccuracy(len(names), average="none")
    accuracy = torch.stack([metric(each.argmax(1), labels) for each in logits])
    counts = labels.bincount(minlength=len(names))
    order = accuracy[0].argsort(stable=True)[:20].tolist()
    chosen = range(len(names)) if len(names) <= 20 else order
    rows = [["class", "images", "originals", "95 % interval", "negatives"]]
    for number in chosen:
        count, (original, negative) = int(counts[number]), accuracy[:, number].tolist()
        if count:
            low, high = wilson(original, count)
            shares = f"{original:.2%}", f"{low:.2%} to {high:.2%}", f"{negative:.2%}"
            rows.append([names[number], str(count), *shares])
    return formatting.columns(rows)


def calibration_table(logits: Tensor, labels: Tensor) -> str:
    """Return how far probabilities can be trusted, on originals and on negatives.

    The expected calibration error has 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599).
    The Brier score is the sum of squared errors over the classes, between 0 and 2. Negative
    log-likelihood is the cross-entropy without penalties, in nats.

    Args:
        logits: float ``[2, images, classes]``, of originals and negatives.
        labels: int64 ``[images]``.
    """
    classes = logits.shape[2]
    metric = MulticlassCalibrationError(classes, n_bins=15)
    rows = [["calibration", "ECE", "Brier", "95 % interval", "NLL", "95 % interval"]]
    for label, each in zip(("originals", "negatives"), logits, strict=True):
        probabilities = each.softmax(1)
        errors = (probabilities - F.one_hot(labels, classes)).square().sum(1)
        cells = [label, f"{float(metric(probabilities, labels)):.4f}"]
        for values in (errors, F.cross_entropy(each, labels, reduction="none")):
            low, high = mean_interval(values.tolist())
            cells += [
                formatting.loss(float(values.mean())),
                f"{formatting.loss(max(0.0, low))} to {formatting.loss(high)}",
            ]
        rows.append(cells)
    return formatting.columns(rows)


def networks_table(
    figures: Sequence[dict[str, float]],
    labels: Sequence[str],
    ensemble: dict[str, float] | None = None,
) -> str:
    """Return accuracies and losses, a line for each network, their mean and its 95 % interval.

    Args:
        figures: acc, loss, acc_negative and loss_negative of each; acc_views where there are any.
        labels: what to call each network.
        ensemble: such figures of the ensemble, for a line at the end.
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
        if ensemble:
            rows["ensemble"] = ensemble
    lines = [["", *columns]]
    for label, own in rows.items():
        cells = {key: f"{value:.2%}" for key, value in own.items()}
        cells["loss"] = formatting.loss(own["loss"])
        lines.append([label, *(cells.get(key, "") for key in columns.values())])
    return formatting.columns(lines)
