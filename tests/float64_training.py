"""Train and test Digits in float64 on some processes: what ``test_distributed`` compares.

As a program: ``python -m tests.float64_training PROCESSES FILE``.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from lenet_lightning import process
from lenet_lightning.data.augmentation import Augmentation
from lenet_lightning.data.datasets import Digits
from lenet_lightning.training.classifier import Classifier


def train(processes: int, path: Path) -> None:
    """Save the weights, the metrics and the logits of the test images as rank 0 has them."""
    process.quiet()
    # 1,294 training images in batches of 50, 143 for validation, 360 for testing: no even shares.
    augmentation = Augmentation(rotation=5, elastic=1)
    data = Digits(
        batch_size=50, eval_batch_size=50, augmentation=augmentation, train_polarity="half"
    )
    classifier = Classifier(
        l2=0.001,
        tta_shift=1,
        optimizer=partial(torch.optim.SGD, lr=0.05),  # type: ignore[arg-type]
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        precision="64-true",
        gradient_clip_val=1,
        accumulate_grad_batches=2,
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, data)
    metrics = dict(trainer.callback_metrics)
    trainer.test(classifier, data, verbose=False)
    if trainer.is_global_zero:
        weights = classifier.network.state_dict()
        found = {"weights": weights, "metrics": metrics | trainer.callback_metrics}
        torch.save(found | {"logits": classifier.test_logits}, path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    train(int(sys.argv[1]), Path(sys.argv[2]))
