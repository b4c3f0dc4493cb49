"""Does reading keep up with training? ``python benchmarks/loading.py --config hrf.yaml ...``.

Takes the options of ``train.py fit``. Times in one run: the loader alone, the training step alone
(on a batch in memory), and both together. "Waiting" is the share of the joint time in which the
step waits for its batch. "Slowed" compares the joint time with the step alone, which shares its
processors with the workers then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from statistics import median

import torch
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from torch import Tensor

from deformsample.cli.arguments import resolve_configs
from deformsample.cli.train import link
from deformsample.data import SegmentationDataModule
from deformsample.data.items import SegmentationBatch
from deformsample.files.configs import configs_folder
from deformsample.training.kinds import KINDS
from deformsample.training.segmentation_task import SegmentationTask

STEPS = 30
WARM_UP = 3


class Parts(LightningCLI):
    """Task and data of a config, without a run."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """As in training."""
        link(parser, "segmenter")


def main(arguments: Sequence[str]) -> None:
    """Print images per second of the loader, of the step, and of both."""
    resolved, _ = resolve_configs(arguments)
    defaults = [str(configs_folder() / file) for file in KINDS["segmentation"].defaults]
    parts = Parts(
        SegmentationTask,
        SegmentationDataModule,
        args=resolved,
        run=False,
        save_config_callback=None,
        auto_configure_optimizers=False,
        parser_kwargs={"default_config_files": defaults},
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task, data = parts.model.to(device).train(), parts.datamodule
    data.setup("fit")
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4)

    def step(batch: SegmentationBatch) -> None:
        image, labels = (batch[key].to(device, non_blocking=True) for key in ("image", "labels"))
        loss: Tensor = torch.stack(list(task.loss(task(image), labels, 0.0).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    batches = list(islice(endless(data), 2))
    alone = median(seconds(lambda: step(batches[0])) for _ in range(STEPS))
    stream = endless(data)
    loading = median(seconds(lambda: next(stream)) for _ in range(STEPS + WARM_UP))
    waits, steps = [], []
    for _ in range(STEPS + WARM_UP):
        start = time.perf_counter()
        batch = next(stream)
        waits.append(time.perf_counter() - start)
        steps.append(seconds(partial(step, batch)))
    waiting, working = sum(waits[WARM_UP:]), sum(steps[WARM_UP:])
    joint = (waiting + working) / STEPS
    size = data.batch_size
    print(f"device {device}, {torch.get_num_threads()} threads, {data.num_workers} workers")
    print(f"loader alone   {size / loading:8.2f} images/s")
    print(f"step alone     {size / alone:8.2f} images/s")
    print(f"both           {size / joint:8.2f} images/s")
    print(f"waiting        {waiting / (waiting + working):8.1%} of the joint time")
    print(f"slowed         {joint / alone:8.2f} times the step alone")


def endless(data: SegmentationDataModule) -> Iterator[SegmentationBatch]:
    """Training batches, epoch after epoch."""
    loader = data.train_dataloader()
    while True:
        yield from loader


def seconds(work: Callable[[], object]) -> float:
    """The duration of a call in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
