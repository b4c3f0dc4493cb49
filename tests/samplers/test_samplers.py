from pathlib import Path

import pytest
import torch
from torch import nn

from deformsample.checkpoints.archive import FORMAT
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.geometry import (
    boundary_density,
    edge_optimal_grid,
    identity_grid,
    nearest_boundary,
    softmax_density,
)
from deformsample.losses import BoundaryKLLoss
from deformsample.networks import DeformationNet, EdgeRegressor, FixedDensityLogits, UNet
from deformsample.samplers import (
    BoundaryDensityOracle,
    DetailSampler,
    EdgeOptimalOracle,
    EdgeOptimalSampler,
    ErrorCurveSampler,
    FrozenSampler,
    GaussianGrid,
    InMemoryImage,
    LearnedSampler,
    Sampler,
    SeparableSampler,
    UniformSampler,
)
from deformsample.samplers.downsampler import Downsampled, Downsampler
from tests.helpers import naming

SAMPLERS = [
    UniformSampler(),
    DetailSampler(),
    LearnedSampler(DeformationNet([8])),
    SeparableSampler(DeformationNet([8])),
    SeparableSampler(FixedDensityLogits((5, 6))),
    LearnedSampler(DeformationNet([8]), GaussianGrid(2.0)),
    ErrorCurveSampler(UNet(2, [4, 8])),
    ErrorCurveSampler(FixedDensityLogits((5, 6), 2), GaussianGrid(2.0)),
    EdgeOptimalSampler(EdgeRegressor((4, 5), [8, 8])),
    EdgeOptimalSampler(EdgeRegressor(None, [8, 8])),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.display_name}")
@pytest.mark.parametrize("size", [(10, 14), (23, 9)])
def test_every_sampler_keeps_its_promises(sampler: Sampler, size: tuple[int, int]) -> None:
    density, grid, _ = sampler(torch.randn(2, 3, 12, 17), size)
    assert density.shape == (2, 1, 12, 17)
    torch.testing.assert_close(density.sum(dim=(1, 2, 3)), torch.ones(2))
    assert grid.shape == (2, *size, 2)
    assert bool((grid[:, :, 0, 0] == -1).all() and (grid[:, :, -1, 0] == 1).all())
    assert bool((grid[:, 0, :, 1] == -1).all() and (grid[:, -1, :, 1] == 1).all())


def test_detail_draws_samples_and_flat_images_are_sampled_uniformly() -> None:
    thumbnail = torch.zeros(2, 3, 16, 20)
    thumbnail[0, :, 4:8, 5:9] = torch.rand(4, 4)
    _, grid, _ = DetailSampler()(thumbnail, (16, 20))
    spacing = grid[:, 5, 1:, 0] - grid[:, 5, :-1, 0]
    assert float(spacing[0, 6]) < 0.7 * float(spacing[0, 16])
    torch.testing.assert_close(grid[1:], identity_grid((16, 20), grid[1:]))


def test_lines_of_a_separable_grid_are_straight() -> None:
    _, grid, _ = SeparableSampler(DeformationNet([8]))(torch.randn(1, 3, 12, 17), (12, 17))
    assert float(grid[..., 0].std(dim=1).max()) < 1e-5
    assert float(grid[..., 1].std(dim=2).max()) < 1e-5
    assert float((grid - identity_grid((12, 17), grid)).abs().max()) > 1e-3


def test_fixed_scores_learn_the_mean_edge_density() -> None:
    labels = torch.zeros(2, 48, 64, dtype=torch.uint8)
    labels[0, 10:20, 10:30] = 1
    labels[1, 30:40, 40:60] = 1
    scores, term = FixedDensityLogits((12, 16)), BoundaryKLLoss()
    optimizer = torch.optim.Adam(scores.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        density = softmax_density(scores(torch.zeros(2, 3, 12, 16)))
        term(Downsampled(labels, labels, density), labels, None, 0.0).backward()
        optimizer.step()
    target = boundary_density(labels, (12, 16), blur=0.5, floor=0.03, ignore_index=255)
    torch.testing.assert_close(density[0], target.mean(dim=0), rtol=0.05, atol=1e-4)


def test_without_displacements_edge_optimal_sampling_is_uniform() -> None:
    class Nothing(nn.Module):
        def forward(self, thumbnail: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(thumbnail), 2, 4, 5)

    _, grid, _ = EdgeOptimalSampler(Nothing())(torch.zeros(1, 3, 8, 8), (9, 11))
    torch.testing.assert_close(grid, identity_grid((9, 11), grid))


def test_oracles_need_labels() -> None:
    for oracle in (BoundaryDensityOracle(), EdgeOptimalOracle()):
        with pytest.raises(ArgumentError, match=naming(type(oracle).__name__)):
            oracle(torch.zeros(1, 3, 8, 8), (8, 8))


def test_edge_optimal_oracle_solves_for_its_coarse_grid() -> None:
    labels = torch.zeros(1, 40, 60, dtype=torch.uint8)
    labels[:, 10:20, 10:40] = 1
    density, grid, _ = EdgeOptimalOracle((6, 7), 0.5).from_labels(labels, (8, 12), (6, 7))
    expected = edge_optimal_grid(nearest_boundary(labels, (6, 7), 255), 0.5)
    torch.testing.assert_close(grid, expected)
    assert density.shape == (1, 1, 8, 12)


def saved(sampler: Sampler, path: Path) -> str:
    state = {f"segmenter.downsampler.sampler.{k}": v for k, v in sampler.state_dict().items()}
    description = {"format": FORMAT, "segmenter": {}, "classes": {}}
    torch.save({"state_dict": state, "deformsample": description}, path)
    return str(path)


def test_a_frozen_sampler_has_the_weights_and_keeps_them(tmp_path: Path) -> None:
    trained = LearnedSampler(DeformationNet([8]))
    file = saved(trained, tmp_path / "a.ckpt")
    frozen = FrozenSampler(LearnedSampler(DeformationNet([8])), file)
    thumbnail = torch.randn(2, 3, 10, 12)
    frozen.train()
    ours, theirs = frozen(thumbnail, (10, 12)), trained.eval()(thumbnail, (10, 12))
    assert torch.equal(ours.density, theirs.density)
    assert torch.equal(ours.grid, theirs.grid)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert frozen.display_name == "learned"


def test_weights_of_another_sampler_are_refused(tmp_path: Path) -> None:
    file = saved(LearnedSampler(DeformationNet([8])), tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=naming("a.ckpt")):
        FrozenSampler(LearnedSampler(DeformationNet([9])), file)


def test_uniform_sampling_reads_no_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    sample = InMemoryImage.sample

    def counted(image: InMemoryImage, grid: torch.Tensor, lod_bias: float | None) -> torch.Tensor:
        reads.append(1)
        return sample(image, grid, lod_bias)

    monkeypatch.setattr(InMemoryImage, "sample", counted)
    for sampler, count in ((UniformSampler(), 1), (DetailSampler(), 2)):
        reads.clear()
        sampled = Downsampler(sampler, (8, 12), thumbnail_scale=2.0)(torch.rand(2, 3, 40, 60))
        assert sampled.density.shape == (2, 1, 15, 23)
        assert len(reads) == count
