"""One model, several processes: each fits with rows of its own."""

from contextlib import contextmanager

from .engine import distributed

__all__ = ["data_parallel"]


@contextmanager
def data_parallel(group=None):
    """Fit one model together with the other processes of torch.distributed.

    In this context `fit` and `partial_fit` of `ContractiveAutoencoderTransformer` take
    X as this process's shard of the data. All processes must make the same calls. The
    gradient of each step is that of the objective on the rows of all processes, so that
    all end with the same parameters. Other methods don't communicate.

    ``batch_size`` counts the rows of all processes together. All processes make the
    same number of steps, however many rows each has; shards of about the same size
    waste the least time. All processes must have the same estimator parameters, except
    for ``device``, ``verbose`` and ``random_state``. The ``random_state`` of rank 0
    counts.
    With early stopping each process holds out some of its rows.

    An error on one process ends `fit` on all: the others raise RuntimeError. They do so
    too if a process is terminated, once its connections are closed or else after the
    timeout of ``init_process_group``. Ctrl-C on one process stops all after the same
    epoch; another Ctrl-C before `fit` returns changes nothing. A handler of SIGTERM, if
    there is one in Python, is called between two steps.

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
