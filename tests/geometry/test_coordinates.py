import pytest
import torch

from deformsample.errors import ArgumentError
from deformsample.geometry import from_pixels, identity_grid, to_pixels
from deformsample.geometry.coordinates import check_grid
from tests.helpers import naming


def test_identity_grid_has_x_first_and_reaches_the_corners() -> None:
    grid = identity_grid((2, 3), torch.zeros(1))
    expected = torch.tensor([[[-1, -1], [0, -1], [1, -1]], [[-1, 1], [0, 1], [1, 1]]])
    assert torch.equal(grid[0], expected.float())


def test_pixel_centres_of_a_wide_image() -> None:
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]])
    assert torch.equal(to_pixels(corners, (3, 5)), torch.tensor([[0.0, 0], [4, 2], [2, 1]]))


def test_from_pixels_inverts_to_pixels() -> None:
    points = torch.rand(7, 2, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(from_pixels(to_pixels(points, (30, 50)), (30, 50)), points)


def test_channels_first_grid_is_named() -> None:
    with pytest.raises(ArgumentError, match=naming("grid", (1, 2, 4, 4), "channels")):
        check_grid(torch.zeros(1, 2, 4, 4))


def test_integer_grid_is_refused() -> None:
    with pytest.raises(ArgumentError, match=naming("grid", torch.long)):
        check_grid(torch.zeros(1, 4, 4, 2, dtype=torch.long))


def test_a_grid_of_one_row_is_refused() -> None:
    with pytest.raises(ArgumentError, match=naming("size", (1, 5))):
        identity_grid((1, 5), torch.zeros(1))
