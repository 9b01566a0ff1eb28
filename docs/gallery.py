"""The order of the examples in the gallery: by job."""

ORDER = (
    "digits_robustness",
    "grid_search",
    "series",
    "text",
    "wide",
    "mixed_table",
    "columns_and_names",
    "few_labels",
    "outliers",
    "compare_detectors",
    "denoising",
    "decompositions",
    "pictures",
    "geometry",
    "pytorch_loop",
    "larger_than_memory",
)


def by_job(filename):
    """Return the key of a script to sort by; one that isn't named comes last."""
    name = filename.removesuffix(".py")
    return ORDER.index(name) if name in ORDER else len(ORDER), name
