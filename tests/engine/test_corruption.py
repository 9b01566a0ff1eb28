import pytest
import torch
from scipy import stats

from skcae.engine.corruption import CORRUPTIONS, fill_normal, gaussian, masking
from skcae.engine.device import make_generator

all_corruptions = pytest.mark.parametrize("name", sorted(CORRUPTIONS))
all_dtypes = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16]
)


@pytest.fixture
def x(rng):
    return torch.tensor(rng.uniform(0.5, 1, size=(200, 33)), dtype=torch.float32)


def corrupted(name, x, level, seed=0):
    out = torch.full_like(x, torch.nan)
    returned = CORRUPTIONS[name](x, level, out, make_generator(seed))
    assert returned is out
    return out


# Every corruption


@all_corruptions
@all_dtypes
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 3), (7, 11), (64, 32)], ids=str)
def test_fills_the_buffer_and_leaves_the_input_alone(name, dtype, shape):
    x = torch.rand(shape, generator=make_generator(1)).to(dtype)
    before = x.clone()
    out = corrupted(name, x, 0.3)
    assert torch.isfinite(out).all()
    assert torch.equal(x, before)


@all_corruptions
@all_dtypes
def test_level_zero_changes_nothing(name, dtype, x):
    x = x.to(dtype)
    assert torch.equal(corrupted(name, x, 0), x)


@all_corruptions
def test_is_determined_by_its_generator(name, x):
    first = corrupted(name, x, 0.3)
    assert torch.equal(corrupted(name, x, 0.3), first)
    assert not torch.equal(corrupted(name, x, 0.3, seed=1), first)
    # The generator moves on.
    generator = make_generator(0)
    outs = [CORRUPTIONS[name](x, 0.3, torch.empty_like(x), generator) for _ in range(2)]
    assert torch.equal(outs[0], first)
    assert not torch.equal(outs[1], first)


@all_corruptions
def test_nothing_global_is_read_or_set(name, x, torch_setting):
    expected = corrupted(name, x, 0.3)
    generator = make_generator(0)
    out = torch.empty_like(x)
    before = torch.get_rng_state()
    with torch_setting():
        CORRUPTIONS[name](x, 0.3, out, generator)
    assert torch.equal(out, expected)
    assert torch.equal(torch.get_rng_state(), before)


@all_corruptions
def test_draws_are_the_same_in_all_precisions(name, x):
    expected = corrupted(name, x, 0.3)
    wide = corrupted(name, x.double(), 0.3)
    torch.testing.assert_close(wide.float(), expected)
    narrow = corrupted(name, x.bfloat16(), 0.3)
    torch.testing.assert_close(narrow.float(), expected, rtol=0.02, atol=0.02)


@all_corruptions
def test_entries_are_independent(name, x):
    # Neighbours share a draw in one and a transformation in the other.
    changes = (corrupted(name, x.expand(50, -1, -1), 0.4) - x).flatten()
    changes = (changes - changes.mean()) / changes.std()
    for lag in [1, 2, 3, 4, 8, 16]:
        correlation = (changes[lag:] * changes[:-lag]).mean()
        assert abs(correlation) < 4.5 / len(changes) ** 0.5


# Normal noise


@all_dtypes
@pytest.mark.parametrize("level", [0.1, 2])
def test_gaussian_noise_is_normal(dtype, level, x):
    noise = corrupted("gaussian", x.double(), level) - x
    assert stats.kstest(noise.numpy().ravel() / level, "norm").pvalue > 0.01
    filled = fill_normal(torch.empty_like(x, dtype=dtype), level, make_generator(0))
    torch.testing.assert_close(filled.double(), noise, rtol=0.01, atol=1e-6)


def test_gaussian_noise_for_several_corruptions_at_once(x):
    out = gaussian(x, 0.1, torch.empty(3, *x.shape), make_generator(0))
    noise = out - x
    assert not torch.isclose(noise[0], noise[1]).all()
    assert (noise.std(dim=(1, 2)) - 0.1).abs().max() < 0.004


# Masking noise


@all_dtypes
@pytest.mark.parametrize("level", [1e-3, 0.1, 0.5, 0.9])
def test_masking_sets_the_fraction_to_zero_and_keeps_the_rest(dtype, level, x):
    x = x.to(dtype).repeat(20, 1)
    out = corrupted("masking", x, level)
    masked = out == 0
    assert torch.equal(out[~masked], x[~masked])
    n_masked = int(masked.sum())
    assert stats.binomtest(n_masked, x.numel(), level).pvalue > 0.01
    # Every column and every row has its share.
    for dim in [0, 1]:
        n = masked.shape[dim]
        error = (masked.double().mean(dim=dim) - level).abs().max()
        assert error < 5.5 * (level * (1 - level) / n) ** 0.5 + 1.5 / n


def test_masking_at_the_ends_of_its_range(x):
    assert torch.equal(masking(x, 2**-18, torch.empty_like(x), make_generator(0)), x)
    out = masking(x, 1 - 1e-9, torch.empty_like(x), make_generator(0))
    assert (out == 0).float().mean() > 0.99
