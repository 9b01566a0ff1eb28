"""What is said about the package outside of it."""

import doctest
import re
from pathlib import Path

import pytest

import skcae

ROOT = Path(__file__).parents[1]


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search("^version: (.+)$", text, re.M).group(1) == skcae.__version__


def test_the_page_on_persistence(tmp_path, monkeypatch):
    for name in ("onnxruntime", "skl2onnx", "skops"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "persistence.md"
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted > 20
