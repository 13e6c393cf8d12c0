"""The options of ``fit``, ``validate``, ``test`` and ``predict`` beside trainer, model and data."""

from dataclasses import dataclass, field, fields
from typing import Literal

from jsonargparse.typing import PositiveInt

from lenet_lightning.data.splits import Seed

Monitor = Literal["val/acc", "val/loss", "val/acc_negative", "val/loss_negative"]
Resume = Literal["never", "auto", "must"]


@dataclass
class RunOptions:
    """Run.

    Args:
        seed_everything: seed of initialisation, data order and augmentation
        logs: folder of all runs
        name: runs go to logs/name/version_N, {seed} in it being the run's seed; the dataset's name
            by default
        monitor: metric that selects the best epoch
        threads: processor threads; auto is what is measured to be the fastest with the fused
            kernel, again and again while other programs come and go; null, or without it, torch's
            own choice
        allow_imports: further packages, or functions, that the configuration may name
    """

    seed_everything: Seed = 0
    logs: str = "lightning_logs"
    name: str | None = None
    monitor: Monitor = "val/acc"
    threads: PositiveInt | Literal["auto"] | None = "auto"
    allow_imports: list[str] | str = field(default_factory=list)


@dataclass
class FitOptions:
    """Resumption and test.

    Args:
        ckpt_path: checkpoint from which to resume with the settings given here, or a run folder for
            its last; to resume a run unchanged, use --resume
        resume: continue the newest unfinished run of this very configuration (auto: if there is
            one, must: fail if there is none)
        skip_test: end with validation and leave the test set alone, while settings are chosen
    """

    ckpt_path: str | None = None
    resume: Resume = "never"
    skip_test: bool = False


@dataclass
class EvaluationOptions:
    """Trained network.

    Args:
        ckpt_path: a trained network's checkpoint, such as
            lightning_logs/mnist/version_0/checkpoints/best.ckpt, a run folder for its best, or a
            pattern of several
        pretrained: in its place, a trained network of this package, such as mnist_polarity; predict
            takes mnist by default
    """

    ckpt_path: str | None = None
    pretrained: str | None = None


@dataclass
class PredictOptions:
    """Result.

    Args:
        output: CSV file of the predictions, or a folder for it; the contact sheet is the .png
            beside it. By default predictions.csv in the run folder, or here
    """

    output: str | None = None


COMMANDS: dict[str, tuple[type, ...]] = {
    "fit": (FitOptions,),
    "validate": (EvaluationOptions,),
    "test": (EvaluationOptions,),
    "predict": (EvaluationOptions, PredictOptions),
}
"""Options of each command beside those of run, trainer, model and data."""

NAMES = {each.name for kinds in COMMANDS.values() for kind in kinds for each in fields(kind)}
NAMES |= {"config", *(each.name for each in fields(RunOptions))}
"""Options of any command beside those of trainer, model and data."""
