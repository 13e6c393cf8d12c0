"""What a sweep ends with: a table, Optuna's plots in an HTML page, and the study of the best."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from lenet_lightning import files, plotting, strict_yaml
from lenet_lightning.study.report import document as doc
from lenet_lightning.study.report.page import to_html
from lenet_lightning.study.sweep.trials import ERROR, Trials, quiet, text

PAGE, TRIALS, STUDY = "sweep.html", "trials.csv", "best.yaml"
PLOTS = {
    "plot_optimization_history": "The value of each trial, and the best so far.",
    "plot_parallel_coordinate": "The values of each trial on the axes of the options.",
    "plot_param_importances": "The share of the differences that each option explains.",
}


def write(trials: Trials) -> None:
    """Write the page, its table as CSV, and the study of the best settings."""
    table = trials_table(trials)
    chosen = best(trials)
    blocks: list[doc.Block] = [doc.Paragraph(summary(trials)), table]
    if chosen:
        study = trials.folder / STUDY
        files.replace(study, strict_yaml.dumps(trials.sweep.study(chosen)))
        blocks += [
            doc.Heading("The best settings"),
            doc.Paragraph(
                "The best of many trials is better on its validation images than it will be "
                "elsewhere. The study of the best settings trains them with new seeds and tests "
                "each once:"
            ),
            doc.Code(f"python -m lenet_lightning study --config {shlex.quote(str(study))}"),
        ]
    blocks += [doc.Heading("Plots"), doc.Gallery(plots(trials))]
    files.replace(trials.folder / TRIALS, doc.to_csv(table))
    files.replace(trials.folder / PAGE, to_html(f"Sweep {trials.sweep.name}", blocks))


def summary(trials: Trials) -> str:
    """How many trials ended in which way, and what they were chosen on."""
    states = [state(trial) for trial in trials.ended().values()]
    counts = ", ".join(f"{states.count(each)} {each}" for each in sorted(set(states)))
    repeats = trials.sweep.repeats
    kind = "folds" if "data.fold" in repeats[0] else "seeds"
    of = f" (mean of {len(repeats)} {kind})" if len(repeats) > 1 else ""
    return (
        f"{len(states)} of {trials.sweep.trials} trials: {counts}. They are compared by the best "
        f"`{trials.monitor}`{of} of each; no trial saw a test image."
    )


def ranked(trials: Trials) -> list[tuple[int, Any]]:
    """The trials that are over with their numbers, the best first, those without a value last."""
    sign = 1 if trials.minimised else -1
    return sorted(
        trials.ended().items(),
        key=lambda item: (
            (0, sign * item[1].value) if state(item[1]) == "complete" else (1, 0.0),
            item[0],
        ),
    )


def best(trials: Trials) -> dict[str, dict[str, Any]]:
    """The values of the best trials, by the name of their setting."""
    complete = [(i, trial) for i, trial in ranked(trials) if state(trial) == "complete"]
    return {f"trial_{i}": dict(trial.params) for i, trial in complete[: trials.sweep.best]}


def state(trial: Any) -> str:
    """How a trial ended: complete, pruned or failed."""
    return {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())


def trials_table(trials: Trials) -> doc.Table:
    """A row for each trial that is over, the best first."""
    rows = [
        {
            "trial": str(index),
            trials.monitor: text(trial.value) if state(trial) == "complete" else "",
            **{key: text(trial.params.get(key, "")) for key in trials.sweep.space},
            "status": trial.user_attrs.get(ERROR) or state(trial),
        }
        for index, trial in ranked(trials)
    ]
    numeric = frozenset(range(2 + len(trials.sweep.space)))
    return doc.Table.of(rows, "Trials, the best first", numeric=numeric)


def best_table(trials: Trials) -> doc.Table:
    """The first rows of the table, for the terminal."""
    table = trials_table(trials)
    return replace(table, rows=table.rows[: trials.sweep.best], caption=summary(trials))


def plots(trials: Trials) -> list[doc.Picture]:
    """Optuna's plots; fewer where trials are too few or too alike for one."""
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as optuna_plots

    found = []
    for name, caption in PLOTS.items():
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of axes of one value
            try:
                axes = getattr(optuna_plots, name)(trials.study)
            except (ValueError, RuntimeError, ZeroDivisionError):
                continue  # one value, or one trial
        figure: Figure = axes.figure
        figure.set_size_inches(9, 5)
        found.append(doc.Picture(name, caption, caption, plotting.to_png(figure, 100), wide=True))
        pyplot.close(figure)
    return found
