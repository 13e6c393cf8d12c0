"""``python -m lenet_lightning data``: fetch, verify and show the datasets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lenet_lightning import arguments, files
from lenet_lightning.arguments import Parser
from lenet_lightning.data import fetch, show
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError

DESCRIPTION = """Fetch, verify or show the datasets.

fetch   bring what is absent or damaged
verify  print the digests of the stored files, and whether they are right
show    print the statistics of originals and negatives, and save a figure of both"""


def main(args: list[str]) -> int:
    """Run the command line `args` (without the word ``data``); return the exit code.

    0: done and right. 1: `verify` found a file absent or damaged. 2: some datasets of ``all``
    could not be had. 130: interrupted.

    Raises:
        UserError: bad arguments, or the one dataset named is not available.
    """
    options = _parser().parse_args(args)
    everything = options.name.lower() == "all"
    names = list(DATASETS) if everything else [fetch.find_dataset(options.name).name]
    if options.output and (options.action != "show" or everything):
        raise UserError("data: --output names the one picture that `show NAME` saves.")
    action = {"fetch": _fetch, "verify": _verify, "show": _show}[options.action]
    code = 0
    try:
        for name in names:
            try:
                code = max(code, action(name, options))
            except UserError as error:
                if not everything:
                    raise
                print(error, file=sys.stderr)
                code = 2
    except KeyboardInterrupt:
        print("Interrupted; no file is half-written.", file=sys.stderr)
        return 130
    return code


def _parser() -> Parser:
    parser = arguments.make_parser("data", DESCRIPTION)
    parser.add_argument("action", choices=("fetch", "verify", "show"))
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(DATASETS)} or all")
    parser.add_argument(
        "--root", default="datasets", help="folder with one folder per dataset (default: datasets)"
    )
    parser.add_argument(
        "--download",
        action="store_true",
        default=True,
        help="use the network for what is absent or damaged (default)",
    )
    parser.add_argument(
        "--no_download", action="store_false", dest="download", help="do not use the network"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.png",
        help="picture that show saves (default: ROOT/NAME_negatives.png)",
    )
    return parser


def _fetch(name: str, options: argparse.Namespace) -> int:
    fetched = fetch.fetch(name, options.root, options.download)
    folder = fetch.stored_folder(DATASETS[name], options.root)
    print(f"{name}: {len(fetched)} files fetched; all are proven in {folder}.")
    return 0


def _verify(name: str, options: argparse.Namespace) -> int:
    checks = fetch.verify(name, options.root)
    print(f"{name} in {fetch.stored_folder(DATASETS[name], options.root)}")
    for check in checks:
        print(f"  {check.name}: {check.problem or 'ok'}")
        if check.sha256:
            print(f"    md5     {check.md5}\n    sha256  {check.sha256}")
    if any(check.problem for check in checks):
        print(f"  {fetch.fetch_command(name, options.root)} brings what is absent or damaged.")
        return 1
    return 0


def _show(name: str, options: argparse.Namespace) -> int:
    path = options.output or Path(options.root) / f"{name}_negatives.png"
    if path.suffix.lower() != ".png":
        raise UserError(f"data: --output {path} must end in .png.")
    dataset = fetch.load(name, options.root, options.download)
    found = show.statistics(dataset)
    train, test = (len(split.labels) for split in (dataset.train, dataset.test))
    print(f"{name}: {train:,} training and {test:,} test images, as 32x32 input, values 0..255")
    print("\n".join(f"  {line}" for line in show.statistics_table(found)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.written(path, show.picture(dataset, found)):
            pass
    except OSError as error:
        raise UserError(
            f"The picture {path} cannot be written ({error.strerror or error}): name another "
            "with --output."
        ) from error
    print(f"  {path}")
    return 0 if found.residual == 0 else 1
