"""The house's rules about imports, held against the source.

Imports inside functions count too: they are the usual way around such rules.
"""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skcae

PACKAGE = Path(skcae.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Each module may import those before it.
ENGINE_FLOORS = (
    "activations",
    "device",
    "replay",
    "sparse",
    "corruption",
    "distributed",
    "losses",
    "rows",
    "space",
    "network",
    "penalties",
    "modules",
    "reconstruction",
    "objective",
    "optimizer",
    "batches",
    "training",
    "inference",
    "geometry",
    "finetuning",
)
FLOORS = (
    "_version",
    "_compat",
    "_pickles",
    "_validation",
    "_epochs",
    "_resume",
    "_transformer",
    "stacking",
    "_pretraining",
    "_spreading",
    "_classifier",
    "_detector",
    "callbacks",
    "distributed",
    "geometry",
    "sampling",
    "displays._common",
    "displays._features",
    "displays._model",
    "displays._outliers",
    "displays",
    "export",
    "losses",
)
ENGINE = [name for name in MODULES if name.startswith("skcae.engine")]
OUTSIDE = [name for name in MODULES if name not in ENGINE]

# What the engine may use besides itself and the standard library.
ENGINE_NEEDS = {"numpy", "scipy", "threadpoolctl", "torch"}
OPTIONAL = {
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "polars",
    "skl2onnx",
    "skops",
}


def imports(source, package, modules=()):
    """Return the absolute names of all modules that a source file imports.

    Parameters
    ----------
    source : str
    package : str
        What a relative import with one dot is relative to.
    modules : collection of str
        ``from package import name`` imports the module ``package.name`` if that is one
        of these, else ``package``. A computed name that starts with that of the package
        itself stands for all of these that are directly in it.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                member = f"{base}.{alias.name}"
                found.add(member if member in modules else base)
        elif isinstance(node, ast.Call):
            # importlib.import_module("name"), __import__("name")
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if function in ("import_module", "__import__"):
                argument = node.args[0] if node.args else None
                if argument and ast.unparse(argument).startswith("f'{__name__}."):
                    found.update(m for m in modules if m.rpartition(".")[0] == package)
                    continue
                assert isinstance(argument, ast.Constant), "import of a computed name"
                found.add(argument.value)
    return found


def outside_functions(source):
    """Return the source without the bodies of its functions."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def imports_of(name):
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports(path.read_text(encoding="utf-8"), package, MODULES)


def find_cycle(names):
    """Return a circle of imports among the modules, or None."""
    graph = {name: imports_of(name) & set(names) - {name} for name in names}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def top_level(name):
    return name.partition(".")[0]


def test_the_source_is_found():
    assert {"skcae", "skcae.engine", "skcae.engine.objective"} <= set(MODULES)
    assert "torch" in map(top_level, imports_of("skcae.engine.objective"))
    assert "skcae.engine.network" in imports_of("skcae.engine.objective")
    assert OUTSIDE
    assert len(ENGINE) > 5


@pytest.mark.parametrize("name", ENGINE)
def test_the_engine_needs_nothing_but_itself_and_torch(name):
    for imported in imports_of(name):
        if top_level(imported) == "skcae":
            assert imported in ENGINE
        else:
            allowed = ENGINE_NEEDS | sys.stdlib_module_names
            assert top_level(imported) in allowed


@pytest.mark.parametrize("name", OUTSIDE)
def test_torch_stays_in_the_engine(name):
    assert "torch" not in map(top_level, imports_of(name))


def test_imports_go_one_way():
    assert find_cycle(ENGINE) is None
    assert find_cycle(list(MODULES)) is None


@pytest.mark.parametrize(
    "package, floors", [("skcae.engine", ENGINE_FLOORS), ("skcae", FLOORS)]
)
def test_every_module_stands_on_those_below(package, floors):
    names = [f"{package}.{floor}" for floor in floors]
    inside = ENGINE if package == "skcae.engine" else set(OUTSIDE) - {"skcae"}
    assert sorted(names) == sorted(set(inside) - {package})
    for i, name in enumerate(names):
        assert imports_of(name) & set(names) <= set(names[:i])


def test_the_floors_are_those_that_contributors_read():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"from the ground up: (.+?)\.\n", text, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == list(ENGINE_FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_optional_packages_are_imported_where_they_are_needed(name):
    source = outside_functions(MODULES[name].read_text(encoding="utf-8"))
    assert OPTIONAL.isdisjoint(map(top_level, imports(source, "skcae")))


def test_importing_loads_nothing_optional():
    # In a new process, as this one has loaded everything already. scikit-learn loads
    # pandas where it is installed: only what comes on top is the package's doing.
    code = (
        "import sys, sklearn.base, torch; before = set(sys.modules); "
        f"import {', '.join(OUTSIDE)}; print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stdout.split())
    assert loaded.issuperset(OUTSIDE)
    assert OPTIONAL.isdisjoint(map(top_level, loaded))
    assert result.stderr == ""


SOURCE = """
import a.b
from .. import c
from ..d import e
from . import f, g

def function():
    import h
    from i import j
    importlib.import_module("k")

class Class:
    def method(self):
        try:
            from .l import m as n
        except ImportError:
            __import__("o")
"""


def test_imports_are_found_wherever_they_are():
    assert imports(SOURCE, "top.middle", {"top.c", "top.d", "top.middle.f"}) == {
        *("a.b", "top.c", "top.d", "top.middle.f", "top.middle"),
        *("h", "i", "k", "top.middle.l", "o"),
    }
    assert imports(outside_functions(SOURCE), "top.middle") == {
        *("a.b", "top", "top.d", "top.middle"),
    }
    own = {"top.a", "top.b"}
    others = {"top", "top.a.c", "other.d"}
    assert imports('import_module(f"{__name__}.{name}")', "top", own | others) == own
    for computed in ("name", 'f"{name}"', 'f"{__name__}{name}"'):
        with pytest.raises(AssertionError, match="computed"):
            imports(f"import_module({computed})", "top")


def test_circles_are_found(monkeypatch):
    fake = {"skcae.x": {"skcae.y"}, "skcae.y": {"skcae.z"}, "skcae.z": {"skcae.x"}}
    monkeypatch.setitem(globals(), "imports_of", fake.__getitem__)
    assert set(find_cycle(list(fake))) == set(fake)
    fake["skcae.z"] = set()
    assert find_cycle(list(fake)) is None
