"""Fits of two real processes, started once, and what they must be equal to.

Processes take seconds to start, so one pair runs all checks: functions named
``check_*`` that both ranks call in turn. What they return, or raise, is compared by the
tests.
"""

import itertools
import multiprocessing
import os
import pickle
import runpy
import signal
import socket
import warnings
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.distributed as dist
from callbacks import HAS_CALLBACKS, Callback, needs_callbacks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.callbacks import Checkpoint
from skcae.distributed import data_parallel
from skcae.engine.batches import Batch, ShuffledBatches
from skcae.engine.device import make_generator
from skcae.engine.distributed import OneProcess, current_group
from skcae.engine.network import Architecture
from skcae.engine.objective import Terms, make_gradient
from skcae.engine.optimizer import OPTIMIZERS, Adam
from skcae.engine.rows import Rows
from skcae.engine.training import Trainer, TrainingRun

N_RANKS = 2
SECONDS = 60


def make(**parameters):
    settings = {"n_hidden": 5, "max_iter": 4, "tol": 0, "random_state": 0}
    return ContractiveAutoencoderTransformer(**settings | parameters)


def rows(n_samples=137):
    return load_digits().data[:n_samples] / 16


def shard(rank, X):
    """Return rank 0's or 1's part of the rows, three quarters or one."""
    stop = 3 * len(X) // 4
    return X[:stop] if rank == 0 else X[stop:]


def parameters_of(model):
    blocks = [*model.encoder_coefs_, *model.encoder_intercepts_]
    blocks += [*model.decoder_coefs_, *model.decoder_intercepts_]
    return np.concatenate([block.ravel() for block in blocks])


@contextmanager
def when(method, n_calls, action, owner=ShuffledBatches):
    """Call ``action`` before the n-th call of a method."""
    original = getattr(owner, method)
    calls = itertools.count(1)

    def wrapper(*args, **kwargs):
        if next(calls) == n_calls:
            action()
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, wrapper)
        yield


def fail():
    raise OSError("disk on fire")


class GivenBatches:
    """Batches of given rows, the same ones in each epoch."""

    def __init__(self, X, index):
        self.batches = [Batch(torch.tensor(X[i])) for i in index]
        self.n_batches = len(index)
        self.n_samples = sum(map(len, index))

    def __iter__(self):
        return iter(self.batches)


ENGINE_CASES = {
    "closed form, adam": ((64, 5), False, "adam", {}),
    "closed form, muon": ((64, 5), True, "muon", {"alpha": 0.01}),
    "closed form, no penalty": ((64, 5), False, "muon", {"lam": 0.0}),
    "autograd, adam": ((64, 7, 5), True, "adam", {"alpha": 0.01}),
    "autograd, muon": ((64, 7, 5), False, "muon", {}),
}

# Which rows are in which batch of which rank: of different sizes, and none at all.
INDEX = [
    [np.arange(0, 20), np.arange(20, 25), np.arange(25, 40)],
    [np.arange(40, 43), np.arange(0), np.arange(43, 60)],
]


def trained(case, index, group):
    """Return the reports and parameters of three epochs on given batches."""
    sizes, tied, optimizer, settings = ENGINE_CASES[case]
    architecture = Architecture(sizes, tied=tied)
    flat = torch.randn(
        architecture.n_parameters(), generator=make_generator(0), dtype=torch.float64
    ).mul_(0.3)
    gradient = make_gradient(
        architecture,
        flat,
        **{"loss": "squared_error", "lam": 0.3, **settings},
        batch_size=40,
        dtype=torch.float64,
    )
    run = TrainingRun()
    run.group, run.gradient = group, gradient
    run.optimizer = OPTIMIZERS[optimizer](architecture, flat, gradient.gradient, 0.01)
    run.batches = GivenBatches(rows(), index)
    run._corrupt = lambda x: x
    run._record(Terms._fields, [])
    return [run.epoch() for _ in range(3)], flat.numpy()


def check_same_batches(rank):
    return {case: trained(case, INDEX[rank], current_group()) for case in ENGINE_CASES}


def trainer_of(X):
    return Trainer(
        Architecture((64, 5)),
        X,
        loss="squared_error",
        lam=0.3,
        alpha=0.01,
        learning_rate=0.01,
        batch_size=10,
        precision="float64",
        device=torch.device("cpu"),
        seed=0,
        group=current_group(),
    )


