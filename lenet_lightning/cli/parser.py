"""The parser of ``fit``, ``validate``, ``test`` and ``predict``."""

import re
from inspect import signature
from typing import Any, NoReturn, cast

import jsonargparse
import yaml
from lightning.pytorch.callbacks import GradientAccumulationScheduler, WeightAveraging
from lightning.pytorch.cli import LightningArgumentParser

from lenet_lightning import strict_yaml
from lenet_lightning.cli import messages
from lenet_lightning.cli.roles import ROLES
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training.accumulation import accumulation_schedule
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.weight_averaging import from_first_update

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
