"""What pytest leaves out; the fixtures are in tests/."""

from importlib.util import find_spec

# The examples in this module's docstrings need what only the extra "onnx" installs.
if not (find_spec("skl2onnx") and find_spec("onnxruntime")):
    collect_ignore = ["skcae/export.py"]