def check_whole_of_the_data(rank):
    trainer = trainer_of(shard(rank, rows()))
    objective = trainer.mean_objective(shard(rank, rows()))
    draw = torch.rand(1, generator=trainer.generator).item()
    state = trainer.arrays(), trainer.variance, trainer.mean_square
    return state, objective, trainer.batches.n_batches, draw


def fitted(X, **parameters):
    model = make(**parameters).fit(X)
    return parameters_of(model), model.loss_curve_, model.history_, model.n_iter_


def check_fit(rank):
    return fitted(shard(rank, rows()), max_iter=500, tol=1e-2)


def check_early_stopping(rank):
    return fitted(
        shard(rank, rows()),
        early_stopping=True,
        max_iter=500,
        tol=1e-2,
        random_state=None,
        corruption="masking",
    )


def check_deep(rank):
    return fitted(shard(rank, rows()), n_hidden=(7, 5), gamma=0.1, precision="float64")


def check_few_rows(rank):
    # 103 steps of an epoch for three rows.
    X = rows(100)
    part = X[:97] if rank == 0 else X[97:]
    return fitted(part, batch_size=1, learning_rate_init=0.005)


def thin_rows(n_samples=120):
    """Return sparse rows with ten of 1200 features each."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 1200, (n_samples, 10)).ravel()
    index = np.repeat(np.arange(n_samples), 10), columns
    return scipy.sparse.csr_array((rng.random(len(columns)), index), (n_samples, 1200))


def check_sparse(rank):
    X = thin_rows()
    part = X[:90] if rank == 0 else X[90:]
    fits = (fitted(x, early_stopping=True) for x in (part, part.toarray()))
    return [loss_curve for _, loss_curve, _, _ in fits]


def check_weights(rank):
    X = rows()
    model = make(learning_rate_init=1e-30, max_iter=1, lam="auto")
    model.fit(shard(rank, X), sample_weight=[1, 3][rank])
    losses = model.lam_ * model.contraction(X) - model.score_samples(X)
    weights = np.concatenate([np.full(len(shard(i, X)), [1, 3][i]) for i in (0, 1)])
    return model.loss_curve_[0], np.average(losses, weights=weights), model.lam_


def check_minus_one_hidden_unit(rank):
    return fitted(rows(), n_hidden=-1 if rank == 1 else 5)


def check_nan(rank):
    X = shard(rank, rows()).copy()
    X[0, 0] = np.nan if rank == 1 else 0
    return fitted(X)


def check_out_of_range(rank):
    X = shard(rank, rows()) * (2 if rank == 1 else 1)
    return fitted(X, loss="cross_entropy", output_activation="sigmoid")


def check_other_settings(rank):
    return fitted(shard(rank, rows()), lam=0.1 + rank)


def check_other_features(rank):
    return fitted(shard(rank, rows())[:, rank:])


def check_divergence(rank):
    return fitted(shard(rank, rows()), learning_rate_init=1e39)


def check_failing_step(rank):
    # In the second epoch of about 14 steps.
    with when("_finished", 20 if rank == 1 else 0, fail):
        return fitted(shard(rank, rows()), batch_size=10)


def check_failing_initialisation(rank):
    with when("sample", 1 if rank == 1 else 0, fail, owner=Rows):
        return fitted(shard(rank, rows()))


def interrupt():
    signal.raise_signal(signal.SIGINT)


def interrupted(rank, *whens, **parameters):
    model = make(max_iter=20, solver="adam", **parameters)
    handler = signal.getsignal(signal.SIGINT)
    with ExitStack() as stack:
        for context in whens:
            stack.enter_context(context)
        stack.enter_context(pytest.warns(match="interrupted by user"))
        model.fit(shard(rank, rows()))
    assert signal.getsignal(signal.SIGINT) is handler
    return parameters_of(model), model.n_iter_


def check_interrupt(rank):
    return interrupted(rank, when("_finished", 50 if rank == 1 else 0, interrupt))


def check_interrupt_of_all(rank):
    return interrupted(rank, when("_finished", 50, interrupt))


def check_interrupt_that_comes_again(rank):
    # On the other rank, and once more on the first, after the training has ended.
    return interrupted(
        rank,
        when("_finished", 50 if rank == 1 else 0, interrupt),
        when("arrays", 1, interrupt, owner=Trainer),
    )


def check_interrupt_after_the_first_epoch(rank):
    return interrupted(
        rank, when("share_generators", 1, interrupt, owner=Trainer), warm_start=True
    )


def check_interrupt_by_a_handler(rank):
    def handler(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        # Not in a batch, where no other rank could be told.
        return interrupted(
            rank, when("step", 50 if rank == 1 else 0, interrupt, owner=Adam)
        )
    finally:
        signal.signal(signal.SIGINT, before)


def check_early_interrupt(rank):
    # Nothing is usable yet.
    with when("_finished", 2 if rank == 1 else 0, interrupt):
        return fitted(shard(rank, rows()))


def leave(signum=None, frame=None):
    raise SystemExit(3)


def check_leaving(rank):
    with when("_finished", 20 if rank == 1 else 0, leave):
        return fitted(shard(rank, rows()))


def terminated(rank, *signums):
    def send():
        for signum in signums:
            signal.raise_signal(signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with when("step", 20 if rank == 1 else 0, send, owner=Adam):
            return fitted(shard(rank, rows()), solver="adam")
    finally:
        signal.signal(signal.SIGTERM, before)


def check_terminating(rank):
    return terminated(rank, signal.SIGTERM)


def check_terminating_after_an_interrupt(rank):
    # Both come between the same two exchanges.
    return terminated(rank, signal.SIGINT, signal.SIGTERM)


class AtEpoch(Callback):
    """A callback that does something after an epoch of one rank."""

    def __init__(self, epoch, action):
        self.left = epoch
        self.action = action

    def on_fit_task_end(self, estimator, context):
        self.left -= context.task_name == "epoch"
        return context.task_name == "epoch" and self.left == 0 and self.action()


class BeforeEpoch(AtEpoch):
    """Does it when that epoch begins."""

    def on_fit_task_begin(self, estimator, context):
        super().on_fit_task_end(estimator, context)

    def on_fit_task_end(self, estimator, context):
        pass


def with_callback(rank, action, kind=AtEpoch):
    model = make(max_iter=20).set_callbacks(kind(3 if rank == 1 else 0, action))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(shard(rank, rows()))
    return parameters_of(model), model.n_iter_


def check_stopping_callback(rank):
    return with_callback(rank, lambda: True)


def check_failing_callback(rank):
    return with_callback(rank, fail)


def check_callback_out_of_memory(rank):
    def fail():
        raise RuntimeError("out of memory")

    return with_callback(rank, fail, BeforeEpoch)


def check_interrupting_callback(rank):
    def interrupt():
        raise KeyboardInterrupt

    return with_callback(rank, interrupt)


def check_resuming(rank):
    # Each rank draws numbers of its own, but one's pickle is good for all.
    X = shard(rank, rows())
    model = make(max_iter=2, warm_start=True, corruption="masking").fit(X)
    model = pickle.loads(current_group().gather(pickle.dumps(model))[1]).fit(X)
    whole = make(max_iter=4, corruption="masking").fit(X)
    return parameters_of(model), parameters_of(whole)


def check_equal_settings(rank):
    n_hidden, lam = (5, 1) if rank == 0 else ([np.int64(5)], np.float64(1))
    return parameters_of(make(n_hidden=n_hidden, lam=lam).fit(shard(rank, rows())))


def checkpointed(rank, **parameters):
    """Return a model to fit, that of the checkpoint if there is one."""
    path = Path("checkpoint.pickle")
    if path.exists():
        model = pickle.loads(path.read_bytes())
    else:
        model = make(
            early_stopping=True,
            corruption="masking",
            warm_start=True,
            random_state=rank,  # Rank 0's counts.
        )
    model.set_params(**parameters)
    if HAS_CALLBACKS:
        # Rank 0 alone writes its file.
        model.set_callbacks(Checkpoint(path if rank == 0 else Path("missing", path)))
    return model


def check_resuming_with_other_data(rank):
    # Rank 1 could resume, rank 0 can't: they start anew from where they are.
    model = make(max_iter=2, warm_start=True).fit(shard(rank, rows()))
    return parameters_of(model.fit(shard(rank, rows())[1 - rank :]))


def check_fitted_on_one_rank(rank):
    model = make(warm_start=True)
    if rank == 1:
        model = pickle.loads(pickle.dumps(ALONE)).set_params(warm_start=True)
    return parameters_of(model.fit(shard(rank, rows())))


def check_partial_fit(rank):
    model = make(random_state=None)
    for chunk in np.array_split(shard(rank, rows()), 3):
        model.partial_fit(chunk)
    return parameters_of(model), model.n_iter_


def check_classifier(rank):
    X, y = load_digits(return_X_y=True)
    return ContractiveAutoencoderClassifier().fit(shard(rank, X), shard(rank, y))


def check_killed(rank):
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    # In the third epoch.
    with when("_finished", 20 if rank == 1 else 0, kill):
        checkpointed(rank).fit(shard(rank, rows()))


def go_on(rank, folder):
    """Go on from the checkpoint of the processes that were killed; start anew."""
    os.chdir(folder)
    join_group(rank, folder / "another_store")
    X = shard(rank, rows())
    with data_parallel():
        model = checkpointed(rank, max_iter=4).fit(X)
        Path("checkpoint.pickle").unlink(missing_ok=True)
        dist.barrier()
        whole = checkpointed(rank, max_iter=6).fit(X)
    curves = [
        (parameters_of(m), m.loss_curve_, m.history_["validation_loss"])
        for m in (model, whole)
    ]
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(curves))


def run_recipe(rank, folder, port):
    """Run the script of the documentation, as torchrun would."""
    os.chdir(folder)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(N_RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return parameters_of(runpy.run_path(str(RECIPE))["model"])


RECIPE = Path(__file__).parents[1] / "docs" / "data_parallel.py"
CHECKS = [name for name in globals() if name.startswith("check_")]
ALONE = None


def join_group(rank, path):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Maximum iterations")
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(path), N_RANKS),
        rank=rank,
        world_size=N_RANKS,
        timeout=timedelta(seconds=SECONDS),
    )


def run_checks(rank, folder, port):
    """Run all checks as one of the ranks; pickle what comes of each."""
    global ALONE
    results = {"recipe": run_recipe(rank, folder, port)}
    if rank == 0:
        saved = pickle.loads((folder / "model.pickle").read_bytes())
        results["saved"] = parameters_of(saved)
    # The recipe ignores interrupts in the end, as a shell does for what it starts in
    # the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    join_group(rank, folder / "store")
    ALONE = make().fit(rows())
    for name in CHECKS:
        if "callback" in name and not HAS_CALLBACKS:
            continue
        try:
            with data_parallel():
                results[name] = globals()[name](rank)
        except BaseException as error:
            results[name] = f"{type(error).__name__}: {error}"
        # One check kills its process.
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(results))


def run_ranks(target, folder, *arguments):
    """Run a function in a process for each rank; return their exit codes."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=target, args=(rank, folder, *arguments), daemon=True)
        for rank in range(N_RANKS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(2 * SECONDS)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes]


