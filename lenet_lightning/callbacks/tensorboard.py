"""What a run shows in TensorBoard beside its scalars."""

from __future__ import annotations

import copy
import shlex
import warnings
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from lenet_lightning import strict_yaml
from lenet_lightning.callbacks.recorder import images_seen, in_percent
from lenet_lightning.data.batches import Images, to_unit
from lenet_lightning.data.datamodule import ImageDataModule
from lenet_lightning.data.polarity import negate
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import run_folder
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import metric_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLARITIES = ("originals", "negatives")
CHANNELS = {1: ("",), 3: ("red", "green", "blue")}
SAMPLED_CLASSES = 20  # at most
MISTAKES = 16  # of each polarity

LAYOUT = {
    polarity: {
        "accuracy (%)": ["Multiline", [f"(train|val|test)/acc{suffix}_percent$"]],
        "loss": ["Multiline", [f"(train|val|test)/loss{suffix}$"]],
    }
    for polarity, suffix in (("Originals", ""), ("Negatives", "_negative"))
}
"""The tab of custom scalars: training and validation in one chart."""

# Settings that cannot change a result, or that are named by others.
UNINTERESTING = ("trainer.logger", "trainer.callbacks", "data.fill")


class TensorBoardPictures(Callback):
    """Shows data, network and mistakes in TensorBoard, and fills its text and hparams tabs.

    When training starts: the command and the configuration, sample images beside their negatives,
    the graph and the first layer's filters. After the test that ends a fit, all of the best
    checkpoint: the filters, the confusion matrices and the worst mistakes of both polarities, the
    test's figures, the hyperparameters. Accuracies are in per cent throughout. Epochs cost nothing.
    Nothing is written without a TensorBoardLogger.

    Args:
        folder: of the run.
        config: its complete configuration.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder, self.config = folder, config
        self.continued = any(folder.glob("events.out.tfevents.*"))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the hyperparameters, which the logger keeps in hparams.yaml."""
        if logger := tensorboard(trainer):
            logger.log_hyperparams(hyperparameters(self.config))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the data and the untrained network, unless an earlier session of the run has."""
        logger = tensorboard(trainer)
        if logger is None or self.continued:
            return
        classifier = cast(Classifier, pl_module)
        network = classifier.network
        command = shlex.join(run_folder.read(self.folder).manifest.command)
        for tag, text in (("command", command), ("configuration", strict_yaml.dumps(self.config))):
            logger.experiment.add_text(f"run/{tag}", indent(text, "    "), trainer.global_step)
        logger.experiment.add_custom_scalars(LAYOUT)
        add_figure(trainer, "visuals/samples", samples(classifier.datamodule))
        add_first_filters(trainer, network)
        if isinstance(network, LeNet5):  # others may not be traceable
            add_graph(logger, network)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what the best checkpoint does on the test set."""
        logger = tensorboard(trainer)
        if logger is None:
            return
        classifier = cast(Classifier, pl_module)
        data, logits = classifier.datamodule, classifier.test_logits.cpu()
        add_first_filters(trainer, classifier.network)
        if len(set(images_seen(trainer, "test"))) == 1:
            for polarity, name in enumerate(POLARITIES):
                for what, draw in (("confusion", confusion), ("worst_mistakes", mistakes)):
                    add_figure(trainer, f"visuals/{what}_{name}", draw(logits, data, polarity))
        test = {name: float(trainer.callback_metrics[name]) for name in metric_names("test")}
        add_result(logger, hyperparameters(self.config), run_folder.read(self.folder), test)


def tensorboard(trainer: Trainer) -> TensorBoardLogger | None:
    """Return the trainer's TensorBoard logger, None if this process writes to none."""
    if not trainer.is_global_zero:
        return None
    return next((x for x in trainer.loggers if isinstance(x, TensorBoardLogger)), None)


def add_figure(trainer: Trainer, tag: str, figure: Figure) -> None:
    """Show a figure in TensorBoard, if the trainer logs there."""
    from lenet_lightning import plotting

    if logger := tensorboard(trainer):
        pixels = plotting.to_pixels(figure)
        logger.experiment.add_image(tag, pixels, trainer.global_step, dataformats="HWC")


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Return everything in which two runs may differ, for the hparams tab.

    Args:
        config: a complete configuration, as config.yaml holds it.

    Returns:
        Dotted keys as they are typed after ``--``; values are numbers, words and truth values.
    """
    found: dict[str, Any] = {}
    for keys, value in run_folder.flatten(config).items():
        key = ".".join(part for part in keys if part != "init_args").removesuffix(".class_path")
        if keys in run_folder.NEUTRAL_KEYS or key.startswith(UNINTERESTING):
            continue
        if keys[-1] == "class_path":
            value = str(value).rsplit(".", 1)[-1]
        found[key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def samples(data: ImageDataModule) -> Figure:
    """Draw the first training image of each class above its negative."""
    from lenet_lightning import plotting

    labels = data.train_images.labels.cpu()[data.train_index]
    count = len(data.classes)
    chosen = torch.linspace(0, count - 1, min(count, SAMPLED_CLASSES)).round().int().tolist()
    first = {label: data.train_index[(labels == label).nonzero()[:1, 0]] for label in chosen}
    known = [label for label in chosen if len(first[label])]
    index = torch.cat([first[label] for label in known])
    names = [data.classes[label] for label in known]
    originals, negatives = pair(data.train_images, index)
    return plotting.samples(originals.numpy(), negatives.numpy(), names)


def pair(images: Images, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 images ``[count, channels, 32, 32]`` in [0, 1] and their negatives."""
    originals = to_unit(images.pixels[index.to(images.pixels.device)].cpu())
    return originals, negate(originals, images.border)


