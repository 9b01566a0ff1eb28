"""Settings of Sphinx; CONTRIBUTING.md says how to build."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import skcae

sys.path.insert(0, str(Path(__file__).parent))

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
myst_enable_extensions = ["dollarmath"]
nitpicky = True
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
# `transform` in a docstring links to the method; what isn't found is code.
default_role = "py:obj"

# A module's page lists what its __all__ does, a class's page its own methods.
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skcae",),
    "filename_pattern": "",
    "capture_repr": (),
    "image_srcset": ["2x"],
    "remove_config_comments": True,
    "within_subsection_order": "gallery.by_job",
    "download_all_examples": False,
    "parallel": True,  # with as many processes as -j says
    "min_reported_time": 1e9,  # timings of a build say nothing
    "write_computation_times": False,
    "show_signature": False,
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
}
html_sidebars = {"index": [], "contributing": [], "changelog": []}
html_show_sourcelink = False


def _visit_math(translator, node):
    # Browsers show MathML without a script from the network.
    is_block = isinstance(node, nodes.math_block)
    mathml = tex2mathml(node.astext(), as_block=is_block)
    translator.body.append(f'<div class="math">{mathml}</div>' if is_block else mathml)
    raise nodes.SkipNode


def _resolve(app, env, node, contnode):
    """Link the short names of the guide, and what scikit-learn documents."""
    name = node["reftarget"]
    if name.startswith("sklearn."):
        folder = "modules/generated" if name.count(".") > 1 else "api"
        uri = f"https://scikit-learn.org/stable/{folder}/{name}.html"
        return nodes.reference("", "", contnode, internal=False, refuri=uri)
    for scope in ("skcae", "skcae.ContractiveAutoencoderTransformer"):
        found = env.domains["py"].resolve_xref(
            env, node["refdoc"], app.builder, "obj", f"{scope}.{name}", node, contnode
        )
        if found is not None:
            return found
    return None


def setup(app):
    """Connect what is above to Sphinx."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math, None))
    app.connect("missing-reference", _resolve)
