"""The average over ends of learning rate cycles: what it is, when it changes, how it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.training.schedulers import LinearCycles
from tests.conftest import PLAIN, Run

CYCLES = """\
trainer:
  callbacks:
    - class_path: lenet_lightning.CycleAveraging
model:
  scheduler:
    class_path: lenet_lightning.LinearCycles
    init_args: {first: 2, every: 1}
"""
FIT = f"{PLAIN} --config cycles.yaml --trainer.max_epochs 4"


@pytest.fixture
def config() -> None:
    Path("cycles.yaml").write_text(CYCLES)


def saved(name: str, file: str = "last.ckpt", key: str = "state_dict") -> dict[str, Tensor]:
    return checkpoints.load(f"lightning_logs/{name}/version_0/checkpoints/{file}")[key]


def ends(run: Run) -> list[dict[str, Tensor]]:
    """The weights after epochs 2, 3 and 4, by runs that stop there."""
    found = []
    for epochs in (2, 3, 4):
        run(f"{FIT} --trainer.max_epochs {epochs} --name until_{epochs}")
        found.append(saved(f"until_{epochs}", key="current_model_state"))
    return found


def test_is_the_mean_of_the_ends(run: Run, config: None) -> None:
    assert run(f"{FIT} --name whole").code == 0
    average, last = saved("whole"), ends(run)
    for name, value in average.items():
        mean = torch.stack([own[name] for own in last]).mean(0)
        torch.testing.assert_close(value, mean)
    key = "network.output.weight"
    assert not torch.equal(average[key], last[-1][key])


def validated(name: str) -> list[float]:
    return list(run_folder.read(f"lightning_logs/{name}/version_0").metrics["val/loss"])


def test_is_the_network_itself_until_the_first_end(run: Run, config: None) -> None:
    plain = CYCLES.split("model:")[1]
    Path("plain.yaml").write_text(f"model:{plain}")
    fit = f"{PLAIN} --trainer.max_epochs 4"
    assert run(f"{fit} --config plain.yaml --name plain").code == 0
    assert run(f"{FIT} --name averaged").code == 0
    averaged, raw = validated("averaged"), validated("plain")
    assert averaged[:2] == raw[:2]
    assert averaged[2] != raw[2]


STARTING = (
    f"{PLAIN} --trainer.callbacks EMAWeightAveraging --trainer.callbacks.decay 0.9 "
    "--trainer.callbacks.update_starting_at_step"
)


def test_an_average_that_has_not_started_is_the_network(run: Run) -> None:
    """21 steps an epoch: the first update is within the second of three epochs."""
    assert run(f"{PLAIN} --trainer.max_epochs 3 --name plain").code == 0
    ended = run(f"{STARTING} 25 --trainer.max_epochs 3 --name averaged")
    assert (ended.code, ended.err) == (0, "")
    averaged, raw = validated("averaged"), validated("plain")
    assert averaged[0] == raw[0]
    assert averaged[1] != raw[1] and averaged[2] != raw[2]
    assert averaged[1] < averaged[0]


def test_an_average_starts_in_a_run_that_was_stopped_before_it(run: Run) -> None:
    assert run(f"{STARTING} 25 --trainer.max_epochs 3 --name whole").code == 0
    # The checkpoint of the first epoch holds the network, and no average.
    first = f"{STARTING} 25 --trainer.max_epochs 2 --name half"
    assert run(f"{first} --trainer.limit_train_batches 1.0").code == 0
    last = "lightning_logs/half/version_0/checkpoints/last.ckpt"
    assert run(f"{STARTING} 25 --trainer.max_epochs 3 --name on --ckpt_path {last}").code == 0
    for name, value in saved("whole").items():
        assert torch.equal(value, saved("on")[name])


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("42", "first update is at step 42, but the last step of the training is 41"),
        ("40 --trainer.callbacks.update_every_n_steps 25", "first update is at step 50"),
        ("20 --trainer.max_steps 21 --trainer.callbacks.update_every_n_steps 11", "at step 22"),
        ("5 --trainer.limit_train_batches 2", "the last step of the training is 3"),
        ("0 --trainer.callbacks.update_every_n_steps 0", "update_every_n_steps is 0"),
        ("-1", "update_starting_at_step is -1"),
    ],
)
def test_a_start_that_never_comes(run: Run, options: str, part: str) -> None:
    refused = run(f"{STARTING} {options}")
    assert refused.code == 2 and part in refused.err
    assert "EMAWeightAveraging" in refused.err and not Path("lightning_logs").exists()


def test_an_average_may_start_with_the_last_step(run: Run) -> None:
    assert run(f"{STARTING} 41 --name last").code == 0
    assert "current_model_state" in checkpoints.load(
        "lightning_logs/last/version_0/checkpoints/last.ckpt"
    )


def test_cycles_that_never_end(run: Run, config: None) -> None:
    refused = run(f"{FIT} --trainer.max_epochs 1")
    assert refused.code == 2
    assert "model.scheduler.first is 2, but training takes 1 epochs" in refused.err
    assert not Path("lightning_logs").exists()


class FromSecondEpoch(WeightAveraging):
    """A user's average, which Lightning would validate before it has begun."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """From step 21 on."""
        return step_idx is not None and step_idx >= 21


