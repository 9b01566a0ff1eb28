"""How the tests run scikit-learn's own checks of estimators."""

from unittest import SkipTest

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

# Repeated rows share batches with other rows than weighted ones. Where all rows are in
# one batch, scikit-learn's checks of weights pass: see test_weights.py.
BATCHES_DIFFER = {
    f"check_sample_weight_equivalence_on_{kind}_data": "batches have other rows"
    for kind in ("dense", "sparse")
}


def with_checks(estimators):
    """Return the mark that parametrises a test with the estimators and their checks."""
    mark = parametrize_with_checks(
        estimators, expected_failed_checks=lambda estimator: BATCHES_DIFFER
    )
    # Older versions of scikit-learn pass a generator, which pytest 9 deprecates.
    names, cases = mark.args
    return pytest.mark.parametrize(names, list(cases), **mark.kwargs)


def run(check, *args):
    """Run a check; one that skips itself has tested nothing, so that is a failure."""
    try:
        check(*args)
    except SkipTest as skip:
        pytest.fail(f"skipped: {skip}")
