"""The public docstrings are complete numpydoc, and their defaults are the real ones."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate
from sklearn.utils._param_validation import StrOptions

import skcae

IGNORED = {
    "ES01",  # a summary that says it all needs no extension
    "SA01",  # See Also where there is something to see
    "EX01",  # a method's example is that of its class
    "RT02",  # returned values have names, as in scikit-learn
    "RT03",  # of "self : SomeDisplay" there is nothing more to say
    "RT04",  # descriptions may start with a formula
}


def _public_modules():
    """All modules without an underscore in their name, the engine left out."""
    names = {module.name for module in pkgutil.iter_modules(skcae.__path__)}
    names = {name for name in names if not name.startswith("_")} - {"engine"}
    return ["skcae", *sorted(f"skcae.{name}" for name in names)]


def _public():
    """Yield the full name and the value of all public classes, methods, functions."""
    for module in _public_modules():
        namespace = importlib.import_module(module)
        for name in namespace.__all__:
            value = getattr(namespace, name)
            if callable(value):
                yield f"{module}.{name}", value
            for member in vars(value) if inspect.isclass(value) else ():
                attribute = getattr(value, member)
                # Metadata routing makes the setters of requests.
                own = not (member.startswith("_") or member.endswith("_request"))
                if own and (callable(attribute) or isinstance(attribute, property)):
                    yield f"{module}.{name}.{member}", attribute


def _documented_types(function):
    """Return the documented type of each parameter."""
    text = inspect.cleandoc(function.__doc__)
    return {p.name: p.type for p in NumpyDocString(text)["Parameters"]}


PUBLIC = dict(_public())


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_is_valid(name):
    errors = [error for error in validate(name)["errors"] if error[0] not in IGNORED]
    assert not errors


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if callable(v)])
def test_documented_defaults_are_the_real_ones(name):
    function = PUBLIC[name]
    types = _documented_types(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        type_ = types[parameter.name]
        if type_ == "Ignored":
            continue
        documented = re.findall("default=(.+)$", type_)
        if parameter.default is parameter.empty:
            assert not documented, parameter.name
        else:
            assert documented, f"{parameter.name}: no default"
            value = ast.literal_eval(documented[0])
            assert repr(value) == repr(parameter.default), parameter.name


@pytest.mark.parametrize(
    "estimator",
    [
        skcae.ContractiveAutoencoderClassifier,
        skcae.ContractiveAutoencoderDetector,
        skcae.ContractiveAutoencoderTransformer,
    ],
)
def test_documented_choices_are_the_real_ones(estimator):
    types = _documented_types(estimator)
    constraints = estimator._parameter_constraints
    for name, allowed in constraints.items():
        options = [c.options for c in allowed if isinstance(c, StrOptions)]
        documented = re.findall('"([^"]+)"', types[name].split("default=")[0])
        assert sorted(documented) == sorted(set().union(*options)), name


def test_modules_have_docstrings():
    for module in _public_modules():
        assert importlib.import_module(module).__doc__


def test_api_reference_lists_the_public_modules():
    path = Path(__file__).parents[1] / "docs" / "api.rst"
    listed = re.findall(r"^   (skcae[\w.]*)$", path.read_text("utf-8"), re.MULTILINE)
    modules = [name for name in listed if name.rpartition(".")[2].islower()]
    assert sorted(modules) == _public_modules()
