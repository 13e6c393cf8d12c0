"""The report is made from run folders alone, and only they decide what is in it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_lightning import formatting, plotting
from lenet_lightning.__main__ import main
from lenet_lightning.errors import UserError
from lenet_lightning.store.manifest import Data, Manifest
from lenet_lightning.study import command, results
from lenet_lightning.study.plan import Setting, load
from lenet_lightning.study.report import build, charts, kept, tables
from lenet_lightning.study.results import Result
from tests.study.fakes import write_run, write_study

GROUPS, KINDS = ("easy", "hard"), ("accuracy", "negatives", "classes")
FILES = ("report.html", "report.md", "results.csv", "summary.csv")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without_timing(folder: Path) -> dict[str, Any]:
    """What a report says but for its timing lines."""
    text = (folder / "report.md").read_text()
    kept = [line for line in text.splitlines() if not re.match(r"- (Started|Time):", line)]
    runs = [{k: v for k, v in r.items() if k not in tables.TIMING} for r in rows(folder / FILES[2])]
    pictures = {p.name: p.read_bytes() for p in (folder / "figures").iterdir()}
    return {"md": kept, "runs": runs, "summary": rows(folder / FILES[3]), "pictures": pictures}


class Page(HTMLParser):
    """Collects what a page would fetch, and checks that tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "srcset")]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_everything_is_written(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    page = build.write(folder)
    assert page == folder / "report.html"
    assert len(rows(folder / "results.csv")) == 21
    assert len(rows(folder / "summary.csv")) == 7
    markdown = (folder / "report.md").read_text()
    pictures = re.findall(r'src="(figures/[^"]+)"', markdown)
    assert "figures/fig_1.b.1_a.png" in pictures
    assert {p.name for p in (folder / "figures").iterdir()} == {Path(p).name for p in pictures}
    assert "## Claims" in markdown and "reproduced" in markdown
    stems = {
        "claims",
        "best",
        "errors",
        "data",
        *(f"{kind}_{group}" for kind in KINDS for group in GROUPS),
    }
    names = {f"{stem}.{ending}" for stem in stems for ending in ("csv", "tex")}
    assert {path.name for path in (folder / "tables").iterdir()} == names
    assert not (folder / kept.RUNS).exists()
    assert not list(folder.glob(".*partial"))


def test_the_report_can_be_rebuilt_from_its_archive(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=2)
    (folder / "assets").mkdir()
    shutil.copy(build.write(folder).parent / "figures/fig_1.1.png", folder / "assets/fig_1.c.1.png")
    (folder / "assets/fig_1.c.1.txt").write_text("statistics")
    out = tmp_path / "out"
    build.write(folder, out)
    shutil.rmtree(folder)
    written = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    for path in written:
        if path.name != kept.RUNS:
            path.unlink()
    build.write(out)
    build.write(out, tmp_path / "again")
    for path, content in written.items():
        assert path.read_bytes() == content
        assert (tmp_path / "again" / path.relative_to(out)).read_bytes() == content


def test_the_figures_of_lost_runs_make_a_report(tmp_path: Path) -> None:
    """Tables and claims from ``results.csv``, the rest as the first report showed it."""
    folder = write_study(tmp_path / "fake")
    for file in folder.rglob("run.json"):
        manifest = json.loads(file.read_text())
        file.write_text(json.dumps(manifest | {"data": manifest["data"] | {"name": "MNIST"}}))
    build.write(folder)
    (folder / "study.json").write_text('{"made": ["Hardware: an abacus."]}')
    before = {p: p.read_text() for p in (folder / "tables").iterdir()}
    pictures = {p.name: p.read_bytes() for p in (folder / "figures").iterdir()}
    for setting in folder.glob("*_*"):
        shutil.rmtree(setting)
    build.write(folder)
    again = {p: p.read_text() for p in (folder / "tables").iterdir()}
    numbers = re.compile(r"[-+]?\d+\.\d+")
    assert before.keys() == again.keys()
    for path, text in before.items():
        found, expected = ([float(n) for n in numbers.findall(t)] for t in (again[path], text))
        assert found == pytest.approx(expected, abs=0.011), path
    assert {p.name: p.read_bytes() for p in (folder / "figures").iterdir()} == pictures
    markdown = (folder / "report.md").read_text()
    assert "only their figures in `results.csv`" in markdown and "an abacus" in markdown
    written = (folder / "report.html").read_bytes()
    build.write(folder)
    assert (folder / "report.html").read_bytes() == written


@pytest.mark.parametrize("text", ["a,b\n1\n", "setting,seed\na,1\n", "a\n1,2\n"])
def test_a_damaged_table_of_runs_is_one_sentence(tmp_path: Path, text: str) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    for setting in folder.glob("*_*"):
        shutil.rmtree(setting)
    (folder / "results.csv").write_text(text)
    with pytest.raises(UserError, match=r"results\.csv is damaged"):
        build.write(folder)


def test_run_folders_are_preferred_to_an_archive(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    build.write(folder, folder / "figures" / "..")
    assert not (folder / kept.RUNS).exists()
    (folder / kept.RUNS).write_bytes(b"an old one")
    with kept.opened(folder) as place:
        assert place == folder


def test_an_archive_writes_nothing_elsewhere(tmp_path: Path) -> None:
    for name, content in (("../escaped", b""), ("big", b"0" * 10)):
        folder = tmp_path / name.strip("./")
        folder.mkdir()
        with tarfile.open(folder / kept.RUNS, "w:xz") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    with pytest.raises(UserError, match=r"runs\.tar\.xz is damaged"):
        build.write(tmp_path / "escaped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "MAX_BYTES", 9)
        with pytest.raises(UserError, match="more than 9 bytes"):
            build.write(tmp_path / "big")
    (tmp_path / "big" / kept.RUNS).write_bytes(b"none")
    with pytest.raises(UserError, match=r"runs\.tar\.xz is damaged"):
        build.write(tmp_path / "big")


def test_shared_teachers_are_named(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    for file in folder.glob("easy_half/*/*/run.json"):
        manifest = json.loads(file.read_text())
        file.write_text(json.dumps(manifest | {"teachers": {"a.ckpt": "sha256:0"}}))
    build.write(folder)
    assert "Runs of `easy_half` share teachers" in (folder / "report.md").read_text()


def test_runs_in_two_groups_are_counted_and_drawn_one_by_one(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", skip=("easy_ones/seed_1",))
    write_run(folder / "easy_ones/seed_1/version_0", accuracy=0.8, seed=1)
    build.write(folder)
    (row,) = [r for r in rows(folder / "tables/accuracy_easy.csv") if r["Setting"] == "Ones"]
    assert re.fullmatch(r"2 runs at 2\d\.\d\d %, 1 at [78]\d\.\d\d %", row["Last epoch on test"])
    assert row["95 % over seeds"] == row["95 % of this test set"] == formatting.NONE
    study = load(folder / "study.yaml", check_base=False)
    own = [r for r in results.gather(study, folder) if r.setting.name == "easy_ones"]
    ((panel,),) = charts.accuracy(own)
    lines = plotting.panels([[panel]]).axes[0].lines
    assert len(lines) == 6 and lines[0].get_label() == "training (each run)"


def test_curves_that_all_end_near_1_are_drawn_as_errors(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", accuracy=0.99, noise=0.002, epochs=20)
    study = load(folder / "study.yaml", check_base=False)
    own = [r for r in results.gather(study, folder) if r.setting.name == "easy_adam"]
    ((panel,),) = charts.accuracy(own)
    assert panel.quantity == "error"
    run = own[0].curve("train/acc")
    assert np.nanmax(np.abs(panel.curves[0].runs[0] - (1 - run))) < 1e-12
    assert plotting.panels([[panel]]).axes[0].get_yscale() == "log"


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=2)
    page = Page(build.write(folder).read_text())
    assert not page.open
    assert all(link.startswith(("data:", "#")) for link in page.fetched)
    assert sum(link.startswith("data:image/png") for link in page.fetched) == 3


def test_numbers_are_those_of_the_runs(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    build.write(folder)
    for row in rows(folder / "results.csv"):
        run = folder / row["folder"]
        manifest = json.loads((run / "run.json").read_text())
        test = [float(line["test/acc"]) for line in rows(run / "metrics.csv")]
        assert float(row["honest_accuracy"]) == pytest.approx(manifest["test"]["acc"], abs=1e-6)
        assert float(row["best_accuracy"]) == pytest.approx(max(test), abs=1e-6)
        assert float(row["last_accuracy"]) == pytest.approx(test[-1], abs=1e-6)


@pytest.mark.parametrize("rows", [[], [0.4, 0.5]])
def test_a_diverged_run_counts_at_chance_and_shows_no_loss(rows: list[float]) -> None:
    """As real ones leave it: no row of the epoch that diverged, and no metrics.csv before any."""
    columns = ("test/acc", "test/loss", "test/loss_negative")
    result = Result(
        Setting("wild", "Wild", "", Path()), 0, status="nonfinite",
        manifest=Manifest(protocol="watch", data=Data(classes=list("abcde"))),
        config={"trainer": {"max_epochs": 10}},
        metrics={name: np.array(rows) for name in columns} if rows else {},
    )  # fmt: skip
    assert result.measure("last_accuracy") == result.measure("honest_accuracy") == 0.2
    assert result.measure("best_accuracy") == (0.5 if rows else 0.2)
    for name in ("variation", "last_loss", "last_loss_negative", "honest_loss"):
        assert np.isnan(result.measure(name)), name


def test_one_seed_has_no_intervals(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    build.write(folder)
    row = rows(folder / "summary.csv")[0]
    assert row["honest_accuracy_n"] == "1"
    assert row["honest_accuracy_low"] == row["honest_accuracy_sd"] == ""
    assert row["honest_accuracy_wilson_low"] != ""
    markdown = (folder / "report.md").read_text()
    assert "0 reproduced, 0 not reproduced, 6 undecided" in markdown
    assert "±" not in markdown.replace("mean ± standard deviation", "")


def test_failed_and_nonfinite_runs(tmp_path: Path) -> None:
    skip = ("easy_ones/seed_0", "easy_ones/seed_1", "hard_ones/seed_2")
    folder = write_study(tmp_path / "fake", skip=skip)
    lost = folder / "easy_ones/seed_0/version_0"
    write_run(lost, status="nonfinite", seed=0, accuracy=0.2)
    failed = folder / "easy_ones/seed_1/version_0"
    write_run(failed, status="failed", seed=1, accuracy=0.2, error="The disk is full.")
    build.write(folder)
    found = {(r["setting"], r["seed"]): r for r in rows(folder / "results.csv")}
    assert found["easy_ones", "0"]["status"] == "nonfinite"
    # Four classes: a network without finite outputs counts at a quarter.
    assert found["easy_ones", "0"]["last_accuracy"] == "0.25"
    assert found["easy_ones", "0"]["honest_accuracy"] == "0.25"
    assert found["easy_ones", "0"]["honest_accuracy_views"] == ""
    assert found["easy_ones", "1"]["best_accuracy"] == ""
    markdown = (folder / "report.md").read_text()
    assert "2 (1 non-finite)" in markdown
    assert "`easy_ones` seed 1, failed: The disk is full." in markdown
    assert "`hard_ones` seed 2, missing" in markdown
    assert "19 of 21 runs are complete" in markdown


def test_the_order_and_time_of_runs_do_not_matter(tmp_path: Path) -> None:
    first = write_study(tmp_path / "one" / "fake")
    build.write(first)
    again = write_study(
        tmp_path / "two" / "fake",
        skip=("easy_adam/seed_1", "hard_ones/seed_0"),
        started="2026-02-02T02:02:02+00:00",
        seconds=77.0,
    )
    build.write(again)  # of the study as it was when it was stopped
    for key in ("hard_ones/seed_0", "easy_adam/seed_1"):
        accuracy = 0.95 if "adam" in key else 0.7 * 0.25
        write_run(again / key / "version_0", accuracy=accuracy, seed=int(key[-1]))
    build.write(again)
    assert without_timing(again) == without_timing(first)


def test_a_copied_folder_gives_the_same_report(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=2)
    build.write(folder)
    shutil.copytree(folder, tmp_path / "elsewhere")
    build.write(tmp_path / "elsewhere", tmp_path / "out")
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_the_index_says_which_version_counts(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    write_run(folder / "easy_adam/seed_0/version_1", accuracy=0.5)
    study = load(folder / "study.yaml", check_base=False)
    assert results.gather(study, folder)[0].folder == "easy_adam/seed_0/version_1"
    index = {"runs": {"easy_adam/seed_0": {"folder": "easy_adam/seed_0/version_0"}}}
    (folder / results.INDEX).write_text(json.dumps(index))
    found = results.gather(study, folder)
    assert found[0].folder == "easy_adam/seed_0/version_0"
    assert {result.status for result in found[1:]} == {"missing"}


@pytest.mark.parametrize(
    "text",
    ["[", "[1]", '{"runs": []}', '{"runs": {"a": 1}}', '{"runs": {"a": {"folder": "../b"}}}'],
)
def test_a_damaged_index_is_one_sentence(tmp_path: Path, text: str) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    (folder / results.INDEX).write_text(text)
    with pytest.raises(UserError, match=r"study\.json is damaged"):
        build.write(folder)


def test_a_damaged_run_is_passed_over(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    (folder / "easy_adam/seed_0/version_0/run.json").write_text("[1]")
    study = load(folder / "study.yaml", check_base=False)
    with pytest.warns(UserWarning, match=r"run\.json is damaged.*It is passed over"):
        assert results.gather(study, folder)[0].status == "missing"


@pytest.mark.parametrize("protocol", ["holdout", "report"])
def test_other_protocols_show_what_they_have(tmp_path: Path, protocol: str) -> None:
    folder = write_study(tmp_path / "fake", seeds=2, protocol=protocol)
    build.write(folder)
    row = rows(folder / "summary.csv")[0]
    assert bool(row["honest_accuracy_mean"]) == (protocol == "holdout")
    assert bool(row["best_accuracy_mean"]) == (protocol == "report")
    assert f"Protocol `{protocol}`" in (folder / "report.md").read_text()


def test_generic_figures_without_figures_or_claims(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text[: text.index("figures:")])
    build.write(folder)
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert {"fig_accuracy_easy_adam", "fig_accuracy_hard_ones", "comparison_hard"} <= names
    assert "## Claims" not in (folder / "report.md").read_text()


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a study's folder .*study.yaml"):
        build.write(tmp_path)
    folder = write_study(tmp_path / "fake", seeds=1)
    for path in folder.glob("*_*"):
        shutil.rmtree(path)
    with pytest.raises(UserError, match="holds no runs of the study 'fake'"):
        build.write(folder)
    assert not (folder / "report.html").exists()


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    code = (
        "import sys; from lenet_lightning.study.command import main; "
        f"main(['report', {str(folder)!r}]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "report.html")


def test_where_nothing_can_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    file = tmp_path / "file"
    file.touch()
    assert main(["study", "report", str(folder), "--output", str(file / "below")]) == 2
    assert f"The system refused a file ({file}" in capsys.readouterr().err


def test_wrong_flags_are_one_sentence() -> None:
    with pytest.raises(UserError, match="--config FILE"):
        command.main([])
    with pytest.raises(UserError, match=r"study: .*--jbos"):
        command.main(["--jbos", "2"])
    with pytest.raises(UserError, match="FOLDER"):
        command.main(["report"])
