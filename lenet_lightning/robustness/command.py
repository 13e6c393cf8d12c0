"""``python -m lenet_lightning robustness``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_lightning import arguments
from lenet_lightning.arguments import Parser, positive, seed
from lenet_lightning.errors import UserError
from lenet_lightning.signals import interruptible

if TYPE_CHECKING:
    from lenet_lightning.robustness.detection import Detection
    from lenet_lightning.robustness.evaluate import Row, Trained
    from lenet_lightning.study.plan import Study
    from lenet_lightning.study.results import Result

DESCRIPTION = """Measure where the networks of a study break: their accuracy on test images of
other contrast and brightness, reversed in part, under the corruptions of MNIST-C and under
adversarial attacks (FGSM, PGD); and how well networks of MNIST detect images of Fashion-MNIST, and
the reverse. Writes robustness.csv, robustness.md, out_of_distribution.csv and a figure for each
group."""
DETECTIONS = "out_of_distribution.csv"


def main(args: Sequence[str]) -> int:
    """Run the command line ``args`` (without the word ``robustness``); return the exit code.

    Raises:
        UserError: bad arguments, no study with finished runs, or a checkpoint or dataset that is
            absent or damaged.
        OSError: a folder cannot be written.
        Interrupted: Ctrl-C or SIGTERM; nothing is half-written.
    """
    options = make_parser().parse_args(args)

    # Imported here: `robustness --help` answers without torch.
    from lenet_lightning import files
    from lenet_lightning.robustness import report
    from lenet_lightning.study import results
    from lenet_lightning.study.report import tables
    from lenet_lightning.study.report.document import pictures, to_markdown

    with interruptible():
        study = results.read_study(options.folder)
        found = results.gather(study, options.folder)
        output = files.make_folder(options.output or options.folder)
        rows, detections = measure(study, found, options)
        command = shlex.join(["python", "-m", "lenet_lightning", "robustness", *args])
        blocks = report.build(study, found, rows, detections, command)
        contents: dict[str, str | bytes] = {
            "robustness.csv": tables.to_csv([row._asdict() for row in rows]),
            **{f"{picture.name}.png": picture.png for picture in pictures(blocks)},
            "robustness.md": to_markdown(f"{study.title}: robustness", blocks, place=""),
        }
        if detections:
            contents[DETECTIONS] = tables.to_csv([each._asdict() for each in detections])
        for name, content in contents.items():
            files.replace(output / name, content)
            print(output / name)
    return 0


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = arguments.make_parser("robustness", DESCRIPTION)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="the study's folder: lightning_logs/polarity"
    )
    parser.add_argument("--root", help="folder of the datasets; the runs' own by default")
    parser.add_argument(
        "--seed", type=seed, default=0, help="of noise, lines and so on (default: 0)"
    )
    parser.add_argument(
        "--images",
        type=positive,
        metavar="N",
        help="evaluate the first N test images; all by default",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write; FOLDER unless given"
    )
    arguments.add_imports(parser)
    return parser


def measure(
    study: Study, found: Sequence[Result], options: argparse.Namespace
) -> tuple[list[Row], list[Detection]]:
    """Return the rows of every finished run, dataset by dataset, and what they detect.

    Where the dataset to detect is absent, which is said, nothing is detected.

    Raises:
        UserError: there is no finished run, or one cannot be read.
    """
    from tqdm import tqdm

    from lenet_lightning.data.registry import DATASETS
    from lenet_lightning.robustness import detection, evaluate
    from lenet_lightning.robustness.perturbations import LEVELS
    from lenet_lightning.store.configuration import data_options

    finished = [result for result in found if result.status == "finished"]
    networks = [evaluate.load(result, options.allow_imports) for result in finished]
    if not networks:
        raise UserError(
            f"{options.folder} holds no finished run of the study '{study.name}': let "
            "'study --config FILE' finish one."
        )
    by_dataset: dict[str, list[Trained]] = {}
    for trained in networks:
        by_dataset.setdefault(trained.dataset, []).append(trained)
    # All data first: what is absent is missed before the work begins.
    data = {
        name: evaluate.test_set(
            own[0].spec, own[0].config, own[0].result.path, options.root, options.images
        )
        for name, own in by_dataset.items()
    }
    rows: list[Row] = []
    detections: list[Detection] = []
    for name, own in by_dataset.items():
        total = len(LEVELS) + len(own)
        with tqdm(desc=f"{name}, {len(own)} networks", total=total, unit="level") as bar:
            rows += evaluate.evaluate(own, *data[name], options.seed, bar.update)
        if other := detection.OTHERS.get(name):
            root = str(options.root or data_options(own[0].config).get("root", "datasets"))
            try:
                detections += evaluate.detect(own, data[name][0], other, root, options.images)
            except UserError as error:
                title = DATASETS[other].title
                print(f"{title} was not tried as out of distribution: {error}", file=sys.stderr)
    return rows, detections