def read(folder):
    return [
        pickle.loads((folder / f"{rank}.pickle").read_bytes())
        for rank in range(N_RANKS)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def results(folder):
    """Return what the checks of both ranks came to, name → result, by rank."""
    np.save(folder / "X.npy", rows(40)[:, 20:28])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert run_ranks(run_checks, folder, port) == [0, -signal.SIGKILL]
    return read(folder)


@pytest.mark.parametrize("case", ENGINE_CASES)
def test_training_is_that_of_one_process_on_the_same_batches(case, results):
    whole = [np.concatenate(parts) for parts in zip(*INDEX, strict=True)]
    reports, parameters = trained(case, whole, OneProcess())
    for result in results:
        own_reports, own_parameters = result["check_same_batches"][case]
        assert_allclose(own_parameters, parameters, rtol=1e-8, atol=1e-10)
        for own, report in zip(own_reports, reports, strict=True):
            assert own.terms == pytest.approx(report.terms, rel=1e-8)
            assert own.objective == pytest.approx(report.objective, rel=1e-8)
    assert_array_equal(*(result["check_same_batches"][case][1] for result in results))


def test_training_starts_from_the_whole_of_the_data(results):
    X = rows()
    alone = trainer_of(X)
    expected = alone.mean_objective(X)
    one, other = (result["check_whole_of_the_data"] for result in results)
    for result in (one, other):
        (arrays, variance, mean_square), objective, n_batches, _ = result
        assert variance == pytest.approx(X.var(axis=0).sum(), rel=1e-12)
        assert mean_square == pytest.approx((X**2).sum(axis=1).mean(), rel=1e-12)
        assert n_batches == 14
        assert objective == pytest.approx(expected, rel=0.01)
        assert_array_equal(arrays.encoder_weights[0], one[0][0].encoder_weights[0])
        # The objective of these parameters, on all rows.
        alone.gradient.flat.copy_(alone.snapshot(arrays))
        assert objective == pytest.approx(alone.mean_objective(X), rel=1e-12)
    # Each rank has random numbers of its own.
    assert one[-1] != other[-1]


@pytest.mark.parametrize(
    "check", ["check_fit", "check_early_stopping", "check_deep", "check_few_rows"]
)
def test_all_ranks_end_with_the_same_model(check, results):
    one, other = (result[check] for result in results)
    assert_array_equal(one[0], other[0])
    assert_array_equal(one[1], other[1])
    for name, curve in one[2].items():
        assert_array_equal(curve, other[2][name])
    assert one[3] == other[3] == len(one[1])
    assert np.isfinite(one[0]).all()
    assert one[1][-1] < one[1][0]


def test_the_model_is_as_good_as_that_of_one_process(results):
    _, curve, _, n_iter = results[0]["check_fit"]
    alone = make(max_iter=500, tol=1e-2).fit(rows())
    assert curve[-1] < 1.05 * alone.loss_curve_[-1]
    assert n_iter < 500


FAILURES = {
    "check_minus_one_hidden_unit": "InvalidParameterError: The 'n_hidden'",
    "check_nan": "ValueError: Input X contains NaN",
    "check_out_of_range": "ValueError: loss='cross_entropy' requires X in",
    "check_failing_step": "OSError: disk on fire",
    "check_failing_initialisation": "OSError: disk on fire",
    "check_failing_callback": "OSError: disk on fire",
    "check_callback_out_of_memory": "RuntimeError: out of memory",
    "check_leaving": "SystemExit: 3",
    "check_terminating": "SystemExit: 3",
    "check_terminating_after_an_interrupt": "SystemExit: 3",
}


@pytest.mark.parametrize("check", FAILURES)
def test_what_raises_on_one_rank_raises_on_all(check, results):
    if "callback" in check and not HAS_CALLBACKS:
        pytest.skip("scikit-learn has no callbacks yet")
    fine, failed = (result[check] for result in results)
    assert failed.startswith(FAILURES[check])
    assert fine.startswith("RuntimeError: Training was given up")
    assert f"rank 1: {FAILURES[check]}" in fine


@pytest.mark.parametrize(
    "check, expected",
    {
        "check_other_settings": "lam is 0.1 on rank 0, but 1.1 on rank 1",
        "check_other_features": "number of features is 64 on rank 0, but 63 on rank 1",
        "check_fitted_on_one_rank": "earlier epochs is 0 on rank 0, but 4 on rank 1",
        "check_divergence": "ValueError: Training diverged",
        "check_classifier": "NotImplementedError: ContractiveAutoencoderClassifier",
    }.items(),
)
def test_what_is_wrong_with_all_ranks_raises_the_same(check, expected, results):
    one, other = (result[check] for result in results)
    assert expected in one
    assert expected in other


@pytest.mark.parametrize(
    "check",
    [
        "check_interrupt",
        "check_interrupt_of_all",
        "check_interrupt_that_comes_again",
        "check_interrupt_by_a_handler",
    ],
)
def test_an_interrupt_stops_all_ranks_after_the_same_epoch(check, results):
    (one, n_one), (other, n_other) = (result[check] for result in results)
    assert_array_equal(one, other)
    # Nine steps an epoch.
    assert n_one == n_other == 5


def test_sparse_rows_are_trained_on_as_dense_ones_are(results):
    (sparse, dense), other = (result["check_sparse"] for result in results)
    assert_array_equal([sparse, dense], other)
    assert_allclose(sparse, dense, rtol=1e-4)


def test_weights_count_across_ranks(results):
    (reported, mean, lam), other = (result["check_weights"] for result in results)
    assert (reported, mean, lam) == other
    assert reported == pytest.approx(mean, rel=1e-5)


def test_an_interrupt_right_after_the_first_epoch(results):
    check = "check_interrupt_after_the_first_epoch"
    (one, n_one), (other, n_other) = (result[check] for result in results)
    assert_array_equal(one, other)
    assert n_one == n_other == 1


def test_an_interrupt_before_the_end_of_the_first_epoch(results):
    for result in results:
        assert result["check_early_interrupt"] == "KeyboardInterrupt: "


@needs_callbacks
@pytest.mark.parametrize(
    "check", ["check_stopping_callback", "check_interrupting_callback"]
)
def test_a_callback_stops_all_ranks_after_the_same_epoch(check, results):
    (one, n_one), (other, n_other) = (result[check] for result in results)
    assert_array_equal(one, other)
    assert n_one == n_other == 3


def test_training_resumes_exactly(results):
    models = [model for result in results for model in result["check_resuming"]]
    for model in models:
        assert_array_equal(model, models[0])


@pytest.mark.parametrize(
    "check",
    ["check_resuming_with_other_data", "check_partial_fit", "check_equal_settings"],
)
def test_continued_training_ends_with_the_same_model(check, results):
    one, other = (result[check] for result in results)
    for a, b in zip(one, other, strict=True):
        assert_array_equal(a, b)


def test_a_killed_rank_stops_the_other(results):
    assert "check_killed" not in results[1]
    assert results[0]["check_killed"].startswith(
        "RuntimeError: An exchange with the other processes failed"
    )


@needs_callbacks
@pytest.mark.filterwarnings("ignore:Maximum iterations")
def test_a_killed_training_goes_on_exactly(results, folder):
    checkpoint = (folder / "checkpoint.pickle").read_bytes()
    assert run_ranks(go_on, folder) == [0, 0]
    for model, whole in read(folder):
        for values, expected in zip(model, whole, strict=True):
            assert_array_equal(values, expected)
    # Another number of processes starts from the parameters.
    model = pickle.loads(checkpoint)
    assert model.n_iter_ == 2
    with pytest.warns(
        UserWarning, match=r"137 and 0\.1, but 102 \+ 35 and 0\.1 before"
    ):
        model.set_params(learning_rate_init=1e-9).fit(rows())
    assert model.n_iter_ == 6
    before = parameters_of(pickle.loads(checkpoint))
    assert_allclose(parameters_of(model), before, atol=1e-6)


def test_the_documented_script_saves_the_model(results):
    one, other = (result["recipe"] for result in results)
    assert_array_equal(one, other)
    assert_array_equal(one, results[0]["saved"])


# In this process


def test_it_needs_a_process_group():
    with pytest.raises(RuntimeError, match="init_process_group"), data_parallel():
        pass


@pytest.mark.filterwarnings("ignore:Maximum iterations")
def test_one_process_is_as_good_as_none():
    expected = make().fit(rows())
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with data_parallel():
            model = make().fit(rows())
    finally:
        dist.destroy_process_group()
    assert_array_equal(parameters_of(model), parameters_of(expected))
    assert isinstance(current_group(), OneProcess)


@pytest.mark.filterwarnings("ignore:Maximum iterations")
def test_equal_settings_resume_and_others_say_that_they_do_not(capsys):
    X = rows()
    whole = make(lam=1, batch_size=16).fit(X)
    model = make(lam=1, batch_size=16, max_iter=2, warm_start=True, verbose=True)
    model.fit(X).set_params(lam=np.float64(1), batch_size=np.int64(16)).fit(X)
    assert_array_equal(parameters_of(model), parameters_of(whole))
    assert "initial learning rate" not in capsys.readouterr().out
    model.set_params(lam=1.5).fit(X)
    assert "at the initial learning rate" in capsys.readouterr().out
    # Chunks always differ.
    model.partial_fit(X).partial_fit(X[:50])
    assert "initial learning rate" not in capsys.readouterr().out
