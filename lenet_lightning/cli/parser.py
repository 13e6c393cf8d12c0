"""The options of ``fit``, ``validate``, ``test`` and ``predict`` beside trainer, model and data."""

import re
from inspect import signature
from typing import Any, Literal, NoReturn, cast

import jsonargparse
import yaml
from jsonargparse.typing import PositiveInt
from lightning.pytorch.callbacks import GradientAccumulationScheduler, WeightAveraging
from lightning.pytorch.cli import LightningArgumentParser

from lenet_lightning import strict_yaml
from lenet_lightning.cli import messages
from lenet_lightning.cli.roles import ROLES
from lenet_lightning.data.splits import Seed
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training import weights
from lenet_lightning.training.accumulation import accumulation_schedule
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.weight_averaging import from_first_update

Monitor = Literal["val/acc", "val/loss", "val/acc_negative", "val/loss_negative"]
Resume = Literal["never", "auto", "must"]

# The parser's mode: how it reads values and writes configurations.
MODE = "strict_yaml"

# Arguments of the model that are set from options of the data or of everything.
LINKED = ("seed", "channels", "classes")

# Keys of one invocation, not of a run.
TRANSIENT = ("resume", "ckpt_path", "pretrained", "output", "allow_imports", "config")

PURPOSES = {
    "fit": "Train a network, select its best epoch on validation images, and test that epoch.",
    "validate": "Evaluate a network on its validation images.",
    "test": "Evaluate a network on the test set.",
    "predict": "Classify your own pictures, or a dataset's test images.",
}
# What --ckpt_path names, for fit and for the others.
START = (
    "checkpoint from which to resume with the settings given here, or a run folder for its last; "
    "to resume a run unchanged, use --resume"
)
TRAINED = (
    "a trained network's checkpoint, such as lightning_logs/mnist/version_0/checkpoints/best.ckpt, "
    "a run folder for its best, or a pattern of several"
)


def load_value(text: str) -> Any:
    """Read a value given inline; ``{seed}`` in a name is a text, not a mapping to nothing."""
    value = strict_yaml.loads(text)
    return text if isinstance(value, dict) and value and ":" not in text else value


jsonargparse.set_loader(MODE, load_value, (yaml.YAMLError,))
jsonargparse.set_dumper(MODE, strict_yaml.dumps)


class Parser(LightningArgumentParser):
    """LightningCLI's parser, whose errors are one sentence."""

    def instantiate(self, *args: Any, **kwargs: Any) -> jsonargparse.Namespace:
        """Build the objects of a configuration; some callbacks as this package needs them."""
        own = [
            (from_first_update, WeightAveraging, True),
            (accumulation_schedule, GradientAccumulationScheduler, True),
        ]
        return super().instantiate(*args, instantiators=own, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Return the help as plain text: docstrings are reStructuredText."""
        text = super().format_help(*args, **kwargs)
        text = re.sub(r":\w+:\s*`~?([^`]+)`", lambda m: "".join(m[1].split()).split(".")[-1], text)
        return re.sub(r"`{1,2}([^`]+)`{1,2}", r"\1", text)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ``UserError`` in place of printing the usage; inner parsers report to the outer."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise UserError(messages.explain(message, self)) from ex


def add_overview(parser: LightningArgumentParser, data: type) -> None:
    """Add the options of model and data as they are typed, for help."""
    linked = {*LINKED}
    parser.add_class_arguments(LeNet5, "model.network", skip={"in_channels", "num_classes"})
    parser.add_class_arguments(Classifier, "model", skip=linked | {"network"}, fail_untyped=False)
    parser.add_class_arguments(data, "data", skip=linked & {*signature(data).parameters})
    names = ", ".join(path.rpartition(".")[2] for path in ROLES["data"])
    groups = cast(dict[str, Any], parser.groups)
    groups["model.network"].title = "Network: LeNet5, or --model.network with a class of your own"
    groups["model"].title = "Model and training"
    groups["data"].title = f"Data, one of {names}; --data.help NAME lists its options"


def add_seed(parser: LightningArgumentParser) -> None:
    """Add the seed of everything."""
    parser.add_argument(
        "--seed_everything",
        type=Seed,
        default=0,
        help="seed of initialisation, data order and augmentation",
    )


def add_options(parser: LightningArgumentParser, command: str) -> None:
    """Add the options of a command beside those of trainer, model and data."""
    add = parser.add_argument
    fit, predict = command == "fit", command == "predict"
    add("--ckpt_path", type=str | None, default=None, help=START if fit else TRAINED)
    if fit:
        add(
            "--resume",
            type=Resume,
            default="never",
            help="continue the newest unfinished run of this very configuration (auto: if "
            "there is one, must: fail if there is none)",
        )
        add(
            "--skip_test",
            type=bool,
            default=False,
            help="end with validation and leave the test set alone, while settings are chosen",
        )
    else:
        add(
            "--pretrained",
            type=str | None,
            default=None,
            help="in place of --ckpt_path, a trained network of this package: "
            f"{', '.join(weights.names())}" + ("; mnist by default" if predict else ""),
        )
    if predict:
        add(
            "--output",
            type=str | None,
            default=None,
            help="CSV file of the predictions, or a folder for it; the contact sheet is the .png "
            "beside it. By default predictions.csv in the run folder, or here",
        )
    # torchrun takes --logs and --monitor for abbreviations of its own options.
    add("--logs", "--run_root", type=str, default="lightning_logs", help="folder of all runs")
    add(
        "--name",
        type=str | None,
        default=None,
        help="runs go to logs/name/version_N, {seed} in it being the run's seed; the dataset's "
        "name by default",
    )
    add(
        "--monitor",
        "--select_by",
        type=Monitor,
        default="val/acc",
        help="metric that selects the best epoch",
    )
    add(
        "--threads",
        type=PositiveInt | Literal["auto"] | None,
        default="auto",
        help="processor threads; auto is what is measured to be the fastest with the fused kernel, "
        "again and again while other programs come and go; null, or without it, torch's own choice",
    )
    add(
        "--allow_imports",
        type=list[str] | str,
        default=[],
        help="further packages, or functions, that the configuration may name",
    )
