import tempfile
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcae.engine import batches as batches_module
from skcae.engine import rows as rows_module
from skcae.engine.batches import ShuffledBatches
from skcae.engine.device import make_generator
from skcae.engine.rows import (
    MappedRows,
    Rows,
    SparseRows,
    as_array,
    as_rows,
    as_tensor,
    block_rows,
    detached,
    is_out_of_core,
    lost_in_rounding,
)

CPU = torch.device("cpu")


def shuffled(X, *, batch_size=4, dtype=torch.float64, seed=0, **kwargs):
    return ShuffledBatches(
        X,
        batch_size=batch_size,
        dtype=dtype,
        device=CPU,
        generator=make_generator(seed),
        **kwargs,
    )


def epoch(batches):
    """Return the batches of one epoch, copied: they share one buffer."""
    return [batch.x.clone() for batch in batches]


def in_blocks(X, n_rows, dtype=torch.float64):
    """Return the rows, read in blocks of at most ``n_rows``."""
    return torch.cat([block for _, block in as_rows(X).tensors(n_rows, dtype, CPU)])


def numbered_rows(n_samples):
    return np.arange(2.0 * n_samples).reshape(n_samples, 2)


# Shuffled batches


@settings(deadline=None, derandomize=True, database=None)
@given(n_samples=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_every_row_comes_once_per_epoch(n_samples, batch_size):
    X = numbered_rows(n_samples)
    batches = shuffled(X, batch_size=batch_size)
    for _ in range(2):
        parts = epoch(batches)
        rows = torch.cat(parts).numpy()
        np.testing.assert_array_equal(rows[rows[:, 0].argsort()], X)
        # All batches are full but the last, which is never dropped.
        assert {len(part) for part in parts[:-1]} <= {batch_size}
        assert 1 <= len(parts[-1]) <= batch_size
        assert len(parts) == -(-n_samples // batch_size)
    assert batches.n_samples == n_samples
    assert batches.batch_size == min(batch_size, n_samples)


@settings(deadline=None, derandomize=True, database=None)
@given(n_samples=st.integers(1, 40), n_batches=st.integers(1, 50), sparse=st.booleans())
def test_a_given_number_of_batches(n_samples, n_batches, sparse):
    X = numbered_rows(n_samples)
    rows = scipy.sparse.csr_array(X) if sparse else X
    batches = shuffled(rows, n_batches=n_batches)
    for _ in range(2):
        parts = epoch(batches)
        assert len(parts) == n_batches == batches.n_batches
        sizes = {len(part) for part in parts}
        assert max(sizes) == batches.batch_size
        assert max(sizes) - min(sizes) <= 1
        rows = torch.cat(parts).numpy()
        np.testing.assert_array_equal(rows[rows[:, 0].argsort()], X)


def test_order_follows_the_seed_and_nothing_else():
    X = numbered_rows(30)
    torch.manual_seed(0)
    one, other, different = shuffled(X), shuffled(X), shuffled(X, seed=1)
    first = [torch.cat(epoch(one)) for _ in range(3)]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    second = [torch.cat(epoch(other)) for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], torch.cat(epoch(different)))
    assert not torch.equal(first[0], torch.tensor(X))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "source", ["?", "u1", "i1", "u2", "i4", "i8", "f2", "f4", "f8", ">f4", ">f8", ">i2"]
)
def test_rows_are_cast_to_the_training_format(source, dtype, rng):
    values = rng.integers(0, 2 if source == "?" else 100, size=(11, 3))
    X = values.astype(source)
    parts = epoch(shuffled(X, dtype=dtype))
    assert {part.dtype for part in parts} == {dtype}
    rows = torch.cat(parts)
    order = np.lexsort(rows.double().numpy().T)
    expected = values[np.lexsort(values.T)]
    np.testing.assert_array_equal(rows.double().numpy()[order], expected)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def structured(X):
    # A field of records: its strides are no multiples of the item size.
    records = np.zeros(len(X), dtype=[("x", X.dtype, X.shape[1:]), ("flag", "u1")])
    records["x"] = X
    return records["x"]


