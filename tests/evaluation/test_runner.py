"""The harness, through its command, on a small tree."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from deformsample.cli.main import main
from deformsample.conventions import STAGES
from deformsample.errors import ArgumentError, DataError
from deformsample.evaluation.plan import Method, Plan, Run, read_plan, runs
from deformsample.evaluation.report import (
    Row,
    accuracy_at_equal_time,
    collect,
    equivalent_samples,
    markdown,
    read_csv,
    write_csv,
)
from deformsample.files.configs import find_config
from tests.helpers import naming

PLANS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def plan_file(in_tmp: Path, folder_tree: Path) -> Path:
    small = {
        "model": {
            "segmenter": {
                "class_path": "deformsample.segmenters.SampledSegmenter",
                "init_args": {
                    "network": {
                        "class_path": "deformsample.networks.UNet",
                        "init_args": {"widths": [8, 8]},
                    }
                },
            }
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 1},
        "data": {"root": str(folder_tree), "num_workers": 0, "batch_size": 2},
    }
    (in_tmp / "small.yaml").write_text(yaml.safe_dump(small))
    plan = {
        "configs": ["folder.yaml", "small.yaml"],
        "budgets": {"small": [16, 24]},
        "seeds": [0, 1],
        "classes": ["object"],
        "boundary_width": 2,
        "methods": {
            "uniform": {
                "configs": ["method/uniform.yaml"],
                "baseline": True,
                "budgets": ["small"],
            },
            "regressor": {"configs": ["method/edge_optimal_sampler.yaml"], "shown": False},
            "edge-optimal": {"configs": ["method/edge_optimal.yaml"], "sampler": "regressor"},
        },
    }
    file = in_tmp / "plan.yaml"
    file.write_text(yaml.safe_dump(plan, sort_keys=False))
    return file


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are trained and measured here: to start processes takes longer than their work."""

    def call(arguments: Sequence[str], log: Path, threads: int | None) -> None:
        assert main(arguments) == 0

    monkeypatch.setattr("deformsample.evaluation.runner._call", call)


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_trains_measures_reports_and_goes_on_where_it_stopped(
    plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["benchmark", "--config", str(plan_file), "--output", "out"]
    assert main([*command, "--seeds", "0"]) == 0
    out = Path("out")
    assert (out / "curves.png").stat().st_size > 10_000
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [(r["method"], r["budget"]) for r in rows] == [
        ("uniform", "small"),
        ("regressor", "small"),
        ("edge-optimal", "small"),
    ]
    assert {r["pixels"] for r in rows} == {"384"}
    for row in rows:
        for name in ("miou", "miou_warped", "upper_bound", "boundary_iou", "iou/object"):
            assert 0 <= float(row[name]) <= 1
        for name in ("seconds", "seconds/decode", "seconds/unwarp", "gigamacs"):
            assert float(row[name]) > 0
    read = read_csv(out / "results.csv")
    assert [row.method for row in read] == ["uniform", "regressor", "edge-optimal"]
    assert set(read[0].cost) >= {"seconds", "seconds/unwarp", "gigamacs", "pixels"}
    table = (out / "results.md").read_text()
    assert "regressor" not in table
    assert "| edge-optimal |" in table

    # The second stage has the sampler of the first one.
    weights = [
        torch.load(out / name / "small/seed_0/training/checkpoints/last.ckpt", weights_only=True)
        for name in ("regressor", "edge-optimal")
    ]
    sampler, name = "segmenter.downsampler.sampler.", "network.second.head.weight"
    first = weights[0]["state_dict"][sampler + name]
    second = weights[1]["state_dict"][f"{sampler}sampler.{name}"]
    assert torch.equal(first, second)

    kept = (out / "regressor/small/seed_0/accuracy.json").stat().st_mtime_ns
    (out / "uniform/small/seed_0/accuracy.json").unlink()
    capsys.readouterr()
    assert main([*command, "--seeds", "0"]) == 0
    assert "2 of 3 runs are done already" in capsys.readouterr().out
    assert (out / "regressor/small/seed_0/accuracy.json").stat().st_mtime_ns == kept
    assert (out / "uniform/small/seed_0/accuracy.json").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", ["cityscapes", "deepglobe"])
def test_plans_for_a_gpu_run_on_small_trees(
    name: str, cityscapes_tree: Path, deepglobe_tree: Path, in_tmp: Path
) -> None:
    root = {"cityscapes": cityscapes_tree, "deepglobe": deepglobe_tree}[name]
    plan = PLANS / f"{name}.yaml"
    options = [
        "--model.segmenter.network=deformsample.networks.UNet",
        *("--data.num_workers=0", "--data.batch_size=2"),
        *("--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"),
        *("--trainer.limit_train_batches=1", "--trainer.accelerator=cpu"),
    ]
    command = [
        *("benchmark", "--config", str(plan), "--root", str(root), "--output", "out"),
        *("--budget", next(iter(read_plan(plan).budgets)), "--seeds", "0"),
        *("--method", "uniform", "--method", "error curves"),
        *(f"--option={option}" for option in options),
    ]
    assert main(command) == 0
    with Path("out/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["uniform", "error curves"]


@pytest.mark.parametrize("file", sorted(PLANS.glob("*.yaml")), ids=lambda file: file.stem)
def test_plans_name_shipped_configs(file: Path) -> None:
    if "budgets" not in yaml.safe_load(file.read_text()):
        return  # a config of a network or a schedule
    plan = read_plan(file)
    for name in (*plan.configs, *(c for method in plan.methods.values() for c in method.configs)):
        assert find_config(str(PLANS.parent / name) if "benchmarks" in name else name).is_file()


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_its_log(
    plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(plan_file.read_text())
    content["methods"]["uniform"]["options"] = ["--model.nonsense=1"]
    plan_file.write_text(yaml.safe_dump(content, sort_keys=False))
    command = ["benchmark", "--config", str(plan_file), "--output", "out", "--seeds", "0"]
    assert main([*command, "--method", "uniform"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "nonsense" in error
    assert "training.log" in error


def test_means_deviations_and_gains_over_the_best_baseline(tmp_path: Path) -> None:
    plan = Plan(
        configs=[],
        methods={
            "a": Method(baseline=True),
            "b": Method(baseline=True),
            "c": Method(),
        },
        budgets={"1/8": (4, 6)},
        classes=["x"],
        seeds=[0, 1],
    )
    values = {"a": (0.1, 0.3), "b": (0.3, 0.5), "c": (0.6, 0.6)}
    every = list(runs(plan, tmp_path))
    for run in every:
        run.folder.mkdir(parents=True)
        score = {"iou/x": values[run.method][run.seed], "miou": 0.5}
        (run.folder / "accuracy.json").write_text(json.dumps(score))
    rows = collect(plan, every)
    assert [row.mean("iou/x") for row in rows] == pytest.approx([0.2, 0.4, 0.6])
    assert rows[0].deviation("iou/x") == pytest.approx(0.1414, abs=1e-4)
    write_csv(rows, tmp_path / "results.csv")
    assert read_csv(tmp_path / "results.csv") == rows
    table = markdown(plan, rows)
    assert "| c | 0.600 ± 0.000 (+50%)" in table
    assert "| a | 0.200 ± 0.141 (-50%)" in table


def test_uniform_samples_and_time_for_the_same_accuracy() -> None:
    plan = Plan(
        configs=[],
        methods={"uniform": Method(baseline=True), "other": Method()},
        budgets={"a": (10, 10), "b": (20, 20), "c": (40, 40)},
        classes=[],
    )

    def row(method: str, budget: str, miou: float, seconds: float) -> Row:
        return Row(method, budget, [0], {"miou": [miou]}, {"seconds": seconds})

    rows = [
        row("uniform", "a", 0.5, 1.0),
        row("uniform", "b", 0.6, 4.0),
        row("uniform", "c", 0.7, 16.0),
    ]
    between = row("other", "a", 0.65, 2.0)  # half of the way from 400 to 1600, in logarithms
    assert equivalent_samples(plan, rows, between) == "8.0 N"
    assert accuracy_at_equal_time(plan, rows, between) == "0.550"
    assert equivalent_samples(plan, rows, row("other", "b", 0.8, 2.0)) == ">4.0 N"
    assert equivalent_samples(plan, rows, row("other", "c", 0.4, 2.0)) == "<0.1 N"
    assert accuracy_at_equal_time(plan, rows, row("other", "b", 0.4, 32.0)) == "-"
    assert equivalent_samples(plan, rows[:1], between) == "-"


def test_tiles_have_the_samples_of_all_tiles_of_an_image() -> None:
    plan = Plan(
        configs=[],
        methods={"uniform": Method(baseline=True), "tiles": Method(size="tile")},
        budgets={"a": (10, 10), "b": (20, 20), "tile": (30, 40)},
        classes=[],
    )
    rows = [
        Row("uniform", "a", [0], {"miou": [0.5]}, {}),
        Row("uniform", "b", [0], {"miou": [0.6]}, {}),
    ]
    cost = {"pixels": 800.0, "gigamacs": 1.0, "seconds": 1.0}
    cost |= {f"seconds/{name}": 0.1 for name in ("decode", *STAGES)}
    tiles = Row("tiles", "tile", [0], {"miou": [0.6]}, cost)
    assert equivalent_samples(plan, rows, tiles) == "0.5 N"
    assert equivalent_samples(plan, rows, replace(tiles, cost={})) == "-"
    text = markdown(plan, [*rows, tiles])
    assert "### tile: 30 x 40 pixels of a tile" in text
    assert "### a: 10 x 10 samples" in text


def test_a_sampler_is_trained_before_what_takes_it(tmp_path: Path) -> None:
    plan = Plan(
        configs=[],
        methods={"late": Method(sampler="early"), "early": Method()},
        budgets={"a": (4, 6), "b": (8, 12)},
        classes=[],
        seeds=[3],
    )
    every = list(runs(plan, tmp_path))
    assert [(run.method, run.budget) for run in every] == [
        ("early", "a"),
        ("late", "a"),
        ("early", "b"),
        ("late", "b"),
    ]
    after = every[3].after
    assert isinstance(after, Run)
    assert after.folder == every[2].folder


def test_a_method_may_have_fewer_budgets_and_seeds(tmp_path: Path) -> None:
    plan = Plan(
        configs=[],
        methods={"all": Method(), "few": Method(budgets=["b"], seeds=[4])},
        budgets={"a": (4, 6), "b": (8, 12)},
        classes=[],
        seeds=[3, 4],
    )
    few = [(r.method, r.budget, r.seed) for r in runs(plan, tmp_path) if r.method == "few"]
    assert few == [("few", "b", 4)]
    assert sum(run.method == "all" for run in runs(plan, tmp_path)) == 4


def test_unknown_names_in_a_plan_are_refused(plan_file: Path) -> None:
    content = yaml.safe_load(plan_file.read_text())
    content["methods"]["edge-optimal"]["sampler"] = "nobody"
    plan_file.write_text(yaml.safe_dump(content))
    with pytest.raises(ArgumentError, match=naming("sampler", "edge-optimal", "nobody")):
        read_plan(plan_file)
    content["methods"]["edge-optimal"] = {"budgets": ["huge"]}
    plan_file.write_text(yaml.safe_dump(content))
    with pytest.raises(ArgumentError, match=naming("budgets", "edge-optimal", "huge")):
        read_plan(plan_file)


@pytest.mark.parametrize(("key", "value"), [("budgets", ["small"]), ("seeds", [1])])
def test_a_sampler_must_be_trained_wherever_it_is_taken(
    plan_file: Path, key: str, value: list[object]
) -> None:
    content = yaml.safe_load(plan_file.read_text())
    content["budgets"]["large"] = [24, 36]
    content["methods"]["regressor"][key] = value
    plan_file.write_text(yaml.safe_dump(content))
    with pytest.raises(ArgumentError, match=naming(key, "regressor")):
        read_plan(plan_file)


def test_a_file_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming(tmp_path / "none.csv")):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=naming("method", "other.csv", ["a", "b"])):
        read_csv(tmp_path / "other.csv")
