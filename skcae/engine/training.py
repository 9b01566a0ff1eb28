"""The training loop: a generator that yields one report per epoch."""

import math
from typing import NamedTuple

import torch

from .activations import ACTIVATIONS
from .batches import (
    ShuffledBatches,
    as_tensor,
    block_rows,
    row_blocks,
    variance_of_rounding,
)
from .corruption import make_corruption
from .device import PRECISIONS, isolated, make_generator, threads_for
from .distributed import ALONE
from .losses import LOSSES
from .network import Parameters, decode, encode, initialise
from .objective import make_gradient, objective
from .optimizer import OPTIMIZERS
from .penalties import entries_per_row
from .replay import replayed

# Of data that don't vary, sums of losses differ by no more than this part of them.
_NO_SPREAD = 1e-5


class EpochReport(NamedTuple):
    """Means over the samples of one epoch, as seen while training on them.

    Attributes
    ----------
    reconstruction : float
        Reconstruction loss, summed over features.
    contraction : float
        ‖J‖²_F of the encoder.
    curvature : float
        E ‖J(x) - J(x + ε)‖²_F of the encoder; 0 where it has no weight.
    objective : float
        reconstruction + lam · contraction + gamma · curvature, plus alpha times the sum
        of squared weights at the end of the epoch.
    """

    reconstruction: float
    contraction: float
    curvature: float
    objective: float


@isolated
def _train_one_epoch(
    evaluate, gradient, optimizer, batches, report_type, group, n_samples
):
    sums = []
    with threads_for(gradient.work):
        for terms in group.steps(evaluate, gradient, batches):
            sums.append(terms)
            optimizer.step()
    last = torch.stack([gradient.weight_decay(), gradient.flat.sum()]).to(sums[0])
    totals = torch.cat([torch.stack(sums).sum(dim=0), last])
    # Unlike machines round differently: nothing may drift, and what is decided by the
    # report has to be the same everywhere.
    group.copy_(gradient.flat, totals)
    # The one place of an epoch where values are read back from the device.
    *terms, decay, parameters = totals.tolist()
    terms = [term / n_samples for term in terms]
    report = report_type(*terms, gradient.total(terms) + decay)
    if not math.isfinite(report.objective + parameters):
        raise FloatingPointError(
            f"the objective is {report.objective} and the parameters' sum {parameters}"
        )
    return report


def train(
    gradient,
    optimizer,
    batches,
    corrupt,
    report_type=EpochReport,
    group=ALONE,
    generators=(),
):
    """Minimise the objective by mini-batch steps.

    Parameters
    ----------
    gradient : FlatGradient
    optimizer : Adam or Muon
        On ``gradient.flat`` and ``gradient.gradient``.
    batches : iterable
        One epoch per iteration, with an attribute ``n_samples`` (and ``n_batches``,
        where there are several processes). A batch is what the gradient takes as the
        target.
    corrupt : callable
        ``corrupt(batch)`` is what the network sees: its input.
    report_type : type, default=EpochReport
        A named tuple of the gradient's terms and "objective".
    group : OneProcess or ManyProcesses, default=ALONE
        Who trains together, each with batches of its own.
    generators : sequence of torch.Generator, default=()
        Those from which the gradient and ``corrupt`` draw.

    Yields
    ------
    report : report_type
        After each epoch, without end. Between two of them the caller may read or set
        the parameters (``gradient.flat``) and the learning rate.

    Raises
    ------
    FloatingPointError
        If the objective or a parameter became infinite or NaN.
    """
    evaluate = replayed(
        lambda batch: gradient(corrupt(batch), batch), gradient.flat.device, generators
    )
    n_samples = sum(group.gather(batches.n_samples))
    while True:
        yield _train_one_epoch(
            evaluate, gradient, optimizer, batches, report_type, group, n_samples
        )


def check_weights(dtype, **weights):
    """Raise FloatingPointError if the weight of a term is too large to compute with."""
    for name, weight in weights.items():
        if weight > torch.finfo(dtype).max / 4:
            raise FloatingPointError(f"{name}={weight} is too large for {dtype}")