LAYOUTS = {
    "C": lambda X: X,
    "F": np.asfortranarray,
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "every other column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "read-only": read_only,
    "read-only and big-endian": lambda X: read_only(LAYOUTS["big-endian"](X)),
    "reversed columns": lambda X: X[:, ::-1].copy()[:, ::-1],
    "reversed rows": lambda X: X[::-1].copy()[::-1],
    "structured": structured,
    "unaligned": lambda X: np.frombuffer(
        bytearray(b"0" + X.tobytes()), X.dtype, offset=1
    ).reshape(X.shape),
}

all_layouts = pytest.mark.parametrize("layout", sorted(LAYOUTS))


@all_layouts
@pytest.mark.parametrize("source", ["f4", "f8"])
def test_every_memory_layout_is_read_without_a_warning(layout, source):
    expected = numbered_rows(10)
    X = LAYOUTS[layout](expected.astype(source))
    before = X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = shuffled(X, dtype=torch.float64)
        rows = torch.cat(epoch(batches))
        sample = as_rows(X).sample(10, make_generator(0))
        blocks = in_blocks(X, 4)
        whole = as_tensor(X)
    np.testing.assert_array_equal(rows[rows[:, 0].argsort()], expected)
    np.testing.assert_array_equal(sample[sample[:, 0].argsort()], expected)
    np.testing.assert_array_equal(blocks, expected)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(X, before)


def test_a_memory_map_is_read_without_a_warning(tmp_path):
    expected = numbered_rows(10)
    np.save(tmp_path / "X.npy", expected)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = torch.cat(epoch(shuffled(X)))
        block = in_blocks(X, 10)
    np.testing.assert_array_equal(rows[rows[:, 0].argsort()], expected)
    np.testing.assert_array_equal(block, expected)


@pytest.mark.parametrize("source", ["u1", "f4", "f8"])
def test_writing_to_batches_leaves_the_source_alone(source):
    X = numbered_rows(10).astype(source)
    before = X.copy()
    batches = shuffled(X, dtype=torch.float64)
    for batch in batches:
        batch.x.fill_(-1)
    np.testing.assert_array_equal(X, before)
    rows = torch.cat(epoch(batches))
    np.testing.assert_array_equal(rows[rows[:, 0].argsort()], before)


@pytest.mark.parametrize("source", ["u1", "f8"])
def test_batches_share_one_buffer(source):
    batches = shuffled(numbered_rows(10).astype(source))
    assert len({batch.x.data_ptr() for _ in range(2) for batch in batches}) == 1


def test_writable_native_arrays_are_shared_and_others_copied():
    X = numbered_rows(4)
    as_tensor(X)[0, 0] = 7
    assert X[0, 0] == 7
    for layout in ["read-only", "big-endian", "reversed rows"]:
        array = LAYOUTS[layout](X)
        as_tensor(array)[0, 0] = 8
        assert array[0, 0] == 7


def test_a_gpu_holds_the_rows_where_they_leave_half_of_its_memory(monkeypatch):
    rows = np.zeros((5, 5), dtype=np.float32)
    gpu = torch.device("cuda")
    for free, expected in [(200, True), (199, False)]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 1))
        assert rows_module.belongs_on(gpu, rows.nbytes) is expected
    assert not rows_module.belongs_on(CPU, rows.nbytes)
    assert as_rows(scipy.sparse.csr_array(rows)).moved(torch.float32, gpu) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("source", ["u1", "f4", "f8", ">f8"])
def test_rows_on_the_device_come_in_the_same_order(source, dtype, monkeypatch):
    X = numbered_rows(11).astype(source)
    expected = shuffled(X, dtype=dtype)
    # The CPU stands for a GPU, with rows moved there in several blocks.
    monkeypatch.setattr(rows_module, "belongs_on", lambda device, nbytes: True)
    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 8)
    moved = shuffled(X, dtype=dtype)
    assert torch.is_tensor(moved._source)
    for _ in range(2):
        for a, b in zip(epoch(expected), epoch(moved), strict=True):
            assert torch.equal(a, b)


