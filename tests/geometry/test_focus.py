"""Coverage of cells by boxes and masks, and densities multiplied in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deformsample.geometry import box_coverage, focused_density, mask_coverage

SIZE, CELLS = (13, 22), (4, 7)

corners = st.tuples(
    st.integers(-3, 21), st.integers(-3, 12), st.integers(1, 15), st.integers(1, 15)
)


def drawn(boxes: Sequence[Sequence[int]]) -> Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return mask


def by_counting(mask: Tensor, cells: tuple[int, int], steps: int = 40) -> Tensor:
    """The share of each cell, from points that are equally spaced in the image."""
    sums, counts = torch.zeros(cells), torch.zeros(cells)
    last_y, last_x = (n - 1 for n in mask.shape)
    for i in range(last_y * steps):
        for j in range(last_x * steps):
            y, x = (i + 0.5) / steps, (j + 0.5) / steps
            cell = round(y / last_y * (cells[0] - 1)), round(x / last_x * (cells[1] - 1))
            counts[cell] += 1
            sums[cell] += float(mask[round(y), round(x)])
    return sums / counts


def test_coverage_of_a_mask_equals_a_count_of_points() -> None:
    torch.manual_seed(0)
    mask = torch.rand(5, 8) > 0.6
    counted = by_counting(mask, (3, 4))
    torch.testing.assert_close(mask_coverage(mask, (3, 4)).float(), counted, atol=0.03, rtol=0)


@given(st.lists(corners, min_size=1, max_size=4))
def test_boxes_cover_what_their_mask_covers(given_corners: list[tuple[int, int, int, int]]) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in given_corners]
    covered = box_coverage(torch.tensor(boxes), SIZE, CELLS)
    torch.testing.assert_close(covered, mask_coverage(drawn(boxes), CELLS))


def test_a_box_smaller_than_a_cell_counts_by_its_area() -> None:
    covered = box_coverage(torch.tensor([[4.0, 4.0, 6.0, 5.0]]), (9, 9), (3, 3))
    assert covered.nonzero().tolist() == [[1, 1]]
    assert float(covered[1, 1]) == 2 / 16


def test_a_focus_keeps_the_sum_and_multiplies_ratios() -> None:
    density = torch.rand(2, 1, 4, 7) + 0.1
    density = density / density.sum(dim=(2, 3), keepdim=True)
    covered = torch.zeros(4, 7)
    covered[1, 2], covered[3, 3] = 1.0, 0.5
    focused = focused_density(density, covered, 5.0)
    torch.testing.assert_close(focused.sum(dim=(2, 3)), torch.ones(2, 1))
    growth = focused / density
    torch.testing.assert_close(growth[:, 0, 1, 2] / growth[:, 0, 0, 0], torch.full((2,), 5.0))
    torch.testing.assert_close(growth[:, 0, 3, 3] / growth[:, 0, 0, 0], torch.full((2,), 3.0))
    assert torch.equal(focused_density(density, covered, 1.0), density)