class TrainingRun:
    """What every training run can do.

    It has an ``architecture``, ``batches``, a ``gradient``, an ``optimizer``, the
    initial ``learning_rate`` and the ``group`` of the processes that train together.
    """

    group = ALONE

    def scale_learning_rate(self, factor):
        """Set the learning rate to ``factor`` times the initial one."""
        self.optimizer.learning_rate = factor * self.learning_rate

    @property
    def current_learning_rate(self):
        return self.optimizer.learning_rate

    def _corruption(self, name, level, generator):
        """Return the function that corrupts batches; see `make_corruption`."""
        return make_corruption(
            name,
            level,
            (self.batches.batch_size, self.architecture.sizes[0]),
            dtype=self.gradient.dtype,
            device=self.gradient.flat.device,
            generator=generator,
        )

    def _flatten(self, arrays):
        tensors = [[as_tensor(a) for a in group] for group in arrays]
        return self.architecture.flatten(Parameters(*tensors))

    @isolated
    def snapshot(self, arrays=None):
        """Return a copy of the parameters or of ``arrays``, for `arrays` later."""
        if arrays is None:
            return self.gradient.flat.clone()
        return self._flatten(arrays).to(self.gradient.flat)

    @isolated
    def arrays(self, snapshot=None):
        """Return the parameters (or a snapshot of them) as `Parameters` of ndarray.

        The arrays own their memory, those of tied decoder weights too.
        """
        flat = self.gradient.flat if snapshot is None else snapshot
        return Parameters(
            *(
                [block.cpu().numpy().copy(order="C") for block in group]
                for group in self.architecture.view(flat)
            )
        )