# Sparse rows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("source", ["u1", "f4", "f8"])
@pytest.mark.parametrize("index", ["i4", "i8"])
@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix"])
def test_sparse_rows_give_the_batches_of_dense_ones(source, dtype, index, kind, rng):
    X = (rng.integers(1, 100, (23, 7)) * (rng.random((23, 7)) < 0.3)).astype(source)
    X[[0, 4]] = 0
    sparse = getattr(scipy.sparse, kind)(X)
    sparse.indices = read_only(sparse.indices.astype(index))
    sparse.indptr = read_only(sparse.indptr.astype(index))
    sparse.data = read_only(sparse.data)
    batches = [shuffled(rows, dtype=dtype) for rows in (X, sparse)]
    for _ in range(2):
        for a, b in zip(*map(epoch, batches), strict=True):
            assert a.dtype == b.dtype == dtype
            assert torch.equal(a, b)
    kinds = as_rows(X), as_rows(sparse)
    np.testing.assert_array_equal(*[k.sample(5, make_generator(1)) for k in kinds])
    np.testing.assert_array_equal(*[k.evenly_spaced(4) for k in kinds])
    np.testing.assert_array_equal(*[k.take(np.array([3, 1]))[:] for k in kinds])
    assert torch.equal(*[in_blocks(k, 5, dtype) for k in kinds])
    assert kinds[0].extremes() == kinds[1].extremes()


def test_sparse_rows_that_name_an_entry_twice_have_the_sum():
    sparse = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), (2, 2)
    )
    rows = torch.cat(epoch(shuffled(sparse)))
    assert sorted(rows.tolist()) == [[0, 3], [4, 0]]
    assert sparse.nnz == 3


# Large memory maps


@pytest.fixture
def map_rows_of(tmp_path):
    """Return a function that writes an array to a file and maps it, read-only."""

    def map_rows(X):
        np.save(tmp_path / "X.npy", X)
        return np.load(tmp_path / "X.npy", mmap_mode="r")

    return map_rows


PLACE = batches_module._PLACE_BYTES


@pytest.fixture
def small_windows(monkeypatch):
    """Make maps of more than 96 bytes large, in windows of three runs of two rows."""
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 96)
    monkeypatch.setattr(batches_module, "_RUN_BYTES", 32)
    monkeypatch.setattr(batches_module, "_PLACE_BYTES", 0)


def test_large_memory_maps_are_out_of_core(map_rows_of, small_windows):
    X = numbered_rows(7)
    mapped = map_rows_of(X)
    for view in [mapped, np.asarray(mapped), mapped[::-1].T, mapped.reshape(-1, 7)]:
        assert is_out_of_core(view)
        assert type(as_rows(view)) is MappedRows
    for array in [X, mapped.copy(), mapped[:6], mapped[[0] * 7], np.array(mapped)]:
        assert not is_out_of_core(array)
        assert type(as_rows(array)) is Rows
    assert type(as_rows(scipy.sparse.csr_array(X))) is SparseRows
    rows = as_rows(mapped)
    assert as_rows(rows) is rows


