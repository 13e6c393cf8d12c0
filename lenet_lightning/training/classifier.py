"""The LightningModule: one step for training, one for evaluation, sums read once an epoch."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import torch
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lenet_lightning.data.augmentation import views
from lenet_lightning.data.batches import EvaluationBatch, Execution, seed_from
from lenet_lightning.data.datamodule import BelowOne, ImageDataModule, InputSpec
from lenet_lightning.errors import NonFiniteError, UserError
from lenet_lightning.networks.initializers import Initializer
from lenet_lightning.networks.lenet5 import Activation, ConvActivation, Kernel, LeNet5, Polarity
from lenet_lightning.store import checkpoint_schema
from lenet_lightning.store.checkpoint_schema import SPEC_KEY, SchemaError
from lenet_lightning.training import gradient_step
from lenet_lightning.training.cuda_graph import GraphedLoss
from lenet_lightning.training.losses import Loss, Penalty, class_loss, kernels
from lenet_lightning.training.metrics import POLARITIES, Sums, mean_of
from lenet_lightning.training.optimizers import KerasAdam

Scaling = Literal["unit", "centered", "standardized"]

NO_GRAPH = "model.cuda_graph: kernels are launched one by one, since {}."


class Classifier(LightningModule):
    """Trains LeNet-5 and reports accuracy and loss on originals and on negatives.

    The network is built when the data are known (their channels and classes are not options).
    Reported losses include the penalties, as Keras's do; accuracies are fractions in [0, 1].

    Args:
        activation: hidden activation.
        conv_activation: that of the convolutions, where it is another one: also ``absolute``, the
            absolute value, taken before pooling. With polarity absolute, conv2's alone.
        initializer: initialiser of the kernels; ``default`` is torch's.
        dropout: probability of dropping a unit of the two hidden dense layers.
        scaling: network input: ``unit`` is [0, 1] as in the report, ``centered`` subtracts 0.5,
            ``standardized`` subtracts the training set's mean and divides by its deviation.
        polarity: ``plain``, or a construction that cannot tell an image from its negative, the
            border included (``data.negate_border``, the default): ``absolute`` (conv1 without
            bias, then the absolute value; needs ``scaling`` centered) or ``averaged`` (the mean
            of the logits of both polarities, at twice the cost).
        loss: compares the softmax of the logits with the class.
        label_smoothing: share of the target spread over all classes.
        l1: L1 penalty on kernels, Keras's ``L1(c)``: adds ``c * sum(|w|)`` to the loss.
        l2: L2 penalty on kernels, Keras's ``L2(c)``: adds ``c * sum(w**2)`` to the loss.
        optimizer: any torch optimiser by name, with its own arguments.
        scheduler: any torch learning rate scheduler by name, with its own arguments.
        scheduler_interval: when the scheduler steps.
        gradient_clip_val: largest norm of the gradient; larger ones are scaled down to it.
        view_shift: the test also averages the logits over views of each image: every shift by up to
            this many pixels along both axes. Only the test at the end of ``fit``, and ``test``,
            on originals.
        view_flip: views of the test: also the mirror image of each.
        kernel: arithmetic on the CPU: ``fused`` (fast), ``torch``, or ``auto``: fused where
            available. With ``torch`` all hooks of layers and parameters are called.
        cuda_graph: replay forward and backward pass of each training batch as a CUDA graph, once it
            has been seen to give the gradients that launching kernel by kernel gives; where it
            cannot be used, one line says why. Not with dropout, nor on several devices.
        seed: of initialisation and dropout; the command line sets it from seed_everything.

    Attributes:
        teacher: maps images and labels of a training batch to the probabilities that are asked of
            the network in place of the labels; None without one.
        temperature: at which the training loss compares logits with what is asked; see
            ``losses.class_loss``.

    Raises:
        UserError: ``polarity`` is ``absolute`` without ``scaling`` centered; from
            :meth:`configure_model`, if ``kernel`` is ``fused`` and that is unavailable.
        NonFiniteError: from :meth:`on_train_epoch_end`, if a loss was infinite or not a number.
    """

    def __init__(
        self,
        activation: Activation = "relu",
        conv_activation: ConvActivation | None = None,
        initializer: Initializer = "he_normal",
        dropout: BelowOne = 0.0,
        scaling: Scaling = "unit",
        polarity: Polarity = "plain",
        loss: Loss = "cross_entropy",
        label_smoothing: BelowOne = 0.0,
        l1: NonNegativeFloat = 0.0,
        l2: NonNegativeFloat = 0.0,
        optimizer: OptimizerCallable = KerasAdam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        gradient_clip_val: PositiveFloat | None = None,
        view_shift: NonNegativeInt = 0,
        view_flip: bool = False,
        kernel: Kernel = "auto",
        cuda_graph: bool = False,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if polarity == "absolute" and scaling != "centered":
            raise UserError(
                f"model.polarity is absolute, but model.scaling is {scaling}: use model.scaling "
                "centered, with which the negative of an image is its opposite."
            )
        self.automatic_optimization = False  # several optimizer steps per training_step
        self.activation = activation
        self.conv_activation = conv_activation
        self.initializer = initializer
        self.dropout = dropout
        self.scaling = scaling
        self.polarity = polarity
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.penalty = Penalty(l1, l2)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.gradient_clip_val = gradient_clip_val
        self.view_shift = view_shift
        self.view_flip = view_flip
        self.kernel = kernel
        self.cuda_graph = cuda_graph
        self.seed = seed
        self.spec: InputSpec | None = None
        self.teacher: Callable[[Tensor, Tensor], Tensor] | None = None
        self.temperature = 1.0
        self.direct: gradient_step.DirectLoss | None = None
        self.graphed: GraphedLoss | None = None
        self.executions: list[tuple[Tensor, Tensor, int]] = []

    @property
    def datamodule(self) -> ImageDataModule:
        """The datamodule of the current run."""
        return cast(ImageDataModule, self.trainer.datamodule)  # type: ignore[attr-defined]

    def configure_model(self) -> None:
        """Build the network for the data at hand; its weights depend on ``seed`` alone."""
        if self.spec is not None:
            return
        self.spec = self.datamodule.spec
        # Lightning would draw them on the device, whose generator gives other numbers.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = self.build(self.spec)
        self.kernels = kernels(self.network)
        self.train_sums = Sums(1)
        self.eval_sums = nn.ModuleDict({"val": Sums(2), "test": Sums(2)})
        self.view_sums = Sums(1)

    def build(self, spec: InputSpec) -> LeNet5:
        """Return a new network for data of this kind."""
        channels = spec.channels
        mean, std = {
            "unit": ((), ()),
            "centered": ((0.5,) * channels, (1.0,) * channels),
            "standardized": (spec.mean, spec.std),
        }[self.scaling]
        try:
            network = LeNet5(
                channels,
                len(spec.classes),
                self.activation,
                self.initializer,
                self.dropout,
                mean,
                std,
                self.kernel,
                self.polarity,
                self.conv_activation,
            )
        except RuntimeError as error:
            raise UserError(f"model.kernel is fused, but {error} Use torch or auto.") from error
        # torch's own CPU convolutions are faster with channels last.
        return network if network.fused else network.to(memory_format=torch.channels_last)

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
        """Choose how gradients are computed: directly, replayed as a CUDA graph, or by autograd.

        Says why there is no CUDA graph, if one was asked for.
        """
        self.direct = self.graphed = None
        plain_on_cpu = self.plain_training and self.device.type == "cpu"
        if plain_on_cpu and gradient_step.takes(self.network, self.loss):
            options = self.penalty, self.label_smoothing, self.temperature
            self.direct = gradient_step.DirectLoss(self.network, *options)
        if not self.cuda_graph:
            return
        if refusal := self.no_graph_for():
            self.print(NO_GRAPH.format(refusal))
        else:
            self.graphed = GraphedLoss(
                self.network,
                self.loss,
                self.label_smoothing,
                refuse=lambda reason: self.print(NO_GRAPH.format(reason)),
                temperature=self.temperature,
            )

    @property
    def plain_training(self) -> bool:
        """Whether Lightning has nothing to add to a backward pass: one device, in float32."""
        return self.trainer.world_size == 1 and self.trainer.precision == "32-true"

    def no_graph_for(self) -> str | None:
        """Return what in the configuration rules out a CUDA graph."""
        if self.device.type != "cuda":
            return f"the device is {self.device.type}"
        if self.dropout:
            return "dropout is drawn anew in every step"
        if self.trainer.world_size > 1:
            return "several devices train"
        precision = self.trainer.precision
        return None if precision == "32-true" else f"trainer.precision is {precision}"

    def on_train_epoch_start(self) -> None:
        """Forget an epoch that was not trained to its end."""
        self.executions.clear()

    def training_step(self, batch: Execution, batch_idx: int) -> None:
        """Take one optimizer step per batch of the execution."""
        optimizer: Any = self.optimizers()
        losses, outputs, labels = [], [], []
        for images, targets, total in self.until_max_steps(batch):
            wanted = self.teacher(images, targets) if self.teacher else targets
            # The mean over the whole batch: distributed training averages the processes' gradients.
            scale = self.trainer.world_size / total
            loss, logits = self.gradients(images, wanted, scale)
            losses.append(loss)
            if self.gradient_clip_val:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip_val)
            optimizer.step()
            if self.scheduler and self.scheduler_interval == "step":
                self.step_scheduler()
            outputs.append(logits)
            labels.append(targets)
        self.record(torch.stack(losses), torch.cat(outputs), torch.cat(labels))

    def until_max_steps(self, batch: Execution) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield the execution's batches, no more than ``trainer.max_steps`` allows."""
        limit = self.trainer.max_steps
        for item in batch.batches():
            if 0 <= limit <= self.global_step:
                return
            yield item

    def gradients(self, images: Tensor, wanted: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Set the parameters' gradients; return what :class:`direct.DirectLoss` returns."""
        if self.direct and (done := self.direct(images, wanted, scale)):
            return done
        self.network.zero_grad()
        loss, logits = self.batch_loss(images, wanted)
        self.backward_fast(loss * scale)
        loss = self.with_penalty(loss.detach(), len(images))
        if self.penalty:
            self.penalty.add_gradients(self.kernels)
        return loss, logits

    def batch_loss(self, images: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of a training batch's losses, and its logits without a gradient."""
        if self.graphed:
            return self.graphed(images, wanted)
        logits = self.training_logits(images)
        options = self.loss, self.label_smoothing, self.temperature
        return class_loss(logits, wanted, *options), logits.detach()

    def training_logits(self, images: Tensor) -> Tensor:
        """Logits of a training batch; what dropout drops depends on (seed, step) alone."""
        if self.dropout:
            torch.manual_seed(seed_from(self.seed, self.global_step, self.global_rank))
        return self.network(images)

    def backward_fast(self, loss: Tensor) -> None:
        """Backpropagate, past Lightning's hooks where they have nothing to do."""
        if self.plain_training:
            loss.backward()
        else:
            self.manual_backward(loss)

    def with_penalty(self, loss: Tensor, count: int) -> Tensor:
        """Add the penalty to a loss summed over ``count`` images, as Keras reports it."""
        return loss + count * self.penalty.value(self.kernels) if self.penalty else loss

    def record(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep an execution's results until the epoch ends; nothing is read back."""
        self.executions.append((losses, (logits.argmax(-1) == labels).sum(0), len(labels)))

    def step_scheduler(self) -> None:
        """Advance the learning rate scheduler once."""
        scheduler: Any = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(self.trainer.callback_metrics[scheduler.monitor])
        else:
            scheduler.step()

    def on_train_epoch_end(self) -> None:
        """Report the epoch's running means, after refusing to go on from a non-finite loss."""
        executions, correct, counts = zip(*self.executions, strict=True)
        self.executions.clear()
        # Added up together, so that the sum is the same for any number of steps per execution.
        losses = torch.cat(executions)
        self.refuse_non_finite(losses)
        right = torch.stack(correct).sum(0)
        self.train_sums.update(losses.sum().unsqueeze(0), right.unsqueeze(0), sum(counts))
        self.report("train", self.train_sums)
        if self.scheduler and self.scheduler_interval == "epoch":
            self.step_scheduler()

    def refuse_non_finite(self, losses: Tensor) -> None:
        """Raise if a loss of this epoch or a weight is not finite: checkpoints keep finite ones.

        Args:
            losses: of each step of the epoch, ``[steps]``.
        """
        bad = (~losses.isfinite()).nonzero()
        val_loss = self.trainer.callback_metrics.get("val/loss")
        finite = torch.cat([p.detach().flatten() for p in self.network.parameters()]).isfinite()
        if not len(bad) and (val_loss is None or val_loss.isfinite()) and finite.all():
            return
        what = "loss is" if len(bad) or finite.all() else "weights are"
        step = self.global_step - len(losses) + (int(bad[0]) if len(bad) else len(losses) - 1)
        optimizer: Any = self.optimizers()
        raise NonFiniteError(
            f"The {what} no longer finite at step {step} (epoch {self.current_epoch}, learning "
            f"rate {optimizer.param_groups[0]['lr']:g}): most likely the learning rate is too "
            "high; try a tenth of it, or model.gradient_clip_val 1."
        )

    def evaluate(self, name: str, batch: EvaluationBatch) -> list[Tensor]:
        """Add a batch and its negatives to the sums of ``name``; return the logits of both."""
        logits = [self.network(batch.images), self.network(batch.negatives)]
        self.add(cast(Sums, self.eval_sums[name]), logits, batch.labels)
        return logits

    def add(self, sums: Sums, logits: list[Tensor], labels: Tensor) -> None:
        """Add a batch's losses and right answers to ``sums``, a column for each of ``logits``."""
        count = len(labels)
        losses = [class_loss(x, labels, self.loss, self.label_smoothing) for x in logits]
        # Here and not once at the end, when callbacks have taken an average of weights away.
        loss = [self.with_penalty(loss, count) for loss in losses]
        correct = [(x.argmax(-1) == labels).sum(0) for x in logits]
        sums.update(torch.stack(loss), torch.stack(correct), count)

    def on_validation_epoch_start(self) -> None:
        """Start from nothing."""
        self.reset_evaluation()

    def reset_evaluation(self) -> None:
        """Forget an evaluation that was stopped before it was reported."""
        for sums in (*self.eval_sums.values(), self.view_sums):
            cast(Sums, sums).reset()

    def validation_step(
        self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Evaluate a validation batch, or a batch of the watched test set."""
        self.evaluate("test" if dataloader_idx else "val", batch)

    def on_validation_epoch_end(self) -> None:
        """Report the validation set, and the test set where it is watched."""
        for name in ("val", "test"):
            self.report(name, cast(Sums, self.eval_sums[name]))

    def on_test_epoch_start(self) -> None:
        """Start from nothing, with room for the logits of every test image."""
        self.reset_evaluation()
        size = self.trainer.test_dataloaders.size  # type: ignore[union-attr]
        classes = len(cast(InputSpec, self.spec).classes)
        self.test_logits = torch.zeros(2, size, classes, device=self.device)

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Evaluate a test batch and keep its logits."""
        for kept, logits in zip(self.test_logits, self.evaluate("test", batch), strict=True):
            kept[batch.position] = logits.float()  # of any trainer.precision
        if self.view_shift or self.view_flip:
            self.evaluate_views(batch)

    def evaluate_views(self, batch: EvaluationBatch) -> None:
        """Add a batch, seen from several views, to the sums of views."""
        seen = views(batch.images, self.view_shift, self.view_flip)
        logits = mean_of([self.network(view) for view in seen])
        self.add(self.view_sums, [logits], batch.labels)

    def on_test_epoch_end(self) -> None:
        """Report the test set; ``test_logits``, ``[2, size, classes]``, is then complete."""
        self.report("test", cast(Sums, self.eval_sums["test"]))
        self.report("test", self.view_sums, "_views")
        self.test_logits = cast(
            Tensor, self.trainer.strategy.reduce(self.test_logits, reduce_op="sum")
        )

    def report(self, name: str, sums: Sums, suffix: str = "") -> None:
        """Log the means as ``name/loss``, ``name/acc`` and so on, then start afresh."""
        if not sums.update_called:
            return
        for key, value in sums.compute().items():
            # Every process holds the same value; sync_dist tells Lightning so.
            self.log(f"{name}/{key}{suffix}", value, logger=False, sync_dist=True)
        sums.reset()

    def predict_step(self, batch: EvaluationBatch, batch_idx: int) -> Tensor:
        """Return class probabilities of images and of negatives, ``[2, batch, classes]``."""
        return torch.stack([self.network(x).softmax(1) for x in (batch.images, batch.negatives)])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the network must know of its input beside its weights."""
        checkpoint[SPEC_KEY] = cast(InputSpec, self.spec).to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check what is restored, and let a training resume with the next epoch.

        Raises:
            UserError: the checkpoint does not fit the network or the trainer.
        """
        try:
            checkpoint_schema.check_state(checkpoint, self.trainer, self)
        except SchemaError as error:
            raise UserError(f"The checkpoint does not fit this training: {error}.") from error
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


def metric_names(stage: str) -> list[str]:
    """Return the names under which a stage (``train``, ``val``, ``test``) is reported."""
    suffixes = POLARITIES[:1] if stage == "train" else POLARITIES
    return [f"{stage}/{kind}{suffix}" for suffix in suffixes for kind in ("loss", "acc")]
