"""The LightningModule: training and evaluation of LeNet-5 on images and on their negatives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lenet_lightning import renamed
from lenet_lightning.data.augmentation import tta_images
from lenet_lightning.data.batches import Chunk, EvaluationBatch, seed_from
from lenet_lightning.data.datamodule import ImageDataModule, InputSpec
from lenet_lightning.errors import UserError
from lenet_lightning.networks import build
from lenet_lightning.networks.build import NetworkCallable
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.number_types import BelowOne, plain
from lenet_lightning.store import checkpoint_schema, checkpoints
from lenet_lightning.store.checkpoint_schema import SPEC_KEY, SchemaError
from lenet_lightning.training import plain_batches
from lenet_lightning.training.finite import check_finite
from lenet_lightning.training.gradient_step import GradientStep
from lenet_lightning.training.losses import Loss, Objective, Penalty, kernels
from lenet_lightning.training.metrics import Sums, mean_of
from lenet_lightning.training.optimizers import KerasAdam

Scaling = Literal["unit", "centered", "standardized"]


class Classifier(LightningModule):
    """Trains LeNet-5 and reports accuracy and loss on originals and on negatives.

    The network exists once the classifier is constructed; its weights depend on ``seed`` only.
    Reported losses include the penalties, as Keras's do; accuracies are fractions in [0, 1].
    :meth:`load_from_checkpoint` restores all arguments but ``optimizer`` and ``scheduler``.

    Args:
        network: makes the network from channels and number of classes: LeNet-5, or any module that
            maps float32 images ``[batch, channels, 32, 32]`` in [0, 1] to logits.
        scaling: network input: ``unit`` is [0, 1] as in the report, ``centered`` subtracts 0.5,
            ``standardized`` subtracts the training set's mean and divides by its deviation.
        loss: compares the softmax of the logits with the class.
        label_smoothing: share of the target spread over all classes.
        l1: L1 penalty on kernels, Keras's ``L1(c)``: adds ``c * sum(|w|)`` to the loss.
        l2: L2 penalty on kernels, Keras's ``L2(c)``: adds ``c * sum(w**2)`` to the loss.
        optimizer: any torch optimiser by name, with its own arguments.
        scheduler: any torch learning rate scheduler by name, with its own arguments.
        scheduler_interval: when the scheduler steps.
        tta_shift: test-time augmentation (TTA): the test also averages the logits over every
            shift of an image by up to this many pixels along both axes. Only the test at the end of
            ``fit``, and ``test``, on originals.
        tta_flip: test-time augmentation: also over the mirror image of each.
        cuda_graph: replay forward and backward pass of each training batch as a CUDA graph, once it
            has been seen to give the gradients that launching kernel by kernel gives; where it
            cannot be used, one line says why. Not with dropout, nor on several devices.
        seed: of initialisation and dropout; the command line sets it from seed_everything.
        channels: of the images; the command line sets it from the data.
        classes: number of classes; the command line sets it from the data.

    Attributes:
        network: maps images ``[batch, channels, 32, 32]`` to logits ``[batch, classes]``.
        spec: what the network must know of its data; None until a Trainer or a checkpoint tells.
        teacher: maps images and labels of a training batch to the target, the probability of each
            class ``[batch, classes]``, in place of the labels; None without one.
        temperature: of the training loss; see ``losses.class_loss``.
        to_loggers: whether metrics go to the trainer's loggers, and are what ``Trainer.validate``
            and ``test`` return.
        test_logits: after a test, of the test set's originals and negatives,
            ``[2, size, classes]``.

    Raises:
        UserError: the network cannot be constructed, does not map images to logits, or does not
            allow for ``scaling``; from :meth:`configure_model`, if the data do not fit it.
        NonFiniteError: from :meth:`on_train_epoch_end`, if a loss was infinite or not a number.
    """

    # Not Lightning's key: under that one, LightningCLI would put a checkpoint's options above those
    # that are given with --ckpt_path.
    CHECKPOINT_HYPER_PARAMS_KEY = "lenet_lightning_model"

    def __init__(
        self,
        network: NetworkCallable = LeNet5,
        scaling: Scaling = "unit",
        loss: Loss = "cross_entropy",
        label_smoothing: BelowOne = 0.0,
        l1: NonNegativeFloat = 0.0,
        l2: NonNegativeFloat = 0.0,
        optimizer: OptimizerCallable = KerasAdam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        tta_shift: NonNegativeInt = 0,
        tta_flip: bool = False,
        cuda_graph: bool = False,
        seed: NonNegativeInt = 0,
        channels: PositiveInt = 1,
        classes: PositiveInt = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["network", "optimizer", "scheduler"], logger=False)
        self.hparams.update(plain(self.hparams))
        self.scaling = scaling
        self.objective = Objective(loss, label_smoothing, Penalty(l1, l2))
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.tta_shift = tta_shift
        self.tta_flip = tta_flip
        self.cuda_graph = cuda_graph
        self.seed = seed
        self.channels = channels
        self.classes = classes
        self.spec: InputSpec | None = None
        self.teacher: Callable[[Tensor, Tensor], Tensor] | None = None
        self.temperature = 1.0
        self.gradient_step: GradientStep | None = None
        self.chunks: list[tuple[Tensor, Tensor, int]] = []
        self.steps: list[int] = []  # the optimizer step of each batch of the epoch
        self.to_loggers = True
        self.tested = 0  # images of the test so far
        self.sums = nn.ModuleDict()
        made = build.build(network, channels, classes, seed)
        if getattr(made, "invariance", "") == "absolute" and scaling != "centered":
            raise UserError(
                f"model.network.invariance is absolute, but model.scaling is {scaling}: use "
                "model.scaling centered, with which the negative of an image is its opposite."
            )
        self.hparams["network"] = build.describe(made)
        # Whether a step may draw random numbers, which then depend on (seed, step) only.
        self.draws = not isinstance(made, LeNet5) or made.dropout.p > 0
        if scaling != "unit":
            mean = 0.5 if scaling == "centered" else 0.0  # until the data are known
            made = build.with_scaling(made, (mean,) * channels, (1.0,) * channels)
        if isinstance(made, LeNet5) and not made.fused:
            # torch's own CPU convolutions are faster with channels last.
            made = made.to(memory_format=torch.channels_last)
        self.network = made
        self.kernels = kernels(self.network)

    @property
    def attached(self) -> Trainer | None:
        """The trainer, None without one."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    @property
    def datamodule(self) -> ImageDataModule:
        """The datamodule of the current run."""
        return cast(ImageDataModule, self.trainer.datamodule)  # type: ignore[attr-defined]

    def configure_callbacks(self) -> list[Callback]:
        """Let Lightning accept its options of the gradient, which :meth:`training_step` follows.

        They are ``accumulate_grad_batches``, ``gradient_clip_val`` and ``gradient_clip_algorithm``.
        Lightning checks them before :meth:`setup`, and refuses them with manual optimization.
        """
        if self.trainer.state.fn == "fit":
            self.automatic_optimization = True
        return []

    def setup(self, stage: str) -> None:
        """Turn to manual optimization: there are several optimizer steps in a training step."""
        if stage == "fit":
            self.automatic_optimization = False

    def configure_model(self) -> None:
        """Take the statistics of the data, unless the network has those of its training.

        Raises:
            UserError: the data have other channels or classes than the network.
        """
        if self.attached is None:  # load_from_checkpoint
            return
        if self.spec is None:
            # A plain DataLoader tells nothing of its images.
            spec = getattr(self.datamodule, "spec", None) or plain_batches.spec(
                self.channels, self.classes, self.scaling
            )
            if (spec.channels, len(spec.classes)) != (self.channels, self.classes):
                raise UserError(
                    f"The network takes {self.channels} channels and names {self.classes} classes, "
                    f"but {spec.name} has {spec.channels} and {len(spec.classes)}: build "
                    f"Classifier(channels={spec.channels}, classes={len(spec.classes)})."
                )
            self.spec = spec
            if self.scaling == "standardized":
                cast(Any, self.network).standardize.set_statistics(spec.mean, spec.std)
        if not self.sums:  # of the trainer's precision
            self.sums.update({"fit": Sums(1), "val": Sums(2), "test": Sums(2), "tta": Sums(1)})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and the scheduler from their configuration."""
        optimizer = self.optimizer(self.network.parameters())
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        config = {"scheduler": scheduler, "interval": self.scheduler_interval}
        return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 images ``[batch, channels, 32, 32]`` in [0, 1] to logits."""
        return self.network(images)

    def on_train_start(self) -> None:
        """Choose how gradients are computed, for the trainer's device and precision."""
        self.gradient_step = GradientStep(
            self.network,
            replace(self.objective, temperature=self.temperature),
            self.trainer,
            self.cuda_graph,
            backward=self.manual_backward,
            tell=self.print,
        )

    def on_train_epoch_start(self) -> None:
        """Reset the metrics of an epoch that was interrupted."""
        self.chunks.clear()
        self.steps.clear()
        cast(GradientStep, self.gradient_step).mean.clear()

    def training_step(self, batch: Chunk, batch_idx: int) -> None:
        """Take an optimizer step per batch, or per ``accumulate_grad_batches`` of them."""
        trainer, gradient_step = self.trainer, cast(GradientStep, self.gradient_step)
        mean, count = gradient_step.mean, trainer.accumulate_grad_batches
        losses, outputs, labels = [], [], []
        batch = plain_batches.chunk(batch, self.channels, trainer.world_size)
        for index, (images, targets, total) in enumerate(batch.batches(), 1):
            if 0 <= trainer.max_steps <= self.global_step:
                break
            target = self.teacher(images, targets) if self.teacher else targets
            if self.draws:
                again = [mean.batches] if mean.batches else []
                key = self.seed, self.global_step, self.global_rank, *again
                torch.manual_seed(seed_from(*key))
            # The mean over the whole batch: distributed training averages the processes' gradients.
            loss, logits = gradient_step(images, target, trainer.world_size / total)
            losses.append(loss)
            outputs.append(logits)
            labels.append(targets)
            self.steps.append(self.global_step)
            if count > 1:
                mean.add(total)
                last = trainer.is_last_batch and index == len(batch.sizes)
                if mean.batches < count and not last:
                    continue
                mean.clear()
            self.step_optimizer()
        correct = (torch.cat(outputs).argmax(-1) == torch.cat(labels)).sum(0)
        # Read back when the epoch ends.
        self.chunks.append((torch.stack(losses), correct, sum(map(len, labels))))

    def step_optimizer(self) -> None:
        """Clip the gradients, and take a step of the optimizer and of the scheduler."""
        optimizer: Any = self.optimizers()
        if largest := self.trainer.gradient_clip_val:
            by_value = self.trainer.gradient_clip_algorithm == "value"
            clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(self.network.parameters(), largest)
        optimizer.step()
        if self.scheduler and self.scheduler_interval == "step":
            self.step_scheduler()

    def step_scheduler(self) -> None:
        """Advance the learning rate scheduler once."""
        scheduler: Any = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(self.trainer.callback_metrics[scheduler.monitor])
        else:
            scheduler.step()

    def on_train_epoch_end(self) -> None:
        """Report the epoch's mean loss and accuracy, after a check that all is finite."""
        chunks, correct, counts = zip(*self.chunks, strict=True)
        self.chunks.clear()
        # Added up at once, so that the sum is the same for any number of batches per chunk.
        losses = torch.cat(chunks)
        optimizer: Any = self.optimizers()
        check_finite(
            losses,
            self.network,
            self.trainer.callback_metrics.get("val/loss"),
            self.steps,
            self.current_epoch,
            optimizer.param_groups[0]["lr"],
        )
        right = torch.stack(correct).sum(0)
        cast(Sums, self.sums["fit"]).update(
            losses.sum().unsqueeze(0), right.unsqueeze(0), sum(counts)
        )
        self.report("fit", "train")
        if self.scheduler and self.scheduler_interval == "epoch":
            self.step_scheduler()

    def evaluate(self, name: str, logits: list[Tensor], labels: Tensor) -> None:
        """Add losses and correct answers of a batch to the sums of ``name``.

        Args:
            name: a key of ``sums``.
            logits: ``[batch, classes]`` for each column of the sums.
            labels: int64 ``[batch]``.
        """
        count = len(labels)
        # The penalty here and not at the end, when callbacks have replaced an average of weights.
        add = self.objective.penalty.add_to
        loss = [add(self.objective(x, labels), count, self.kernels) for x in logits]
        correct = [(x.argmax(-1) == labels).sum(0) for x in logits]
        cast(Sums, self.sums[name]).update(torch.stack(loss), torch.stack(correct), count)

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics of an evaluation that was interrupted."""
        for name in ("val", "test", "tta"):
            cast(Sums, self.sums[name]).reset()

    def validation_step(
        self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Evaluate a validation batch, or a batch of the watched test set."""
        batch = plain_batches.evaluation(batch, self.channels, 0)
        logits = [self.network(batch.images), self.network(batch.negatives)]
        self.evaluate("test" if dataloader_idx else "val", logits, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Report the validation set, and the test set where it is watched."""
        self.report("val")
        self.report("test")

    def on_test_epoch_start(self) -> None:
        """Reset the metrics, and make room for the logits of every test image."""
        self.on_validation_epoch_start()
        loader: Any = self.trainer.test_dataloaders
        size = loader.size if hasattr(loader, "size") else len(loader.dataset)
        self.tested = 0
        self.test_logits = torch.zeros(2, size, self.classes, device=self.device)

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Evaluate a test batch, also with test-time augmentation, and keep its logits."""
        batch = plain_batches.evaluation(batch, self.channels, self.tested)
        self.tested += len(batch.labels)
        outputs = [self.network(batch.images), self.network(batch.negatives)]
        self.evaluate("test", outputs, batch.labels)
        for kept, logits in zip(self.test_logits, outputs, strict=True):
            kept[batch.position] = logits.float()  # of any trainer.precision
        if self.tta_shift or self.tta_flip:
            augmented = tta_images(batch.images, self.tta_shift, self.tta_flip)
            mean = mean_of([self.network(images) for images in augmented])
            self.evaluate("tta", [mean], batch.labels)

    def on_test_epoch_end(self) -> None:
        """Report the test set; ``test_logits`` is then complete."""
        self.report("test")
        self.report("tta", "test", "_views")
        self.test_logits = cast(
            Tensor, self.trainer.strategy.reduce(self.test_logits, reduce_op="sum")
        )

    def report(self, name: str, stage: str = "", suffix: str = "") -> None:
        """Log the means of ``sums[name]`` as ``stage/loss``, ``stage/acc`` ..., and reset them.

        Args:
            name: a key of ``sums``; nothing is logged where nothing was added.
            stage: ``name`` by default.
            suffix: appended to the names of the metrics.
        """
        sums = cast(Sums, self.sums[name])
        if not sums.update_called:
            return
        logger = None if self.to_loggers else False  # True would warn where there is none
        for key, value in sums.compute().items():
            # Every process holds the same value; sync_dist tells Lightning so.
            self.log(f"{stage or name}/{key}{suffix}", value, logger=logger, sync_dist=True)
        sums.reset()

    def predict_step(self, batch: EvaluationBatch, batch_idx: int) -> Tensor:
        """Return class probabilities of images and of negatives, ``[2, batch, classes]``."""
        batch = plain_batches.evaluation(batch, self.channels, 0)
        return torch.stack([self.network(x).softmax(1) for x in (batch.images, batch.negatives)])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the network must know of its input beside its weights."""
        checkpoint[SPEC_KEY] = cast(InputSpec, self.spec).to_dict()

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # files only
        cls, checkpoint_path: str | Path, *args: Any, **kwargs: Any
    ) -> Self:
        """Restore a classifier from a checkpoint of this package; nothing in it is executed.

        Args:
            checkpoint_path: a .ckpt file.
            args: as for Lightning's method.
            kwargs: likewise; a network that is not of this package must be given as ``network``.

        Raises:
            UserError: the file is damaged, does not hold the arguments of the classifier, or the
                network must be given.
        """
        stored = checkpoints.load(checkpoint_path).get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
        stored = renamed.current({"model": stored})["model"]
        described = stored.get("network")
        if described and "network" not in kwargs:
            if described.get("class_path") not in build.NETWORKS:
                raise UserError(
                    f"The checkpoint {checkpoint_path} is of the network "
                    f"{described.get('class_path')}: give what makes it, as "
                    "load_from_checkpoint(path, network=...)."
                )
            stored["network"] = build.from_description(described)
        return super().load_from_checkpoint(checkpoint_path, *args, **(stored | kwargs))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check what is restored, and let a training resume with the next epoch.

        Raises:
            UserError: the checkpoint does not fit the network or the trainer; or, from
                :meth:`load_from_checkpoint`, it does not hold the arguments of the classifier.
        """
        trainer = self.attached  # None: load_from_checkpoint
        if trainer is None and not checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY):
            raise UserError(
                "The checkpoint does not hold the arguments of its classifier, as those of version "
                "0.1: load its network by lenet_lightning.training.pretrained.load instead."
            )
        try:
            checkpoint_schema.check_spec(checkpoint.get(SPEC_KEY))
            if trainer is None:
                checkpoint_schema.check_weights(checkpoint["state_dict"], self)
            else:
                checkpoint_schema.check_state(checkpoint, trainer, self)
        except SchemaError as error:
            raise UserError(f"The checkpoint does not fit this training: {error}.") from error
        self.spec = InputSpec.from_dict(checkpoint[SPEC_KEY])
        begin_next_epoch(checkpoint)


def begin_next_epoch(checkpoint: dict[str, Any]) -> None:
    """Mark a finished epoch as complete in the state of Lightning's loop.

    It is saved before Lightning counts it as such; training with ``max_steps`` would end it again.
    """
    if "loops" not in checkpoint:  # weights only
        return
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    if epochs["current"]["ready"] == epochs["current"]["processed"]:
        for counts in epochs.values():
            counts["completed"] = counts["processed"]
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False