@settings(deadline=None, derandomize=True, database=None)
@given(
    n_samples=st.integers(7, 60), batch_size=st.integers(1, 70), subset=st.booleans()
)
def test_windows_lose_no_row_and_fill_all_batches(n_samples, batch_size, subset):
    expected = numbered_rows(n_samples)
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_WINDOW_BYTES", 96)
        patch.setattr(batches_module, "_RUN_BYTES", 32)
        X = np.memmap(file, dtype="f8", shape=expected.shape, mode="w+")
        X[:] = expected
        if subset:
            index = np.arange(0, n_samples, 3)
            X, expected = MappedRows(X, index), expected[index]
        batches = shuffled(X, batch_size=batch_size)
        parts = epoch(batches)
        rows = torch.cat(parts).numpy()
        np.testing.assert_array_equal(rows[rows[:, 0].argsort()], expected)
        assert {len(part) for part in parts[:-1]} <= {batch_size}
        assert len(parts) == batches.n_batches == -(-len(expected) // batch_size)
        parts = epoch(shuffled(X, n_batches=batch_size))
        rows = torch.cat(parts).numpy()
        np.testing.assert_array_equal(rows[rows[:, 0].argsort()], expected)
        assert len(parts) == batch_size


@pytest.mark.parametrize("source", ["u1", "f4", "f8", ">f4"])
def test_windows_are_random_runs_in_random_order(source, map_rows_of, monkeypatch):
    X = numbered_rows(100).astype(source)
    row_bytes = X[0].nbytes
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 30 * (row_bytes + PLACE))
    monkeypatch.setattr(batches_module, "_RUN_BYTES", 5 * (row_bytes + PLACE))
    monkeypatch.setattr(rows_module, "is_out_of_core", lambda X: True)
    batches = shuffled(map_rows_of(X), batch_size=10)
    orders = []
    for _ in range(3):
        order = torch.cat(epoch(batches))[:, 0].numpy() // 2
        orders.append(order.tolist())
        windows = [order[start : start + 30] for start in range(0, 100, 30)]
        for window in windows:
            # Six runs of five rows, neither in the order of the file.
            runs, counts = np.unique(window // 5, return_counts=True)
            assert set(counts) == {5}
            assert len(runs) == len(window) // 5
            assert not np.array_equal(window, np.sort(window))
        assert np.ptp(windows[0]) > 40
    assert orders[0] != orders[1] != orders[2]
    again = shuffled(map_rows_of(X), batch_size=10)
    assert (torch.cat(epoch(again))[:, 0] // 2).tolist() == orders[0]


def test_rows_taken_from_a_memory_map(map_rows_of, small_windows):
    X = numbered_rows(30)  # of 16 bytes
    mapped = as_rows(map_rows_of(X))
    for n_rows, kind in [(6, Rows), (7, MappedRows)]:
        index = np.arange(n_rows) * 4
        taken = mapped.take(index)
        assert type(taken) is kind
        np.testing.assert_array_equal(taken[:], X[index])
        assert type(as_rows(X).take(index)) is Rows
    again = taken.take(np.array([1, 3]))
    np.testing.assert_array_equal(again[:], X[[4, 12]])


def test_windows_of_short_rows_count_the_places_of_rows(map_rows_of, monkeypatch):
    # Of rows of one byte the window has no more than there is memory for their order.
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 4 * (1 + PLACE))
    monkeypatch.setattr(batches_module, "_RUN_BYTES", 2 * (1 + PLACE))
    batches = shuffled(map_rows_of(np.arange(100, dtype="u1")[:, None]), batch_size=4)
    order = torch.cat(epoch(batches))[:, 0].numpy().astype(int)
    assert sorted(order) == list(range(100))
    for window in order.reshape(-1, 4):
        runs, counts = np.unique(window // 2, return_counts=True)
        assert set(counts) == {2}
        assert len(runs) == 2
    assert len(batches._window) == 4


@pytest.mark.parametrize("kind", ["array", "sparse", "map"])
def test_a_split_holds_out_rows_at_random(kind, map_rows_of, small_windows):
    X = numbered_rows(40)
    convert = {"array": np.asarray, "sparse": scipy.sparse.csr_array}
    rows = as_rows(convert.get(kind, map_rows_of)(X))
    parts = rows_module.split_numbers(40, 10, make_generator(0))
    kept, held_out = map(rows.take, parts)
    assert type(kept) is type(rows)
    numbers = [part[:][:, 0] // 2 for part in (kept, held_out)]
    assert [len(part) for part in numbers] == [30, 10]
    assert sorted(np.concatenate(numbers)) == list(range(40))
    assert np.ptp(numbers[1]) > 20
    again = rows_module.split_numbers(40, 10, make_generator(0))
    assert all(map(np.array_equal, again, parts))
    other = rows_module.split_numbers(40, 10, make_generator(1))
    assert not np.array_equal(other[1], parts[1])


@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_array])
def test_rows_that_are_looked_at_together_are_bounded(convert, monkeypatch):
    # Rows that are sparse in memory would be dense here.
    monkeypatch.setattr(rows_module, "_SAMPLE_BYTES", 10 * 16)
    rows = as_rows(convert(numbered_rows(100)))
    assert len(rows.evenly_spaced(1000)) == 10
    assert len(rows.sample(1000, make_generator(0))) == 10


def test_memory_maps_that_fit_in_a_window_are_shuffled_as_arrays_are(map_rows_of):
    X = numbered_rows(30)
    for a, b in zip(epoch(shuffled(X)), epoch(shuffled(map_rows_of(X))), strict=True):
        assert torch.equal(a, b)


def test_sample_of_a_large_memory_map(map_rows_of, small_windows):
    rows = as_rows(map_rows_of(numbered_rows(1000)))
    sample = rows.sample(50, make_generator(0))[:, 0].tolist()
    assert 40 < len(set(sample)) == len(sample) <= 50
    assert np.ptp(sample) > 1000
    assert len(rows.evenly_spaced(100)) == 91


def test_some_rows_of_a_map():
    X = numbered_rows(10)
    rows = MappedRows(X, np.array([1, 4, 5, 9]))
    assert rows.shape == (4, 2)
    assert rows.dtype == X.dtype
    np.testing.assert_array_equal(rows[1:3], X[[4, 5]])
    np.testing.assert_array_equal(rows[::3], X[[1, 9]])
    np.testing.assert_array_equal(in_blocks(rows, 3), X[[1, 4, 5, 9]])
    assert rows.extremes() == (2, 19)


def test_tensors_become_arrays_and_nothing_else_does():
    tensor = torch.arange(6.0).reshape(2, 3)
    array = as_array(tensor)
    array[0, 0] = 7
    assert isinstance(array, np.ndarray)
    assert tensor[0, 0] == 7
    assert isinstance(as_array(tensor.requires_grad_()), np.ndarray)
    assert as_tensor(tensor) is tensor
    assert not detached(tensor).requires_grad
    for other in [array, [[1.0]], scipy.sparse.csr_array(array)]:
        assert as_array(other) is other
        assert detached(other) is other


def test_sample_draws_without_replacement():
    X = numbered_rows(20).astype("u1")
    rows, generator = as_rows(X), make_generator(0)
    sample = rows.sample(8, generator)
    assert sample.shape == (8, 2)
    first = sample[:, 0].tolist()
    assert len(set(first)) == 8
    assert set(first) <= set(X[:, 0].tolist())
    assert first != sorted(first)
    # From one stream of random numbers: the next draw differs.
    assert rows.sample(8, generator)[:, 0].tolist() != first
    assert len(rows.sample(100, generator)) == 20


@pytest.mark.parametrize(
    "offset, source, dtype",
    [
        (1.7e9, "f8", torch.float32),
        (1e5, "f8", torch.float32),
        (300, "f8", torch.bfloat16),
        (300, ">f4", torch.bfloat16),
        (300, "f2", torch.bfloat16),
        (1_700_000_000, "i4", torch.float32),
        (200, "u1", torch.bfloat16),
        (1e5, "f8", torch.float64),
        (1e5, "f4", torch.float32),
        (1e5, "f4", torch.float64),
    ],
)
@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_array])
def test_variance_lost_in_rounding(convert, offset, source, dtype):
    X = (offset + 10 * np.random.default_rng(0).normal(size=(900, 3))).astype(source)
    wide = X.astype(np.float64)
    error = torch.tensor(wide).to(dtype).double().numpy() - wide
    expected = error.var(axis=0).sum() / wide.var(axis=0).sum()
    if convert is not np.asarray and X.dtype not in ("f4", "f8"):
        X = X.astype(np.float64)
    assert lost_in_rounding(convert(X), dtype) == pytest.approx(expected)


