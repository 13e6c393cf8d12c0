"""Length of a learning rate schedule: that of the training, unless it is given."""

import pydoc
from typing import Any, cast

from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    StepLR,
)

from lenet_lightning.cli import checks
from lenet_lightning.training.schedulers import LinearCycles

# The argument that says when a schedule has come to its end.
LENGTHS: dict[type, str] = {
    CosineAnnealingLR: "T_max",
    LinearLR: "total_iters",
    PolynomialLR: "total_iters",
    OneCycleLR: "total_steps",
}


def left_out(name: str | None, given: frozenset[str]) -> str | None:
    """Return the argument for the length of a schedule, if it has one that was not given.

    Args:
        name: of the scheduler, with or without its package; None without a scheduler.
        given: its arguments.
    """
    for kind, argument in LENGTHS.items():
        if name and name.rpartition(".")[2] == kind.__name__:
            return None if given & {argument, "epochs", "steps_per_epoch"} else argument
    return None


def of_training(options: Any) -> int:
    """Return the length of the training in the scheduler's own interval, -1 without a limit.

    Args:
        options: the parsed configuration of ``fit``.
    """
    trainer, data, batches = options.trainer, options.data, 1
    if options.model.scheduler_interval == "step" or trainer.max_steps > 0:
        module = cast(Any, pydoc.locate(data.class_path))(**vars(data.init_args))
        limit = trainer.overfit_batches or trainer.limit_train_batches
        batches = checks.epoch_batches(module, limit)
    epochs, steps = checks.duration(trainer, batches)
    return steps if options.model.scheduler_interval == "step" else epochs


def disagreement(scheduler: Any, length: int, interval: str) -> str:
    """Return a sentence if a schedule is not as long as the training; else an empty one.

    Args:
        scheduler: of learning rates, or None.
        length: of the training, in ``interval``; -1 without a limit.
        interval: epoch or step.
    """
    given, effect = _effect(scheduler, length) if length > 0 else ("", "")
    if not effect:
        return ""
    return f"model.scheduler has {given}, but training takes {length} {interval}s: {effect}."


def _effect(scheduler: Any, length: int) -> tuple[str, str]:
    """Return arguments of a scheduler, and what is wrong with them in a training of this length."""
    within = "it ends within a cycle, before the learning rate is back"
    match scheduler:
        case MultiStepLR():
            late = max(scheduler.milestones, default=0) >= length
            given = f"the milestones {', '.join(map(str, sorted(scheduler.milestones)))}"
            return given, "those from its end on have no effect" * late
        case StepLR():
            late = scheduler.step_size >= length
            return f"step_size {scheduler.step_size}", "the learning rate never falls" * late
        case LinearCycles(first=first, every=every):
            inside = length < first or (length - first) % every > 0
            return f"first {first} and every {every}", within * inside
        case CyclicLR(total_size=size):
            return f"cycles of {size:g}", within * (length % size > 0)
        case CosineAnnealingWarmRestarts(T_0=first, T_mult=factor):
            end = cycle = first
            while end < length:
                cycle *= factor
                end += cycle
            return f"T_0 {first} and T_mult {factor}", within * (end > length)
    kinds = {**LENGTHS, ConstantLR: "total_iters"}
    argument = next((name for kind, name in kinds.items() if isinstance(scheduler, kind)), "")
    ends = getattr(scheduler, argument, length)
    falls_to_zero = isinstance(scheduler, PolynomialLR) or not getattr(scheduler, "end_factor", 1)
    effect = ""
    if ends > length:
        effect = "it ends before the learning rate has come to its end"
    elif ends < length and isinstance(scheduler, CosineAnnealingLR):
        effect = "the learning rate rises again after that"
    elif ends < length and falls_to_zero:
        effect = "the learning rate is 0 after that, so that the weights no longer change"
    remedy = f"; give {length}" + (", or leave it out" if type(scheduler) in LENGTHS else "")
    return f"{argument} {ends}", effect and effect + remedy
