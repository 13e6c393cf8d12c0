"""A short real fit on Digits with the callbacks that keep a run's folder, and no command line."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger

from lenet_lightning.callbacks.curves import Curves
from lenet_lightning.callbacks.recorder import RunRecord
from lenet_lightning.callbacks.tensorboard import TensorBoardPictures
from lenet_lightning.data.datasets import Digits
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import metric_names

MODEL = {
    "network": {
        "class_path": "lenet_lightning.LeNet5",
        "init_args": {"activation": "relu", "initializer": "he_normal", "dropout": 0.0},
    },
    "loss": "cross_entropy",
    "l1": 0.0,
    "l2": 0.0,
    "optimizer": {
        "class_path": "lenet_lightning.KerasAdam",
        "init_args": {"lr": 0.001},
    },
    "scheduler": None,
}
DATA = {"protocol": "holdout", "train_polarity": "original", "batch_size": 64}


def configuration(**data: Any) -> dict[str, Any]:
    """What the callbacks read of a complete configuration."""
    init_args = DATA | data
    return {
        "seed_everything": 0,
        "name": "run",
        "trainer": {},
        "model": MODEL,
        "data": {"class_path": "lenet_lightning.Digits", "init_args": init_args},
    }


def fit(
    folder: Path,
    epochs: int = 2,
    logger: Logger | bool = True,
    ckpt_path: Path | None = None,
    model: Classifier | None = None,
    callbacks: list[Callback] | None = None,
    **data: Any,
) -> Path:
    """Train, test the best checkpoint and return the run folder."""
    config = configuration(**data)
    folder.mkdir(exist_ok=True)
    record = RunRecord("val/acc", 0)
    pictures, curves = TensorBoardPictures(folder, config), Curves(folder)
    record.open(folder, yaml.safe_dump(config))
    best = ModelCheckpoint(
        dirpath=folder / "checkpoints",
        monitor="val/acc",
        mode="max",
        filename="best",
        save_last=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    if logger is True:
        logger = TensorBoardLogger(
            folder.parent, name="", version=folder.name, default_hp_metric=False
        )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=logger,
        callbacks=[*(callbacks or []), record, pictures, curves, best],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    classifier, digits = model or Classifier(), Digits(subset=128, **data)
    path = ckpt_path and str(ckpt_path)
    trainer.fit(classifier, digits, ckpt_path=path, weights_only=True)
    trainer.test(
        classifier, digits, ckpt_path=best.best_model_path, weights_only=True, verbose=False
    )
    values = trainer.callback_metrics
    record.finish({n.split("/")[1]: float(values[n]) for n in metric_names("test")})
    return folder
