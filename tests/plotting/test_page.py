"""The page that compares methods, and the measure of restored images."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

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

    def by_id(self, name: str) -> dict[str, str | None]:
        return next(attributes for _, attributes in self.found if attributes.get("id") == name)


def constant(html: str, name: str) -> Any:
    """A constant of the page's script."""
    found = re.search(rf"^  const {name} = (.*);$", html, re.MULTILINE)
    assert found is not None
    return json.loads(found[1])


def decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def options(html: str) -> tuple[list[str], str]:
    """The names to choose from, and the one on the right."""
    _, right = html.split('id="right"')
    selected = re.search(r"selected>([^<]*)<", right)
    assert selected is not None
    return re.findall(r"<option[^>]*>([^<]*)<", right), selected[1]


def test_everything_is_inside_the_page() -> None:
    html = page()
    for _, attributes in Elements(html).found:
        assert not {"src", "href"} & set(attributes)
    assert html.count('"data:image/') == 10  # image; 3 per method, labels, ground truth, mask
    assert not re.search(r"https?://", html)


def test_layers_are_what_there_is() -> None:
    html = page()
    assert options(html) == (["1 learned", "2 uniform", "3 image", "4 ground truth"], "2 uniform")
    learned, uniform, image, truth = constant(html, "layers")
    assert "labels" in learned
    assert "labels" not in uniform
    assert list(image) == ["name"]
    assert set(truth) == {"name", "labels"}
    assert decoded(learned["restored"]).size == (90, 60)
    assert decoded(learned["warped"]).size == (18, 12)
    assert learned["samples"] == "12 x 18"
    assert learned["dots"].count("M") == 12 * 18
    assert constant(html, "truth") == 3


def test_the_best_score_of_a_row_is_bold() -> None:
    html = page()
    assert '<td class="best">31.2</td>' in html
    assert "<td>30.0</td>" in html
    assert "<td>0.500</td><td></td>" in html  # no other method has it


def test_one_method_is_beside_the_ground_truth_or_the_image() -> None:
    image, ground_truth, picture = scene()
    html = comparison_page(image, ground_truth, [picture], CLASSES, {"learned": {}}, "")
    assert options(html) == (["1 learned", "2 image", "3 ground truth"], "3 ground truth")
    unlabelled = replace(picture, labels=None)
    html = comparison_page(image, None, [unlabelled], {}, {"learned": {}}, "")
    assert options(html) == (["1 learned", "2 image"], "2 image")
    assert constant(html, "differences") == {}
    assert 'value="segmentation"' not in html


def test_differences_of_predictions_and_of_the_ground_truth() -> None:
    image, ground_truth, picture = scene()
    assert picture.labels is not None
    other = replace(picture, title="other", labels=picture.labels.roll(1, dims=0))
    assert other.labels is not None
    html = comparison_page(image, ground_truth, [picture, other], CLASSES, {}, "")
    differences = constant(html, "differences")
    known = ground_truth != 255
    different = picture.labels.ne(other.labels)
    wrong = picture.labels.ne(ground_truth) & known
    assert list(differences) == ["0-1", "0-3", "1-3"]
    for pair, mask, count in (("0-1", different, 60 * 90), ("0-3", wrong, int(known.sum()))):
        opaque = np.asarray(decoded(differences[pair]["mask"]).convert("RGBA"))[..., 3]
        assert np.array_equal(opaque, mask.numpy() * 255)
        assert differences[pair]["share"] == f"{int(mask.sum()) / count:.2%}"


def test_a_single_different_pixel_of_a_large_image_is_shown() -> None:
    _, _, picture = scene()
    first = torch.zeros(2, 9600, dtype=torch.uint8)
    second = first.clone()
    second[1, 77] = 1
    pictures = [
        replace(picture, title=str(labels.sum()), labels=labels) for labels in (first, second)
    ]
    html = comparison_page(torch.zeros(3, 2, 9600), None, pictures, CLASSES, {}, "")
    mask = decoded(constant(html, "differences")["0-1"]["mask"]).convert("RGBA")
    assert mask.size == (2400, 1)
    assert list(np.flatnonzero(np.asarray(mask)[0, :, 3])) == [19]


def test_names_cannot_bring_code() -> None:
    html = page("</script><script>alert(1)</script>")
    assert "<script>alert" not in html
    assert [tag for tag, _ in Elements(html).found].count("script") == 1


PHONE = """<!doctype html>
<title></title>
<iframe width="390" height="844" style="border: 0"></iframe>
<script>
  const frame = document.querySelector("iframe");
  const keys = [
    { key: "ArrowLeft" },
    { code: "Digit3" },
    { code: "Digit4", shiftKey: true },
    { key: "v" },
    { key: "s" },
    { code: "Digit1" },
    { key: "e" },
    { key: "d" },
  ];
  frame.onload = () => {
    const inside = frame.contentWindow;
    const sheet = inside.document.documentElement;
    const found = [sheet.scrollWidth - sheet.clientWidth];
    for (const key of keys) {
      const pressed = new inside.KeyboardEvent("keydown", { bubbles: true, ...key });
      inside.document.body.dispatchEvent(pressed);
      found.push(inside.location.hash.slice(1));
    }
    document.title = found.join(" ");
  };
  frame.src = "page.html";
</script>
"""


def in_browser(address: str, folder: Path) -> str:
    """The page after its script, as HTML."""
    assert CHROMIUM is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    done = subprocess.run(
        [
            CHROMIUM,
            *flags,
            "--allow-file-access-from-files",  # to look into the frame
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_address_sets_the_view_in_a_browser(tmp_path: Path) -> None:
    html = page()
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    view = "left=1&right=3&view=density&at=25&zoom=2&wrong=on"
    shown = Elements(in_browser(f"file://{tmp_path}/page.html#{view}", tmp_path))
    _, uniform, _, truth = constant(html, "layers")
    left, right = (shown.found.index(("div", shown.by_id(f"{s}-side"))) for s in ("left", "right"))
    photo, *_ = (attributes for tag, attributes in shown.found[left:] if tag == "img")
    _, labels, *_ = (attributes for tag, attributes in shown.found[right:] if tag == "img")
    assert photo["src"] == uniform["density"]
    assert labels["src"] == truth["labels"]
    assert shown.by_id("sheet")["style"] == "height: 200%; width: 200%;"
    assert shown.by_id("line")["style"] == "left: 25%;"
    assert "disabled" in shown.by_id("wrong")  # neither side has a prediction


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_phone_shows_all_and_keys_work(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page("a long name of a method " * 4), encoding="utf-8")
    (tmp_path / "phone.html").write_text(PHONE, encoding="utf-8")
    html = in_browser(f"file://{tmp_path}/phone.html", tmp_path)
    found = re.search("<title>(.*)</title>", html)
    assert found is not None
    overflow, *states = found[1].replace("&amp;", "&").split(" ")
    assert int(overflow) == 0
    assert states == [
        "left=0&right=1&view=segmentation&zoom=1&at=49",
        "left=2&right=1&view=segmentation&zoom=1&at=49",
        "left=2&right=3&view=segmentation&zoom=1&at=49",
        "left=2&right=3&view=restored&zoom=1&at=49",
        "left=2&right=3&view=restored&dots=on&zoom=1&at=49",
        "left=0&right=3&view=restored&different=on&dots=on&zoom=1&at=49",
        "left=0&right=3&view=restored&different=on&wrong=on&dots=on&zoom=1&at=49",
        "left=0&right=3&view=restored&wrong=on&dots=on&zoom=1&at=49",
    ]


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