def add_first_filters(trainer: Trainer, network: nn.Module) -> None:
    """Show the kernels of the first convolution, if there is one."""
    from lenet_lightning import plotting

    convolution = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is not None:
        weight = convolution.weight.detach().cpu().numpy()
        names = CHANNELS.get(weight.shape[1], tuple(map(str, range(weight.shape[1]))))
        add_figure(trainer, "visuals/filters", plotting.filters(weight, names))


def add_graph(logger: TensorBoardLogger, network: LeNet5) -> None:
    """Show the network's operations; a copy takes torch's own kernels, which can be traced."""
    traced = copy.deepcopy(network).cpu().eval()
    traced.fused = False
    image = torch.zeros(1, network.conv1.in_channels, 32, 32)
    with warnings.catch_warnings(), torch.no_grad():
        # SummaryWriter offers no other way than torch.jit.trace, which torch deprecates.
        warnings.filterwarnings("ignore", message="`torch.jit.trace.* is deprecated")
        logger.experiment.add_graph(traced, image)


def confusion(logits: Tensor, data: ImageDataModule, polarity: int) -> Figure:
    """Draw the confusion matrix of one polarity from logits ``[2, size, classes]``."""
    from lenet_lightning import plotting

    labels = data.test_images.labels.cpu()[data.test_index]
    metric = MulticlassConfusionMatrix(logits.shape[2])
    matrix = metric(logits[polarity].argmax(1), labels).numpy()
    accuracy = matrix.trace() / max(1, matrix.sum())
    title = f"Test {POLARITIES[polarity]}: {accuracy:.2%} correct"
    return plotting.confusion({title: matrix}, data.classes)


def mistakes(logits: Tensor, data: ImageDataModule, polarity: int) -> Figure:
    """Draw the misclassified test images of one polarity, those of largest cross-entropy first."""
    from lenet_lightning import plotting

    labels = data.test_images.labels.cpu()[data.test_index]
    index, predicted, probability = rank_mistakes(logits[polarity], labels)
    images = pair(data.test_images, data.test_index[index])[polarity]
    captions = [
        f"{rank}. {data.classes[int(labels[i])]}\n→ {data.classes[int(p)]} ({float(q):.0%})"
        for rank, (i, p, q) in enumerate(zip(index, predicted, probability, strict=True), 1)
    ]
    title = f"Worst mistakes on {POLARITIES[polarity]}: true → predicted class (probability)"
    return plotting.captioned(images.numpy(), captions, title)


def rank_mistakes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions, predicted classes and their probabilities of the worst mistakes.

    Args:
        logits: ``[size, classes]``.
        labels: int64 ``[size]``.
    """
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero()[:, 0]
    index = wrong[loss[wrong].argsort(descending=True, stable=True)[:MISTAKES]]
    probability, predicted = logits[index].softmax(1).max(1)
    return index, predicted, probability


def add_result(
    logger: TensorBoardLogger, params: dict[str, Any], run: run_folder.Run, test: dict[str, float]
) -> None:
    """Show the figures of the best checkpoint in the text and hparams tabs.

    The hparams tab has tags of its own: it shows a tag's last value, which for a tag reported every
    epoch is not that of the best epoch.
    """
    best = run.metrics["epoch"] == run.manifest.best_epoch
    step = int(run.metrics["step"][best][0])
    val = {name: float(run.metrics[name][best][0]) for name in metric_names("val")}
    figures = in_percent(val | test)
    lines = [f"| {name.replace('/', ' ')} | {value:.4g} |" for name, value in figures.items()]
    title = f"Epoch {(run.manifest.best_epoch or 0) + 1}, the best by {run.manifest.monitor}"
    table = "\n".join([f"| {title} | |", "|---|---|", *lines])
    logger.experiment.add_text("run/result", table, step)
    final = {f"with_best_weights/{k.replace('/', '_')}": v for k, v in figures.items()}
    logger.log_hyperparams(params, {k: v for k, v in final.items() if "acc" in k}, step)
