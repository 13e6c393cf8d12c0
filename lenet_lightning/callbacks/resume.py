"""Resume from a checkpoint with other settings: each one takes effect or is refused.

Lightning restores the optimiser's arguments, the schedule and the callbacks' settings from the
checkpoint, over those of the new configuration, and says nothing. Here the new ones win.
"""

import inspect
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lenet_lightning.errors import UserError, full_key
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import checkpoint_schema
from lenet_lightning.store.checkpoint_schema import SchemaError
from lenet_lightning.store.configuration import arguments, class_path

Changes = dict[str, tuple[Any, Any]]

# Settings that can or cannot take effect half-way, and why not; the first that fits counts.
FIXED = {
    **{f"model.network.init_args.{name}": "" for name in ("dropout", "kernel")},
    "model.network.init_args.initializer": "the weights come from the checkpoint",
    "model.network": "the weights were trained for the other one",
    "model.scaling": "the weights were trained for the other one",
    "model.optimizer.class_path": "the checkpoint holds the state of the other optimiser",
    "model.scheduler": "the schedule resumes from the state in the checkpoint",
}

OPTIMIZER = "model.optimizer.init_args."

# Arguments that an optimiser reads at every step and that its state does not depend on.
TUNABLE = ("lr", "adam_lr", "betas", "eps", "epsilon", "weight_decay")


def check(changed: Changes, config: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    """Refuse settings that would have no effect on a resumed training.

    Args:
        changed: ``key: (old, new)``, from ``run_folder.changes``.
        config: the new configuration, complete.
        checkpoint: Lightning's checkpoint dictionary.

    Raises:
        UserError: naming the key, both values and the reason.
    """
    for key, (old, new) in changed.items():
        reason = next((why for prefix, why in FIXED.items() if key.startswith(prefix)), "")
        if key.startswith(OPTIMIZER):
            name = key.removeprefix(OPTIMIZER)
            if name not in TUNABLE:
                reason = "the optimiser's state in the checkpoint depends on it"
            elif name in ("lr", "adam_lr") and config["model"]["scheduler"]:
                reason = f"{FIXED['model.scheduler']} and sets the learning rate"
        if reason:
            raise UserError(
                f"{full_key([key])} was {old} and is now {new}, but {reason}: keep {old}, or "
                "leave --ckpt_path out and train anew."
            )
    if "loops" not in checkpoint:
        raise UserError(
            "The checkpoint holds weights only: resume from a last.ckpt; this one can be tested "
            "and exported."
        )
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    if progress["ready"] != progress["processed"]:
        raise UserError(
            "The checkpoint was saved within an epoch, of which the rest is not known any more: "
            "resume from a last.ckpt; this one can be tested and exported."
        )
    done = {"max_epochs": progress["processed"], "max_steps": checkpoint["global_step"]}
    for limit, count in done.items():
        value = config["trainer"][limit]
        if value is not None and 0 <= value <= count:
            raise UserError(
                f"trainer.{limit} is {value}, but the checkpoint has {count} behind it already: "
                "expected more."
            )


def same_network(
    model: dict[str, Any], trained: dict[str, Any], path: str | Path, single: bool = True
) -> None:
    """Refuse to evaluate a checkpoint as another network than it was trained as.

    Args:
        model: the options of the model.
        trained: those of the checkpoint's run, complete.
        path: the checkpoint.
        single: whether it is the only one.
    """
    remedy = (
        "leave --config out to take its own settings"
        if single
        else "choose checkpoints of one kind of network"
    )
    now, then = output_options(model), output_options(trained)
    for key in now | then:
        if now.get(key) != then.get(key):
            raise UserError(
                f"model.{key} is {now.get(key)}, but the checkpoint {path} was trained with "
                f"{then.get(key)}: {remedy}."
            )


def output_options(model: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a model that the output of its trained network depends on."""
    network = model["network"]
    own = {f"network.{name}": value for name, value in arguments(network).items()}
    for name in LeNet5.TRAINING_ONLY:
        own.pop(f"network.{name}", None)
    return {"network": class_path(network), "scaling": model["scaling"], **own}


def own_arguments(group: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the optimiser's arguments as they are called in a parameter group.

    A group whose learning rate is the argument ``adam_lr``, which ``Muon`` has, says so.
    """
    rates = {name: value for name, value in arguments.items() if name in ("lr", "adam_lr")}
    others = {name: value for name, value in arguments.items() if name not in rates}
    name = group.get("own_lr", "lr")
    return others | ({"lr": rates[name]} if name in rates else {})


def lines(changed: Changes) -> list[str]:
    """Return a line per change, for the terminal."""
    return [f"changed: {full_key([key])} {old} -> {new}" for key, (old, new) in changed.items()]


class Continuation(Callback):
    """Adapts what Lightning is about to restore to the new configuration.

    Args:
        checkpoint: the file that is restored.
        changed: ``key: (old, new)`` of every setting that differs, checked before.
    """

    def __init__(self, checkpoint: Path, changed: Changes) -> None:
        self.folder = checkpoint.parent.resolve()
        self.checkpoint: dict[str, Any] = {}
        self.optimizer = {
            key.removeprefix(OPTIMIZER): new
            for key, (_, new) in changed.items()
            if key.startswith(OPTIMIZER)
        }

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check what Lightning restores next, before anything is written.

        Raises:
            UserError: the checkpoint does not fit the optimizer or the scheduler.
        """
        try:
            checkpoint_schema.check_optimizers(self.checkpoint, trainer)
        except SchemaError as error:
            raise UserError(f"The checkpoint does not fit this training: {error}.") from error

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the new arguments of the optimiser and of the callbacks over the old ones."""
        self.checkpoint = checkpoint
        for state in checkpoint.get("optimizer_states", []):
            for group in state["param_groups"]:
                group.update(own_arguments(group, self.optimizer))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            state = checkpoint["callbacks"].get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state:
                if not self.moved(state, str(callback.dirpath)):
                    del checkpoint["callbacks"][callback.state_key]
            elif state:
                for name in inspect.signature(type(callback)).parameters.keys() & state.keys():
                    state[name] = getattr(callback, name)

    def moved(self, state: dict[str, Any], dirpath: str) -> bool:
        """Follow a run folder to where it lies now; false if ``dirpath`` is another run's.

        Lightning removes the files that a state names, so that each must be of this folder.
        """
        if state["dirpath"] != dirpath and Path(dirpath).resolve() != self.folder:
            return False

        def here(path: str) -> str:
            return str(Path(dirpath) / Path(path).name) if path else path

        state["dirpath"] = dirpath
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = here(state[key])
        state["best_k_models"] = {here(p): score for p, score in state["best_k_models"].items()}
        return True
