"""The curves of a run: accuracy and loss against the epoch."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from lenet_lightning import files
from lenet_lightning.callbacks.tensorboard import add_figure
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.training.metrics import metric_names

CURVES = "curves.png"


class Curves(Callback):
    """Draws ``curves.png``, and shows it in TensorBoard, when a fit stops for whatever reason.

    The figure is drawn from the run's folder, so it holds every epoch of a resumed run. It is drawn
    after the test that ends a fit, or when an exception ends it sooner. Nothing is drawn without a
    complete epoch.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole run and the test of its best checkpoint."""
        values = trainer.callback_metrics
        self.draw(trainer, {name: float(values[name]) for name in metric_names("test")})

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Draw what there is; a second error must not hide the first."""
        try:
            self.draw(trainer)
        except (OSError, UserError) as error:
            # A disk that stopped the run has been reported already.
            if not isinstance(exception, OSError | UserError):
                rank_zero_warn(f"{CURVES} was not drawn: {error}")

    def draw(self, trainer: Trainer, test: dict[str, float] | None = None) -> None:
        """Draw the run's epochs, and the test figures of its best checkpoint if given."""
        if not trainer.is_global_zero or not (self.folder / run_folder.METRICS).exists():
            return
        from lenet_lightning import plotting

        run = run_folder.read(self.folder)
        protocol = run.manifest.protocol
        figure = plotting.run_curves(
            run.metrics,
            title(run),
            run.manifest.best_epoch,
            None if protocol == "report" else test,
            "validation (the test set)" if protocol == "report" else "validation",
        )
        files.replace(self.folder / CURVES, plotting.to_png(figure, dpi=100))
        add_figure(trainer, "visuals/curves", figure)


def title(run: run_folder.Run) -> str:
    """Return the first line above the curves."""
    manifest = run.manifest
    name = manifest.data.name
    name = DATASETS[name].title if name in DATASETS else name
    parts = [f"LeNet-5 on {name}", f"protocol {manifest.protocol}", f"seed {manifest.seed}"]
    best = manifest.best_epoch
    if best is not None:
        last = int(run.metrics["epoch"][-1]) + 1
        parts.append(f"best epoch {best + 1} of {last}, by {manifest.monitor}")
    return ", ".join(parts)
