"""A training that waits, so that the pace of a machine decides nothing."""

from __future__ import annotations

import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer


class Hold(Callback):
    """Waits before the sixth epoch until there is a file ``go`` in the working directory."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        while trainer.current_epoch >= 5 and not Path("go").exists():
            time.sleep(0.02)