class Trainer(TrainingRun):
    """Parameters, gradient, optimiser and batches of an autoencoder's training.

    Parameters
    ----------
    architecture : Architecture
    X : ndarray, CSR array or RowSubset of shape (n_samples, n_features)
        The rows of this process.
    arrays : Parameters of ndarray, default=None
        Where training starts; None draws parameters by `initialise`.
    loss : str
    lam : float
    learning_rate : float
    batch_size : int
        Number of rows of a step, of all processes together.
    precision : str
        A key of ``PRECISIONS``: the arithmetic. The parameters are float64 for
        "float64" and float32 otherwise.
    device : torch.device
    seed : int
        Of everything random here. Rank 0's counts, and each rank draws its own numbers.
    optimizer : str, default="muon"
        A key of ``OPTIMIZERS``.
    corruption : str, default=None
        A key of ``CORRUPTIONS``: what is done to the input while training.
    corruption_level : float, default=0.0
    alpha, gamma, sigma, n_projections
        As in `ClosedFormGradient` and `objective`.
    group : OneProcess or ManyProcesses, default=ALONE
        Who trains together. All ranks make and use their trainers alike.

    Attributes
    ----------
    variance, mean_square : float
        Of the rows of all processes: mean over about 1000, summed over features.

    Raises
    ------
    FloatingPointError
        If ``lam`` or the data are too large to compute initial parameters from.
    """

    @isolated
    def __init__(
        self,
        architecture,
        X,
        arrays=None,
        *,
        loss,
        lam,
        learning_rate,
        batch_size,
        precision,
        device,
        seed,
        optimizer="muon",
        corruption=None,
        corruption_level=0.0,
        alpha=0.0,
        gamma=0.0,
        sigma=0.0,
        n_projections=None,
        group=ALONE,
    ):
        self.architecture = architecture
        self.loss = loss
        self.learning_rate = learning_rate
        self.group = group
        self.generator = make_generator(group.gather(seed)[0] + group.rank)
        # What a step draws from.
        self._draws = self.generator
        if device.type == "cuda":
            self._draws = make_generator(0, device)  # seeded in each epoch
        dtype = PRECISIONS[precision]
        wide = torch.promote_types(dtype, torch.float32)
        check_weights(wide, lam=lam, gamma=gamma, alpha=alpha)
        self.batches = ShuffledBatches(
            X,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            generator=self.generator,
            n_batches=group.n_batches(X.shape[0], batch_size),
        )
        share = X.shape[0] / sum(group.gather(X.shape[0]))
        # Rounding decides on directions in which the data don't vary, and so does the
        # number of threads; the start isn't to depend on that.
        with threads_for(0):
            rows = self.batches.evenly_spaced(math.ceil(1000 * share))
            rows = group.pool(rows.to(wide))
            self.variance = rows.var(dim=0, correction=0).sum().item()
            self.mean_square = rows.square().sum(dim=1).mean().item()
            if arrays is None:
                # Enough rows to estimate as many directions as there are units.
                n_rows = max(1000, 4 * max(architecture.sizes[1:]))
                sample = self.batches.sample(math.ceil(n_rows * share))
                sample = group.pool(sample.to(wide))
                flat = initialise(architecture, sample, self.generator)
                if not torch.isfinite(flat.sum()):
                    raise FloatingPointError("the initial parameters are not finite")
            else:
                flat = self._flatten(arrays).to(device, wide)
        group.copy_(flat)
        self.gradient = make_gradient(
            architecture,
            flat,
            loss=loss,
            lam=lam,
            batch_size=self.batches.batch_size,
            dtype=dtype,
            alpha=alpha,
            gamma=gamma,
            sigma=sigma,
            n_projections=n_projections,
            generator=self._draws,
        )
        self.optimizer = OPTIMIZERS[optimizer](
            architecture, flat, self.gradient.gradient, learning_rate, dtype
        )
        self._corrupt = self._corruption(corruption, corruption_level, self._draws)

    def epochs(self):
        """Return the endless generator of `EpochReport`; see `train`."""
        epochs = train(
            self.gradient,
            self.optimizer,
            self.batches,
            self._corrupt,
            group=self.group,
            generators=[self._draws],
        )
        while True:
            if self._draws is not self.generator:
                # So that the state of the one between epochs is that of both, and the
                # order of the rows is that of the CPU where nothing is drawn in steps.
                ahead = make_generator(0).set_state(self.generator.get_state())
                seed = torch.randint(2**62, (), generator=ahead, device="cpu")
                self._draws.manual_seed(seed.item())
            yield next(epochs)

    @isolated
    def mean_objective(self, X):
        """Return the mean objective over the rows of X, as a float.

        X is what this process has of them. Rows are corrupted as in training, or what
        is lowest would be the objective of another model, which needn't denoise.
        Whatever is random is the same each time. Raises FloatingPointError if it is
        infinite or NaN.
        """
        flat = self.gradient.flat
        parameters = self.architecture.view(flat)
        generator = make_generator(0, flat.device)
        total = torch.zeros((), dtype=flat.dtype, device=flat.device)
        n_rows = block_rows(entries_per_row(self.architecture))
        blocks = row_blocks(X, dtype=flat.dtype, device=flat.device, n_rows=n_rows)
        with threads_for(self.gradient.work):
            for _, x in blocks:
                terms = objective(
                    self.architecture,
                    parameters,
                    self._corrupt(x, torch.empty_like(x), generator),
                    x,
                    generator=generator,
                    **self.gradient.settings,
                )
                total += self.gradient.total(terms).sum()
        own = total.item(), X.shape[0], self.gradient.weight_decay().item()
        totals, sizes, decays = zip(*self.group.gather(own), strict=True)
        mean = sum(totals) / sum(sizes) + decays[0]
        if not math.isfinite(mean):
            raise FloatingPointError(f"the objective on held-out samples is {mean}")
        return mean

    @isolated
    def explained(self, arrays):
        """Return the part of the variation of the data that the model explains.

        It is 1 where the mean loss of 100 to 1000 rows of this process is that of a
        perfect reconstruction, 0 where it is that of the best constant one, and None
        where these are the same, but for rounding.

        Parameters
        ----------
        arrays : Parameters of ndarray
            The model.
        """
        loss, output = LOSSES[self.loss], self.architecture.output_activation
        n_rows = min(1000, max(100, block_rows(self.architecture.sizes[0])))
        rows = self.batches.evenly_spaced(n_rows).to(self.gradient.flat)
        parameters = self.architecture.view(self.snapshot(arrays))
        _, activations = encode(self.architecture, parameters, rows)
        z = decode(self.architecture, parameters, activations[-1])
        # Squares of small numbers would leave the range of float32.
        rows, z = rows.cpu().double(), z.cpu().double()
        perfect, constant = loss.bounds(rows)
        spread = constant - perfect
        rounding = variance_of_rounding(rows, torch.finfo(rows.dtype).eps)
        if not spread > max(_NO_SPREAD * perfect, rounding):
            return None
        reached = loss.per_sample(z, rows, ACTIVATIONS[output]).mean()
        return ((constant - reached) / spread).item()

    @isolated
    def share_generators(self):
        """Let the other ranks know the state of this one's random numbers.

        `state` needs those of all, but whoever asks for it may be on one rank only.
        """
        states = self.group.gather(self.generator.get_state())
        self._generators = torch.stack(states).numpy()

    @isolated
    def state(self):
        """Return what `restore` needs to go on exactly: a dict of NumPy arrays.

        The parameters are not part of it; see `arrays`. It is the same on all ranks if
        they called `share_generators` after the last epoch.
        """
        if self.group.size == 1:
            self.share_generators()
        memory = self.optimizer.memory
        return {
            "generator": self._generators,
            "optimizer": {k: v.cpu().numpy().copy() for k, v in memory.items()},
        }

    @isolated
    def restore(self, state):
        """Go on as the trainer whose `state` this is.

        As many ranks draw the same random numbers, other numbers of them their own.
        """
        if len(state["generator"]) == self.group.size:
            own = state["generator"][self.group.rank]
            self.generator.set_state(torch.tensor(own, device="cpu"))
        for name, memory in self.optimizer.memory.items():
            memory.copy_(torch.tensor(state["optimizer"][name], device="cpu"))
