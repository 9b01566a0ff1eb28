import numpy as np
import pytest
import torch
from scipy.special import expit

from skcae.engine import inference
from skcae.engine import rows as rows_module
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.losses import LOSSES
from skcae.engine.network import Architecture, Parameters
from skcae.engine.penalties import contraction, jacobian

CPU = torch.device("cpu")


@pytest.fixture
def fitted(make_problem):
    """A sigmoid autoencoder as arrays, as an estimator keeps it, and some rows."""
    architecture = Architecture((5, 3), "sigmoid", "sigmoid")
    flat, x = make_problem(architecture, n_samples=11)
    arrays = Parameters(
        *([block.numpy() for block in group] for group in architecture.view(flat))
    )
    return architecture, arrays, x.numpy()


def test_code_reconstruction_and_loss_match_the_formulas(fitted):
    architecture, arrays, X = fitted
    (weight,), (bias,), (decoder_weight,), (decoder_bias,) = arrays
    h = expit(X @ weight + bias)
    y = expit(h @ decoder_weight + decoder_bias)

    def compute(function, rows):
        return inference.map_rows(function, architecture, arrays, rows, device=CPU)

    np.testing.assert_allclose(compute(inference.code, X), h, rtol=1e-13)
    np.testing.assert_allclose(compute(inference.decoded, h), y, rtol=1e-13)
    np.testing.assert_allclose(
        compute(inference.reconstruction_loss("squared_error"), X),
        ((X - y) ** 2).sum(axis=1),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        compute(inference.reconstruction_loss("cross_entropy"), X),
        -(X * np.log(y) + (1 - X) * np.log(1 - y)).sum(axis=1),
        rtol=1e-12,
    )


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_has_a_function(loss, make_problem):
    for output in LOSSES[loss].output_activations:
        architecture = Architecture((5, 3), "tanh", output)
        flat, x = make_problem(architecture)
        arrays = Parameters(
            *([b.numpy() for b in group] for group in architecture.view(flat))
        )
        values, reconstruction, code = (
            inference.map_rows(function, architecture, arrays, X, device=CPU)
            for function, X in [
                (inference.reconstruction_loss(loss), x.numpy()),
                (inference.decoded, np.ones((2, 3))),
                (inference.code, x.numpy()),
            ]
        )
        assert values.shape == (7,)
        assert reconstruction.shape == (2, 5)
        assert code.shape == (7, 3)
        (decoder_weight,), (decoder_bias,) = arrays[2:]
        z = torch.tensor(code @ decoder_weight + decoder_bias)
        expected = LOSSES[loss].per_sample(z, x, ACTIVATIONS[output])
        np.testing.assert_allclose(values, expected, rtol=1e-10)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ">f4", ">f8", "u1", "u2", "?"])
def test_results_are_float32_where_the_rows_are_and_float64_otherwise(fitted, dtype):
    # float64 weights too: rows in float32 are computed in float32 all the same.
    architecture, arrays, X = fitted
    X = np.abs(X).astype(dtype)
    result, exact = (
        inference.map_rows(inference.code, architecture, arrays, rows, device=CPU)
        for rows in (X, X.astype("f8"))
    )
    assert result.dtype == ("f4" if dtype == "f4" else "f8")
    assert result.flags.writeable
    np.testing.assert_allclose(result, exact, rtol=1e-6 if dtype == "f4" else 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8], ids=str)
def test_tensors_give_tensors(fitted, dtype, monkeypatch):
    architecture, arrays, X = fitted
    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 20)
    tensor = torch.tensor(X).to(dtype)
    # Where to compute is where they are.
    result, expected = (
        inference.map_rows(inference.code, architecture, arrays, rows, device=device)
        for rows, device in [(tensor, torch.device("cuda")), (tensor.numpy(), CPU)]
    )
    assert result.device == CPU
    np.testing.assert_array_equal(result.numpy(), expected, strict=True)


@pytest.mark.parametrize(
    "function, shape",
    [
        (inference.code, (11, 3)),
        (jacobian, (11, 3, 5)),
        (contraction, (11,)),
        (inference.reconstruction_loss("squared_error"), (11,)),
    ],
    ids=["code", "jacobian", "contraction", "reconstruction_loss"],
)
def test_blocks_join_to_the_whole(fitted, function, shape, monkeypatch):
    architecture, arrays, X = fitted
    whole = inference.map_rows(function, architecture, arrays, X, device=CPU)
    lengths = []

    def recording(architecture, parameters, x):
        lengths.append(len(x))
        return function(architecture, parameters, x)

    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 20)
    joined = inference.map_rows(recording, architecture, arrays, X, device=CPU)
    # The widest layer has five units.
    assert lengths == [4, 4, 3]
    assert whole.shape == joined.shape == shape
    np.testing.assert_allclose(joined, whole, rtol=1e-13)

    lengths.clear()
    inference.map_rows(
        recording, architecture, arrays, X, device=CPU, entries_per_row=10
    )
    assert lengths == [2, 2, 2, 2, 2, 1]


def test_no_room_for_results_or_parameters(fitted):
    def huge(architecture, parameters, x):
        return x.new_zeros(1).expand(len(x), 2**50)

    architecture, arrays, X = fitted
    message = r"not enough memory for the weights \(5 × 3\) .* from the 11 rows of X"
    with pytest.raises(MemoryError, match=message):
        inference.map_rows(huge, architecture, arrays, X, device=CPU)
    large = np.broadcast_to(np.float32(0), (2**30, 2**20))
    arrays = arrays._replace(encoder_weights=[large])
    with pytest.raises(MemoryError, match=message):
        inference.map_rows(inference.code, architecture, arrays, X, device=CPU)


def test_arguments_are_left_alone_and_not_shared(fitted):
    architecture, arrays, X = fitted
    for array in [X, *(block for group in arrays for block in group)]:
        array.flags.writeable = False

    def identity(architecture, parameters, x):
        return x

    result = inference.map_rows(identity, architecture, arrays, X, device=CPU)
    np.testing.assert_array_equal(result, X)
    assert not np.shares_memory(result, X)

    def destructive(architecture, parameters, x):
        for group in parameters:
            for block in group:
                block.zero_()
        return x

    before = arrays.encoder_weights[0].copy()
    inference.map_rows(destructive, architecture, arrays, X, device=CPU)
    np.testing.assert_array_equal(arrays.encoder_weights[0], before)


def test_settings_of_other_code_do_not_matter(fitted, torch_setting):
    architecture, arrays, X = fitted
    functions = [
        inference.code,
        inference.reconstruction_loss("cross_entropy"),
        jacobian,
        contraction,
    ]

    def compute():
        return [
            inference.map_rows(function, architecture, arrays, X, device=CPU)
            for function in functions
        ]

    expected = compute()
    with torch_setting():
        results = compute()
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, value)
