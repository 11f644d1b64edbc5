"""Settings of Sphinx for `make docs`. The pages' sources are the repository's own Markdown files and docstrings."""

from __future__ import annotations

import re
from typing import Any

import biosam2
from sphinx.application import Sphinx

project = "BioSAM2Slicer"
author = copyright = "The BioSAM2Slicer authors"  # noqa: A001 - Sphinx's name
release = version = biosam2.__version__

# The source folder is the repository's root, so that links between README.md, docs/ and other files hold in both.
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/README.md", "Testing/README.md"]
include_patterns += ["docs/**", "Resources/Models/nano.md"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# Google's sections in the docstrings. Names in single backticks are code there, as in Markdown.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88

myst_heading_anchors = 4
# A block without a language is a shell's or a table's.
highlight_language = "none"

# Fonts and scripts are the theme's own files; nothing is fetched when a page is read.
html_theme = "furo"
html_title = f"BioSAM2Slicer {release}"
html_favicon = "../Resources/Icons/BioSAM2Slicer.png"
html_copy_source = html_show_sourcelink = False
# A copy, for an address that names the folder alone.
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", split_attributes, priority=400)  # before napoleon


def split_attributes(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Give each of several attributes that share a text a line of its own; napoleon does it for arguments only."""
    text = "\n".join(lines)
    section = re.search(r"(?m)^( *)Attributes:\n(?:\1 +.*\n?|\n)+", text)
    if section is None:
        return
    shared = re.compile(rf"(?m)^({section[1]} +)(\w+(?:, \w+)+)(:.*(?:\n\1 +.*)*)")
    parted = shared.sub(lambda m: "\n".join(f"{m[1]}{each}{m[3]}" for each in m[2].split(", ")), section[0])
    lines[:] = (text[: section.start()] + parted + text[section.end() :]).split("\n")
