"""Sphinx configuration: ``sphinx-build -W -b html docs docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import docstrings  # noqa: E402 (found only once its folder is on the path)
import public_names  # noqa: E402

import torchgenaug  # noqa: E402

project = "torchgenaug"
author = "The torchgenaug developers"
copyright = "The torchgenaug developers"  # noqa: A001 (the name that Sphinx reads)
version = release = torchgenaug.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # included files begin with headings of their own level

# In docstrings a name between single backticks is a Python object where there is one of that name, and code elsewhere.
default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"torchgenaug {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

public_names.write_pages(HERE / "reference" / "names")


def setup(app: Sphinx) -> None:
    """Connects the conversion of docstrings, ahead of napoleon."""
    app.connect("autodoc-process-docstring", docstrings.as_rest, priority=100)