def test_averages_of_ones_own(run: Run) -> None:
    assert run(f"{PLAIN} --name plain").code == 0
    own = f"{__name__}.FromSecondEpoch"
    assert run(f"{PLAIN} --trainer.callbacks {own} --allow_imports {own} --name own").code == 0
    assert validated("own")[0] == validated("plain")[0]
    assert validated("own")[1] != validated("plain")[1]


def test_is_what_is_validated_and_tested(run: Run, config: None) -> None:
    """Its penalty too, which is that of the average and not of the network that is trained."""
    done = run(f"{FIT} --name whole --monitor val/loss --model.l2 0.01")
    assert (done.code, done.err) == (0, "")
    folder = Path("lightning_logs/whole/version_0")
    run_ = run_folder.read(folder)
    best = folder / "checkpoints/best.ckpt"
    assert run(f"validate --ckpt_path {best}").code == run(f"test --ckpt_path {best}").code == 0
    val, test = run_folder.read(folder).manifest.evaluations
    assert val["loss"] == run_.metrics["val/loss"][run_.manifest.best_epoch]
    assert test["loss"] == run_.manifest.test["loss"]


def test_steps_per_execution_changes_nothing(run: Run, config: None) -> None:
    for steps in ("1", "auto"):
        assert run(f"{FIT} --name steps_{steps} --data.steps_per_execution {steps}").code == 0
    one = saved("steps_1")
    for name, value in saved("steps_auto").items():
        assert torch.equal(value, one[name])


@pytest.mark.parametrize("options", ["--trainer.limit_train_batches 5", "--trainer.max_steps 30"])
def test_of_shortened_epochs(run: Run, config: None, options: str) -> None:
    assert run(f"{FIT} --name short {options} --trainer.max_epochs 2").code == 0
    for name, value in saved("short").items():
        torch.testing.assert_close(value, saved("short", key="current_model_state")[name])


def test_joins_a_run_that_goes_on(run: Run, config: None) -> None:
    alone = Path("alone.yaml")
    alone.write_text("model:" + CYCLES.split("model:")[1])
    assert run(f"{PLAIN} --config alone.yaml --trainer.max_epochs 3 --name alone").code == 0
    last = "lightning_logs/alone/version_0/checkpoints/last.ckpt"
    assert run(f"{FIT} --trainer.max_epochs 5 --name on --ckpt_path {last}").code == 0
    ended = []
    for epochs in (4, 5):
        assert run(f"{FIT} --trainer.max_epochs {epochs} --name to_{epochs}").code == 0
        ended.append(saved(f"to_{epochs}", key="current_model_state"))
    for name, value in saved("on").items():
        torch.testing.assert_close(value, (ended[0][name] + ended[1][name]) / 2)


def test_goes_on_after_a_stop(run: Run, config: None) -> None:
    assert run(f"{FIT} --name whole").code == 0
    assert run(f"{FIT} --trainer.max_epochs 3 --name half").code == 0
    last = "lightning_logs/half/version_0/checkpoints/last.ckpt"
    assert run(f"{FIT} --name on --ckpt_path {last}").code == 0
    for name, value in saved("whole").items():
        assert torch.equal(value, saved("on")[name])


def test_with_distillation(run: Run, config: None, trained: Path) -> None:
    teachers = f"""\
    - class_path: lenet_lightning.Distillation
      init_args: {{teachers: "{trained}/checkpoints/best.ckpt"}}
model:
"""
    Path("cycles.yaml").write_text(CYCLES.replace("model:\n", teachers))
    done = run(f"{FIT} --name distilled --trainer.max_epochs 3")
    assert (done.code, done.err) == (0, "")
    average, last = saved("distilled"), saved("distilled", key="current_model_state")
    assert (
        average.keys()
        == last.keys()
        == checkpoints.load(trained / "checkpoints/best.ckpt")["state_dict"].keys()
    )
    assert not torch.equal(average["network.output.weight"], last["network.output.weight"])


@pytest.mark.parametrize("options", ["", "--model.scheduler_interval step"])
def test_needs_cycles(run: Run, config: None, options: str) -> None:
    scheduler = "" if options else "--model.scheduler ConstantLR"
    refused = run(f"{FIT} {scheduler} {options}")
    assert refused.code == 2
    assert "it needs model.scheduler lenet_lightning.LinearCycles" in refused.err
    assert not Path("lightning_logs").exists()


class TestLinearCycles:
    def scheduler(self, first: int = 4, every: int = 2, peak: float = 0.5) -> LinearCycles:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
        return LinearCycles(optimizer, first, every, peak)

    def test_rates(self) -> None:
        scheduler, rates = self.scheduler(), []
        for _ in range(8):
            rates.append(scheduler.get_last_lr()[0])
            scheduler.optimizer.step()
            scheduler.step()
        assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.4, 0.2, 0.4, 0.2])

    def test_ends(self) -> None:
        ended = [self.scheduler().ended(epochs) for epochs in range(9)]
        assert ended == [0, 0, 0, 0, 1, 1, 2, 2, 3]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"first": 0}, "first is 0"),
            ({"every": 0}, "every is 0"),
            ({"peak": 0.0}, "peak is 0.0"),
            ({"peak": 1.5}, "peak is 1.5"),
        ],
    )
    def test_refuses(self, arguments: dict[str, float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.scheduler(**arguments)
