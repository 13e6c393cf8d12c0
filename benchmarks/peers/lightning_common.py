"""A LightningModule as most people write it: log the loss, update a torchmetrics accuracy."""

import tempfile
import time

import lightning
import torch
import torch.nn.functional as F
import torchmetrics
from common import arguments, lenet, report


class Lenet(lightning.LightningModule):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.network = lenet(channels)
        self.train_acc = torchmetrics.classification.MulticlassAccuracy(10, average="micro")
        self.val_acc = torchmetrics.classification.MulticlassAccuracy(10, average="micro")

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.network(images)
        penalty = sum(p.square().sum() for p in self.parameters() if p.dim() > 1)
        loss = F.cross_entropy(logits, labels) + 0.001 * penalty
        self.train_acc(logits, labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.network(images)
        self.val_acc(logits, labels)
        self.log("val/loss", F.cross_entropy(logits, labels))
        self.log("val/acc", self.val_acc, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.0005)


class Clock(lightning.Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def run(loaders) -> None:
    """Fit with TensorBoard, a progress bar and a checkpoint an epoch, Lightning's defaults."""
    options = arguments()
    channels, train, val = loaders(options)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=options.epochs,
            accelerator="cpu",
            callbacks=[clock],
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_model_summary=False,
        )
        trainer.fit(Lenet(channels), train, val)
        accuracy = float(trainer.callback_metrics["val/acc"])
    report(clock.seconds, accuracy)
