"""Benchmark plans: methods, budgets and seeds to compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jsonargparse import ArgumentParser

from deformsample.errors import ArgumentError
from deformsample.files.configs import read_mapping


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Args:
        configs: configs of the method, after the shared ones.
        options: further options of ``fit``, such as ``--model.loss.points_per_sample=4``.
        sampler: method that is trained first, whose sampler weights this method takes.
        budgets: names of budgets; ``None`` for all of the plan.
        seeds: seeds; ``None`` for all of the plan.
        shown: whether the method has a row in the tables.
        baseline: whether other methods are compared with it.
        size: argument of the segmenter that a budget sets.
    """

    configs: Sequence[str] = ()
    options: Sequence[str] = ()
    sampler: str | None = None
    budgets: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    shown: bool = True
    baseline: bool = False
    size: str = "downsampler.sampled_size"

    @property
    def is_sampled(self) -> bool:
        """Whether a budget is the size of the small image, not that of a tile."""
        return self.size == "downsampler.sampled_size"


@dataclass(frozen=True)
class Plan:
    """Methods, budgets and seeds.

    Args:
        configs: shared configs of the data set, the network and the schedule.
        methods: methods by name, in the order of the tables.
        budgets: sampled sizes (height, width) by name, in ascending order; for tiles, tile sizes.
        seeds: seeds, with one run for each method and budget.
        split: split to measure on.
        classes: names of the classes (or class groups) whose IoU the table shows.
        boundary_width: width of the bands of the boundary IoU, in pixels.
    """

    configs: Sequence[str]
    methods: Mapping[str, Method]
    budgets: Mapping[str, tuple[int, int]]
    classes: Sequence[str]
    seeds: Sequence[int] = (0, 1, 2)
    split: str = "val"
    boundary_width: int = 4


@dataclass(frozen=True)
class Run:
    """One training of one method."""

    method: str
    budget: str
    seed: int
    folder: Path
    after: Run | None = field(default=None, compare=False)
    """The run that trains its sampler."""


def read_plan(path: Path) -> Plan:
    """Read a plan from YAML.

    Raises:
        ArgumentError: an invalid key or value, or an unknown name of a method or budget.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--plan", type=Plan)
    parsed = parser.parse_object({"plan": read_mapping(path)})
    plan: Plan = parser.instantiate(parsed).plan
    for kind in (plan.methods, plan.budgets):
        if len({slug(name) for name in kind}) < len(kind):
            raise ArgumentError(
                f"Expected names that differ in letters and digits in {path}, since they name "
                f"folders, but got {list(kind)}."
            )
    for name, method in plan.methods.items():
        if method.sampler is not None and method.sampler not in plan.methods:
            raise ArgumentError(
                f"Expected the `sampler` of method {name!r} to be one of {list(plan.methods)}, but "
                f"got {method.sampler!r}."
            )
        if unknown := set(method.budgets or ()) - set(plan.budgets):
            raise ArgumentError(
                f"Expected the `budgets` of method {name!r} to be of {list(plan.budgets)}, but got "
                f"{sorted(unknown)}."
            )
        if other := set(method.seeds or ()) - set(plan.seeds):
            raise ArgumentError(
                f"Expected the `seeds` of method {name!r} to be of {list(plan.seeds)}, but got "
                f"{sorted(other)}."
            )
    for name, method in plan.methods.items():
        _check_sampler_covers(plan, name, method)
    return plan


def _check_sampler_covers(plan: Plan, name: str, method: Method) -> None:
    """Check that the method of the sampler has all budgets and seeds of a method."""
    if method.sampler is None:
        return
    source = plan.methods[method.sampler]
    for key, wanted, made in (
        ("budgets", method.budgets or plan.budgets, source.budgets or plan.budgets),
        ("seeds", method.seeds or plan.seeds, source.seeds or plan.seeds),
    ):
        if missing := [value for value in wanted if value not in made]:
            raise ArgumentError(
                f"Expected the `{key}` of method {method.sampler!r} to include those of {name!r}, "
                f"which takes its sampler, but {missing} are missing."
            )


def runs(plan: Plan, output: Path) -> Iterator[Run]:
    """All runs, seed by seed: an interrupted benchmark has complete comparisons."""
    for seed in plan.seeds:
        made: dict[tuple[str, str], Run] = {}
        for budget in plan.budgets:
            pending = [
                name
                for name, method in plan.methods.items()
                if budget in (method.budgets or plan.budgets)
                and seed in (method.seeds or plan.seeds)
            ]
            for name in sorted(pending, key=lambda n: plan.methods[n].sampler is not None):
                sampler = plan.methods[name].sampler
                folder = output / slug(name) / slug(budget) / f"seed_{seed}"
                after = None if sampler is None else made[sampler, budget]
                made[name, budget] = run = Run(name, budget, seed, folder, after)
                yield run


def slug(name: str) -> str:
    """A name as a safe component of a path."""
    plain = "".join(c if c.isalnum() or c in "-." else "_" for c in name)
    dots = len(plain) - len(plain.lstrip("."))
    return "_" * dots + plain[dots:]
