"""The page that compares methods, and the measure of restored images."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from deformsample.metrics.restoration import restoration_quality
from deformsample.plotting import Picture, comparison_page
from tests.plotting.examples import CLASSES, scene

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def page(title: str = "learned") -> str:
    image, ground_truth, picture = scene()
    learned = replace(picture, title=title)
    uniform = Picture("uniform", picture.grid, picture.density, picture.small)
    scores = {title: {"IoU thing": 0.5, "PSNR": 30.0}, "uniform": {"PSNR": 31.25}}
    return comparison_page(image, ground_truth, [learned, uniform], CLASSES, scores, f"a: {title}")


class Elements(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_everything_is_inside_the_page() -> None:
    html = page()
    addresses = [
        value
        for _, attributes in Elements(html).found
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert len(addresses) == 6  # three panels of two methods
    assert all(value is not None and value.startswith("data:image/") for value in addresses)
    assert not re.search(r"https?://", html)


def test_layers_are_what_there_is() -> None:
    html = page()
    names = re.findall(r'<option value="\d">([^<]*)</option>', html)
    assert names[: len(names) // 2] == [
        "image",
        "learned, restored",
        "uniform, restored",
        "learned, segmented",
        "ground truth",
    ]
    assert '<td class="best">0.500</td>' in html
    assert "<td>30.0</td>" in html
    assert '<td class="best">31.2</td>' in html


def test_names_cannot_bring_code() -> None:
    html = page("</script><script>alert(1)</script>")
    assert "<script>alert" not in html
    assert [tag for tag, _ in Elements(html).found].count("script") == 1


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_slider_moves_in_a_browser(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    file = tmp_path / "page.html"
    file.write_text(page(), encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    done = subprocess.run(
        [
            CHROMIUM,
            *options,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            f"file://{file}#left=0&right=4&at=25&zoom=2",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    shown = {a.get("id"): a for _, a in Elements(done.stdout).found}
    assert shown["over"]["style"] == "clip-path: inset(0px 75% 0px 0px);"
    assert shown["line"]["style"] == "left: 25%;"
    assert shown["stack"]["style"] == "width: 200%;"
    layers = re.findall(r'"uri": "(data:image/webp;base64,[^"]*)"', done.stdout)
    assert shown["over"]["src"] == layers[0]
    assert shown["under"]["src"] == layers[4]


def test_quality_of_known_differences() -> None:
    original = torch.full((3, 16, 24), 0.5)
    restored = original.clone()
    restored[:, :8] += 0.1
    assert restoration_quality(original, original) == {"psnr": math.inf, "ssim": 1.0}
    assert restoration_quality(original, restored)["psnr"] == pytest.approx(23.0103, abs=1e-3)
    upper = torch.zeros(16, 24, dtype=torch.bool)
    upper[:8] = True
    assert restoration_quality(original, restored, upper)["psnr"] == pytest.approx(20, abs=1e-3)
    assert restoration_quality(original, restored, ~upper)["psnr"] == math.inf
    far = torch.zeros_like(upper)
    far[14:] = True
    assert restoration_quality(original, restored, far)["ssim"] == pytest.approx(1)
    assert restoration_quality(original, restored, upper)["ssim"] < 0.999


def test_brightness_weighs_the_colours() -> None:
    black = torch.zeros(3, 16, 16)
    green = black.clone()
    green[1] = 1
    assert restoration_quality(black, green)["psnr"] == pytest.approx(-20 * math.log10(0.587))


def test_tiny_images_have_no_ssim() -> None:
    assert list(restoration_quality(torch.zeros(3, 10, 30), torch.ones(3, 10, 30))) == ["psnr"]
