"""Sphinx's configuration for `make docs`. release/make_docs.py writes the pages beside it."""

from __future__ import annotations

from jobjar.version import VERSION

project = "Job Jar"
release = version = VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"Job Jar {VERSION}"
# No page asks another machine for anything, and none says how it was made.
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# In the pages of a jar the language of an example is often left out, or is one of Job Jar's own.
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
pygments_style = "default"
linkcheck_ignore = [r"https?://.*"]
