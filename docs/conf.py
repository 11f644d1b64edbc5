"""Settings of Sphinx for `make docs`. The pages' sources are the repository's own Markdown files and docstrings."""

from __future__ import annotations

import biosam2

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

# Fonts and scripts are the theme's own files; nothing is fetched when a page is read.
html_theme = "furo"
html_title = f"BioSAM2Slicer {release}"
html_favicon = "../Resources/Icons/BioSAM2Slicer.png"
html_copy_source = html_show_sourcelink = False
# A copy, for an address that names the folder alone.
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
