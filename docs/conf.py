"""How the documentation is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config_pages  # noqa: E402

import deformsample  # noqa: E402

project = "deformsample"
copyright = "the deformsample developers"  # noqa: A001 - Sphinx's name
release = deformsample.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"deformsample {release}"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_rtype = False

# Every name in a docstring must exist, but those of other packages, whose pages are not here.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|numpy|np|npt|pathlib|collections|matplotlib|albumentations|pl|timm)\..*"),
    (r"py:.*", r"(pytorch_lightning|lightning|torchmetrics|typing|argparse|jsonargparse)\..*"),
    (r"py:.*", r"abc\.ABC|deformsample\.data\.(items\.(ImageSplit|\w+Item)|cache\.DecodedCache)"),
    (r"py:.*", r"deformsample\.(data\.datasets\.image_dataset\.S|inference\.loading\.Kind)"),
    (r"py:.*", r"(Tensor|Path|Sequence|Mapping|Iterable|Callable|Figure|Axes|Module|dtype|Any)"),
    (r"py:.*", r"(Pixels|Floats|Size)"),
]

config_pages.write(HERE.parent / "configs", HERE / "generated")