def test_nothing_is_lost_where_there_was_nothing():
    rng = np.random.default_rng(0)
    X = 0.1 + 1e-16 * rng.integers(-3, 4, size=(90, 3))
    assert X.var() > 0
    assert lost_in_rounding(X, torch.float32) == 0
    assert lost_in_rounding(X[:1], torch.float32) == 0
    # Nor is a large constant that is rounded.
    X = np.column_stack([np.full(90, 1234567891.0), rng.normal(size=90)])
    assert lost_in_rounding(X, torch.float32) < 1e-12


# Consecutive blocks


@settings(deadline=None, derandomize=True, database=None)
@given(n_samples=st.integers(1, 30), n_rows=st.integers(1, 40))
def test_row_blocks_cover_the_rows_in_order(n_samples, n_rows):
    X = numbered_rows(n_samples)
    start = 0
    for rows, block in as_rows(X).tensors(n_rows, torch.float32, CPU):
        assert rows.start == start
        assert 1 <= len(block) <= n_rows
        assert block.dtype == torch.float32
        np.testing.assert_array_equal(block, X[rows])
        start = rows.stop
    assert start == n_samples


def test_block_rows_bounds_the_entries(monkeypatch):
    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 100)
    assert block_rows(10) == 10
    assert block_rows(30) == 3
    # A row that is too long on its own still has to be computed.
    assert block_rows(1000) == 1
