"""Data-parallel training of one model by several processes."""

from contextlib import contextmanager

from .engine import distributed

__all__ = ["data_parallel"]


@contextmanager
def data_parallel(group=None):
    """Fit one model together with the other processes of torch.distributed.

    In this context, the X of `fit` and `partial_fit` of
    `ContractiveAutoencoderTransformer` is this process's shard of the data. All
    processes must make the same calls. The gradient of each step is that of the
    objective on the rows of all processes, so that all processes end with the same
    parameters. Other methods don't communicate.

    ``batch_size`` counts the rows of all processes together. All processes make the
    same number of steps, however many rows each has; shards of about the same size
    waste the least time. All processes must have the same estimator parameters, except
    for ``device``, ``verbose`` and ``random_state``. The ``random_state`` of rank 0 is
    used. With early stopping, each process holds out some of its rows.

    An error in one process ends `fit` in all processes: the others raise RuntimeError.
    If a process is terminated, the others raise RuntimeError too: as soon as its
    connections are closed, or after the timeout of ``init_process_group``. Ctrl-C in
    one process stops all processes after the same epoch; another Ctrl-C before `fit`
    returns has no effect. If Python has a handler of SIGTERM, it is called between two
    steps.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or None, default=None
        The processes. None means all of them. With only one process, the context has no
        effect.

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
    A script that ``torchrun`` starts gets the rank and the addresses from its
    environment. In this example, one process is the whole group:

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
