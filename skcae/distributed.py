"""One model, several processes: each fits with rows of its own."""

from contextlib import contextmanager

from .engine import distributed

__all__ = ["data_parallel"]


@contextmanager
def data_parallel(group=None):
    """Fit one model together with the other processes of torch.distributed.

    In this context `fit` and `partial_fit` of `ContractiveAutoencoderTransformer` take
    X as this process's shard of the data. All processes call them alike; each step's
    gradient is that of the objective on the rows of all, so that all end with the same
    parameters. Other methods work on what they are given, as always.

    ``batch_size`` counts rows of all processes together. Each splits its shard into the
    same number of steps, however many rows it has; shards of about the same size waste
    the least time. All estimator parameters must be the same on all processes, but for
    ``device``, ``verbose`` and ``random_state``, whose value counts on rank 0. With
    early stopping each process holds out some of its rows.

    What raises on one process raises on all: RuntimeError where there was nothing
    wrong. That holds for a process that is terminated as well, once its connections
    are closed or else after the timeout of ``init_process_group``. Ctrl-C on one
    stops all after the same epoch; pressed again before `fit` returns, it changes
    nothing. Other signals are handled between two steps.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or None, default=None
        The processes; None is all of them. With only one, it is as if there were no
        context.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    RuntimeError
        If ``torch.distributed.init_process_group()`` wasn't called.
    ValueError
        If this process isn't in the group.

    Examples
    --------
    A script that ``torchrun`` starts has the rank and the addresses in its environment.
    This one process stands for all:

    >>> import torch.distributed
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.distributed import data_parallel
    >>> torch.distributed.init_process_group(
    ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    ... )
    >>> rank = torch.distributed.get_rank()
    >>> n_ranks = torch.distributed.get_world_size()
    >>> shard = load_digits().data[rank::n_ranks] / 16
    >>> with data_parallel():
    ...     cae = ContractiveAutoencoderTransformer(tol=0.1).fit(shard)
    >>> cae.transform(shard).shape
    (1797, 64)
    >>> torch.distributed.destroy_process_group()
    """
    with distributed.data_parallel(group):
        yield
