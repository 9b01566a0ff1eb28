"""Settings of Sphinx; CONTRIBUTING.md says how to build."""

import skcae

project = "skcae"
version = release = skcae.__version__
html_title = f"skcae {version}"
project_copyright = "the skcae developers. BSD 3-Clause License"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
# `transform` in a docstring links to the method; what isn't found is code.
default_role = "py:obj"

# A module's page lists what its __all__ does, a class's page its own methods.
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "",
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "min_reported_time": 1e9,  # timings of a build say nothing
    "write_computation_times": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
}
html_sidebars = {"index": [], "contributing": [], "changelog": []}
html_show_sourcelink = False
