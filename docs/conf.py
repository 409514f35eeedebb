"""Sphinx: the Markdown pages of this repository as a site. `make docs` builds it into site/."""

from __future__ import annotations

from importlib.metadata import version as _version

project = "realm"
author = "the realm authors"
copyright = author
release = version = _version("realm-cli")
extensions = ["myst_parser"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["site", "runs", "build", "dist", ".*", "src", "tests", "recipes", "examples", "**/node_modules"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "realm"
html_show_copyright = False
html_copy_source = False
