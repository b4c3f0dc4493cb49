from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from deformsample.errors import ArgumentError
from deformsample.plotting import (
    Region,
    comparison_figure,
    differing_regions,
    draw_errors,
    draw_mesh,
    draw_overlay,
    draw_samples,
    error_figure,
    iou_figure,
    sampling_figure,
    zoom_figure,
)
from deformsample.samplers.image_source import as_pixels
from tests.helpers import naming
from tests.plotting.examples import CLASSES, scene, shifted


def drawn(axes_function: str) -> Figure:
    image, ground_truth, picture = scene()
    figure = Figure()
    axes = figure.subplots()
    {
        "samples": lambda: draw_samples(axes, image, picture.grid),
        "mesh": lambda: draw_mesh(axes, image, picture.grid),
        "overlay": lambda: draw_overlay(axes, image, ground_truth, CLASSES),
        "errors": lambda: draw_errors(axes, image, shifted(ground_truth), ground_truth),
    }[axes_function]()
    return figure


def test_every_sample_is_a_dot_where_they_are_few() -> None:
    (dots,) = drawn("samples").axes[0].collections
    points = np.asarray(dots.get_offsets())
    assert points.shape == (12 * 18, 2)
    np.testing.assert_allclose(points[0], (0, 0), atol=1e-4)
    np.testing.assert_allclose(points[-1], (89, 59), atol=1e-4)


def test_a_fine_grid_is_thinned_alike_on_both_sides_and_keeps_its_border() -> None:
    figure = Figure()
    axes = figure.subplots()
    y, x = torch.meshgrid(torch.linspace(-1, 1, 100), torch.linspace(-1, 1, 40), indexing="ij")
    draw_samples(axes, torch.zeros(3, 200, 80), torch.stack((x, y), dim=-1))
    (dots,) = axes.collections
    points = np.asarray(dots.get_offsets())
    rows, columns = np.unique(points[:, 1].round(3)), np.unique(points[:, 0].round(3))
    assert (len(rows), len(columns)) == (34, 14)  # every third, and the last ones
    assert rows[-1] == 199
    assert columns[-1] == 79


def test_the_mesh_has_all_rows_and_columns() -> None:
    (lines,) = drawn("mesh").axes[0].collections
    assert isinstance(lines, LineCollection)
    assert len(lines.get_segments()) == 12 + 18


def test_an_overlay_shows_the_image_alone_where_nothing_is_known() -> None:
    image, ground_truth, _ = scene()
    shown = np.asarray(drawn("overlay").axes[0].images[0].get_array()).astype(int)
    grey = (as_pixels(image) @ np.array((0.299, 0.587, 0.114))).astype(int)
    assert np.abs(shown[:5] - grey[:5, :, None]).max() <= 1  # rounding
    expected = (grey[25, 50] + np.array(CLASSES["thing"])) / 2
    np.testing.assert_allclose(shown[25, 50], expected, atol=1)
    assert ground_truth[25, 50] == 1


def test_errors_are_marked_and_ignored_pixels_are_not() -> None:
    shown = np.asarray(drawn("errors").axes[0].images[0].get_array())
    marked = (shown == (213, 94, 0)).all(axis=-1)
    assert marked.sum() == 2 * 3 * 10
    assert not marked[:5].any()


def test_regions_are_where_the_predictions_differ_in_what_is_right() -> None:
    ground_truth = torch.zeros(40, 60, dtype=torch.uint8)
    ground_truth[:, 50:] = 255
    first, second = ground_truth.clone(), torch.zeros_like(ground_truth)
    first[:, 50:] = 0
    first[8:12, 8:12] = 1  # wrong in the first
    second[30:36, 30:36] = 1  # wrong in the second, and larger
    second[:, 55:] = 1  # not known
    regions = differing_regions(first, second, ground_truth, 8, 5)
    assert len(regions) == 2
    inside = [
        (region.rows.start <= y < region.rows.stop, region.columns.start <= x < region.columns.stop)
        for region, (y, x) in zip(regions, [(33, 33), (10, 10)], strict=True)
    ]
    assert inside == [(True, True)] * 2
    assert differing_regions(first, first, ground_truth, 8, 5) == []
    with pytest.raises(ArgumentError, match=naming("side", 40, 41)):
        differing_regions(first, second, ground_truth, 41, 1)


def test_regions_do_not_overlap() -> None:
    ground_truth = torch.zeros(64, 64, dtype=torch.uint8)
    regions = differing_regions(ground_truth, torch.ones_like(ground_truth), ground_truth, 16, 50)
    assert len(regions) >= 9
    for a in regions:
        for b in regions:
            if a is not b:
                assert abs(a.top - b.top) >= 16 or abs(a.left - b.left) >= 16


def test_all_figures_can_be_saved() -> None:
    image, ground_truth, picture = scene()
    pictures = [picture, picture]
    predictions = {"learned": shifted(ground_truth), "uniform": ground_truth}
    regions = [Region(10, 30, 20), Region(0, 0, 10)]
    figures = [
        comparison_figure(image, ground_truth, pictures, CLASSES),
        comparison_figure(image, None, pictures, CLASSES),
        sampling_figure(image, picture.small, picture.grid, picture.density),
        zoom_figure(image, ground_truth, predictions, CLASSES, regions),
        error_figure(image, ground_truth, predictions),
        iou_figure({"a": {"ground": 0.9, "thing": math.nan}, "b": {"ground": 0.8, "thing": 0.5}}),
    ]
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=40)
        assert buffer.tell() > 1000
    assert figures[4].axes[0].get_title() == "learned\n1.2% of the pixels wrong"
