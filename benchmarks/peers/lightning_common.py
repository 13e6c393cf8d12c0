"""A LightningModule as most people write it: log the loss, update a torchmetrics accuracy."""

import tempfile
import time

import lightning
import torch
import torch.nn.functional as F
import torchmetrics
from peer import arguments, groups, lenet, report


class Lenet(lightning.LightningModule):
    def __init__(self, channels: int, lr: float, l2: float) -> None:
        super().__init__()
        self.network = lenet(channels)
        self.lr, self.l2 = lr, l2
        self.train_acc = torchmetrics.classification.MulticlassAccuracy(10, average="micro")
        self.val_acc = torchmetrics.classification.MulticlassAccuracy(10, average="micro")

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
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
        return torch.optim.Adam(groups(self.network, self.l2), lr=self.lr)


class Clock(lightning.Callback):
    def on_train_epoch_start(self, trainer, module) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer, module) -> None:
        accuracy = float(trainer.callback_metrics["val/acc"])
        report(time.perf_counter() - self.start, accuracy)


def run(loaders) -> None:
    """Fit with TensorBoard, a progress bar and a checkpoint an epoch, Lightning's defaults."""
    options = arguments()
    lightning.seed_everything(options.seed, verbose=False)
    channels, train, val = loaders(options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=options.epochs,
            accelerator="cpu",
            callbacks=[Clock()],
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_model_summary=False,
        )
        trainer.fit(Lenet(channels, options.lr, options.l2), train, val)
