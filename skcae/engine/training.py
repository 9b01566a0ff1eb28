"""The training loop, one epoch at a time, and what an autoencoder needs for it."""

import math
from typing import NamedTuple

import torch

from .activations import ACTIVATIONS, BOUNDED
from .batches import ShuffledBatches
from .corruption import make_corruption
from .device import PRECISIONS, isolated, make_generator, threads_for
from .distributed import ALONE
from .losses import LOSSES
from .network import Parameters, decode, encode, initialise
from .objective import Terms, make_gradient, objective
from .optimizer import OPTIMIZERS
from .penalties import PENALTIES, contraction, entries_per_row, reported
from .reconstruction import needs_no_reconstruction
from .replay import replayed
from .rows import as_rows, as_tensor, block_rows, variance_of_rounding

# Of data that don't vary, sums of losses differ by no more than this part of them.
_NO_SPREAD = 1e-5


class EpochReport(NamedTuple):
    """Means over the samples of one epoch, as seen while training on them.

    Attributes
    ----------
    terms : dict of str to float
        The terms of the objective that are computed, by name, without their weights.
    objective : float
        The weighted sum of the terms, plus alpha times the sum of squared weights at
        the end of the epoch.
    """

    terms: dict
    objective: float


def check_weights(dtype, **weights):
    """Raise FloatingPointError if the weight of a term is too large to compute with."""
    for name, weight in weights.items():
        if weight > torch.finfo(dtype).max / 4:
            raise FloatingPointError(f"{name}={weight} is too large for {dtype}")


class TrainingRun:
    """Parameters, gradient, optimiser and batches of a training that runs.

    A subclass sets the attributes ``architecture``, ``batches``, ``gradient``,
    ``optimizer``, the initial ``learning_rate``, ``_corrupt``, and calls `_record`.

    Attributes
    ----------
    group : OneProcess or ManyProcesses
        The processes that train together, each with batches of its own.
    constant : float
        The mean over all rows of the part of the first term that the gradient leaves
        out; see `FlatGradient`.
    """

    group = ALONE
    constant = 0.0

    def _record(self, names, generators):
        """Get ready to run epochs.

        Parameters
        ----------
        names : sequence of str or None
            Of the gradient's terms; None for those that aren't reported.
        generators : sequence of torch.Generator
            Those from which a step draws.
        """

        def evaluate(batch):
            x = self._corrupt(batch.x)
            target = batch.x if batch.target is None else batch.target
            return self.gradient(x, target, batch.weights, batch.tangents)

        self._names = names
        self._evaluate = replayed(evaluate, self.gradient.flat.device, generators)
        self._n_samples = sum(self.group.gather(self.batches.n_samples))

    @isolated
    def epoch(self):
        """Make a step on each batch of one epoch; return its `EpochReport`.

        Between two epochs the caller may read or set the parameters
        (``gradient.flat``) and the learning rate.

        Raises
        ------
        FloatingPointError
            If the objective or a parameter became infinite or NaN.
        """
        gradient, group = self.gradient, self.group
        sums = []
        with threads_for(gradient.work):
            for terms in group.steps(self._evaluate, gradient, self.batches):
                sums.append(terms)
                self._step()
        last = torch.stack([gradient.weight_decay(), gradient.flat.sum()]).to(sums[0])
        totals = torch.cat([torch.stack(sums).sum(dim=0), last])
        # Machines round differently. Copying rank 0's values keeps the replicas, and
        # all that is decided by the report, identical.
        group.copy_(gradient.flat, totals)
        # The one place of an epoch where values are read back from the device.
        *terms, decay, parameters = totals.tolist()
        terms = [term / self._n_samples for term in terms]
        terms[0] += self.constant
        objective = gradient.total(terms) + decay
        if not math.isfinite(objective + parameters):
            raise FloatingPointError(
                f"the objective is {objective} and the parameters' sum {parameters}"
            )
        named = zip(self._names, terms, strict=True)
        return EpochReport({name: t for name, t in named if name}, objective)

    def _step(self):
        self.optimizer.step()

    def share_generators(self):
        """Let the other ranks know what this one needs to go on; call it each epoch."""

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


def _saturated(architecture, encoding):
    """Return the part of the last layer's activations that are saturated, or 0."""
    activation = ACTIVATIONS[architecture.activation]
    if architecture.activation not in BOUNDED:
        return 0.0
    zero = encoding[0][-1].new_zeros(1)
    largest = activation.derivative(zero, activation.value(zero))
    d = activation.derivative(encoding[0][-1], encoding[1][-1])
    return (d < largest / 25).double().mean().item()


def _scatter(rows, centre):
    """Return Σ_n ‖x_n − centre‖² over all rows, a float."""
    total = 0.0
    n_rows = block_rows(rows.shape[1])
    for _, block in rows.tensors(n_rows, centre.dtype, centre.device):
        total += torch.linalg.vector_norm(block - centre).double().square().item()
    return total


# At the start the penalty is this part of the variance that the start explains, if lam
# is left to the Trainer.
_SHARE_OF_PENALTY = 0.25


def _balanced_lam(architecture, flat, rows, loss, explained):
    """Return the lam with which the penalty is a fixed part of what a start explains.

    ``explained`` is of the variance; of another loss it is taken to be the same part.
    """
    perfect, constant = LOSSES[loss].bounds(rows)
    variance = rows.var(dim=0, correction=0).sum()
    rows = rows[: block_rows(entries_per_row(architecture))]
    penalty = contraction(architecture, architecture.view(flat), rows).mean()
    lam = _SHARE_OF_PENALTY * explained / variance * (constant - perfect) / penalty
    # Data that don't vary have none, nor have those whose squares underflow.
    return lam.nan_to_num(0, 0, 0).clamp(min=0).item()


# Factors of the units of steps, chosen by the objectives of whole fits of six tables:
# for the weights of an encoder and a decoder that are free of each other, for biases of
# pre-activations, and for the output's bias, in standard deviations of a feature.
_ENCODER_UNIT = 0.5
_DECODER_UNIT = 2.0
_BIAS_UNIT = 3.5
_OUTPUT_BIAS_UNIT = 0.5


def _units(architecture, flat, variance):
    """Return the size of each block of the parameters, to which steps are relative.

    That of weights is the root mean square of their entries at the start of training.
    """
    blocks = flat.split([torch.Size(shape).numel() for shape in architecture.shapes()])
    shapes = architecture.weight_shapes()
    units = []
    for weight, shape in zip(blocks, shapes, strict=False):
        size = torch.linalg.vector_norm(weight).item() / weight.numel() ** 0.5
        # Zeros, as weights may be where a fit continues, have none of their own.
        units.append(size or (2 / sum(shape)) ** 0.5)
    if not architecture.tied:
        factors = architecture.depth * [_ENCODER_UNIT] + architecture.depth * [
            _DECODER_UNIT
        ]
        units = [unit * factor for unit, factor in zip(units, factors, strict=True)]
    units += [_BIAS_UNIT] * (len(blocks) - len(shapes))
    if architecture.output_activation == "identity":
        units[-1] = _OUTPUT_BIAS_UNIT * (variance / architecture.sizes[0]) ** 0.5
    return units


class Trainer(TrainingRun):
    """Parameters, gradient, optimiser and batches of an autoencoder's training.

    Parameters
    ----------
    architecture : Architecture
    X : ndarray, CSR array or Rows of shape (n_samples, n_features)
        The rows of this process.
    arrays : Parameters of ndarray, default=None
        Where training starts; None draws parameters by `initialise`.
    loss : str
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
    alpha, n_projections, **settings
        As in `FlatGradient` and `objective`. Where ``arrays`` is None, ``lam`` may be:
        then the penalty is a quarter of the variance that the start explains.
    group : OneProcess or ManyProcesses, default=ALONE
        Who trains together. All ranks make and use their trainers alike.

    Attributes
    ----------
    variance, mean_square : float
        Of the rows of all processes: mean over about 1000, summed over features.
    balanced_lam : float or None
        The number that ``lam`` is if it is None; None where ``arrays`` are given.

    Raises
    ------
    FloatingPointError
        If a weight or the data are too large to compute initial parameters from.
    """

    @isolated
    def __init__(
        self,
        architecture,
        X,
        arrays=None,
        *,
        loss,
        learning_rate,
        batch_size,
        precision,
        device,
        seed,
        optimizer="muon",
        corruption=None,
        corruption_level=0.0,
        alpha=0.0,
        n_projections=None,
        group=ALONE,
        **settings,
    ):
        self.architecture = architecture
        self.loss = loss
        self.learning_rate = learning_rate
        self.group = group
        self.balanced_lam = None
        self.generator = make_generator(group.gather(seed)[0] + group.rank)
        # What a step draws from.
        self._draws = self.generator
        if device.type == "cuda":
            self._draws = make_generator(0, device)  # seeded in each epoch
        dtype = PRECISIONS[precision]
        wide = torch.promote_types(dtype, torch.float32)
        rows = as_rows(X)
        weights = {p.weight: settings.get(p.weight) or 0 for p in PENALTIES.values()}
        check_weights(wide, alpha=alpha, **weights)
        self.batches = ShuffledBatches(
            rows,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            generator=self.generator,
            n_batches=group.n_batches(len(rows), batch_size),
        )
        n_samples = sum(group.gather(len(rows)))
        share = len(rows) / n_samples
        # Rounding decides on directions in which the data don't vary, and so does the
        # number of threads; the start isn't to depend on that.
        with threads_for(0):
            some = self._rounded(rows.evenly_spaced(math.ceil(1000 * share)))
            some = group.pool(some.to(wide))
            self.variance = some.var(dim=0, correction=0).sum().item()
            self.mean_square = some.square().sum(dim=1).mean().item()
            if arrays is None:
                # Enough rows to estimate as many directions as there are units.
                n_rows = max(1000, 4 * max(architecture.sizes[1:]))
                n_rows = math.ceil(n_rows * share)
                sample = self._rounded(rows.sample(n_rows, self.generator))
                sample = group.pool(sample.to(wide))
                architecture, flat, explained = initialise(
                    architecture, sample, self.generator
                )
                # The gain is squared in the gradient.
                largest = torch.finfo(wide).max ** 0.5 / 4
                if not (torch.isfinite(flat.sum()) and architecture.gain < largest):
                    raise FloatingPointError("the initial parameters are not finite")
                self.balanced_lam = _balanced_lam(
                    architecture, flat, sample, loss, explained
                )
                if settings["lam"] is None:
                    settings["lam"] = self.balanced_lam
            else:
                flat = self._flatten(arrays).to(device, wide)
        group.copy_(flat)
        # Machines round differently.
        gain, settings["lam"] = group.gather((architecture.gain, settings["lam"]))[0]
        self.architecture = architecture = architecture._replace(gain=gain)
        check_weights(wide, lam=settings["lam"])
        self.settings = {"loss": loss, "n_projections": n_projections, **settings}
        centre = some.mean(dim=0)
        group.copy_(centre)
        corrupts = corruption is not None
        size = self.batches.batch_size
        # All processes have to leave the same out of the loss.
        is_relative = needs_no_reconstruction(architecture, loss, dtype, size, corrupts)
        is_relative = all(group.gather(is_relative))
        self.gradient = make_gradient(
            architecture,
            flat,
            batch_size=size,
            dtype=dtype,
            alpha=alpha,
            generator=self._draws,
            centre=centre if is_relative else None,
            corrupts=corrupts,
            **self.settings,
        )
        if self.gradient.is_relative:
            self.constant = sum(group.gather(_scatter(rows, centre))) / n_samples
        self.optimizer = OPTIMIZERS[optimizer](
            architecture,
            flat,
            self.gradient.gradient,
            learning_rate,
            dtype,
            group.gather(_units(architecture, flat, self.variance))[0],
        )
        self._mean = centre
        (self._weight, *_), (self._bias, *_), *_ = architecture.view(flat)
        views = architecture.view(self.gradient.gradient)
        (self._d_weight, *_), (self._d_bias, *_), *_ = views
        self._corrupt = self._corruption(corruption, corruption_level, self._draws)
        known = ["reconstruction", *reported(settings)]
        names = [name if name in known else None for name in Terms._fields]
        self._record(names, [self._draws])

    def _rounded(self, rows):
        """Return a copy of dense rows as training sees them."""
        batches = self.batches
        return as_tensor(rows).to(batches.dtype, copy=True).to(batches.device)

    def epoch(self):
        """Make a step on each batch of one epoch; see `TrainingRun.epoch`."""
        if self._draws is not self.generator:
            # So that the state of the one between epochs is that of both, and the
            # order of the rows is that of the CPU where nothing is drawn in steps.
            ahead = make_generator(0).set_state(self.generator.get_state())
            seed = torch.randint(2**62, (), generator=ahead, device="cpu")
            self._draws.manual_seed(seed.item())
        return super().epoch()

    def _step(self):
        """Make a step of W and of the bias of the centred data, b + μ W.

        Otherwise each step of W would move all pre-activations by the mean μ, which may
        be far larger than the deviations from it.
        """
        self._d_weight.addr_(self._mean, self._d_bias, alpha=-1)
        before = torch.mv(self._weight.T, self._mean)
        self.optimizer.step()
        self._bias.add_(before).sub_(torch.mv(self._weight.T, self._mean))

    @isolated
    def mean_objective(self, X):
        """Return the mean objective over the rows of X, as a float.

        X is what this process has of them. Rows are corrupted as in training, or what
        is lowest would be the objective of another model, which needn't denoise.
        Whatever is random is the same each time. Raises FloatingPointError if it is
        infinite or NaN.
        """
        rows = as_rows(X)
        flat = self.gradient.flat
        parameters = self.architecture.view(flat)
        generator = make_generator(0, flat.device)
        total = torch.zeros((), dtype=flat.dtype, device=flat.device)
        n_rows = block_rows(entries_per_row(self.architecture))
        with threads_for(self.gradient.work):
            for _, x in rows.tensors(n_rows, flat.dtype, flat.device):
                terms = objective(
                    self.architecture,
                    parameters,
                    self._corrupt(x, torch.empty_like(x), generator),
                    x,
                    generator=generator,
                    **self.settings,
                )
                total += self.gradient.total(terms).sum()
        own = total.item(), len(rows), self.gradient.weight_decay().item()
        totals, sizes, decays = zip(*self.group.gather(own), strict=True)
        mean = sum(totals) / sum(sizes) + decays[0]
        if not math.isfinite(mean):
            raise FloatingPointError(f"the objective on held-out samples is {mean}")
        return mean

    @isolated
    def explained(self, arrays, X):
        """Return the part of the variation of the data that the model explains.

        It is 1 where the mean loss of 100 to 1000 rows of this process is that of a
        perfect reconstruction, 0 where it is that of the best constant one, and None
        where these are the same, but for rounding. With it comes the part of the
        activations that are saturated: where a bounded activation has less than a
        twenty-fifth of the derivative that it has at 0.

        Parameters
        ----------
        arrays : Parameters of ndarray
            The model.
        X : ndarray, CSR array or Rows of shape (n_samples, n_features)
            The rows that it was trained on.
        """
        loss, output = LOSSES[self.loss], self.architecture.output_activation
        n_rows = min(1000, max(100, block_rows(self.architecture.sizes[0])))
        rows = self._rounded(as_rows(X).evenly_spaced(n_rows)).to(self.gradient.flat)
        parameters = self.architecture.view(self.snapshot(arrays))
        encoding = encode(self.architecture, parameters, rows)
        activations = encoding[1]
        saturated = _saturated(self.architecture, encoding)
        z = decode(self.architecture, parameters, activations[-1])
        # Squares of small numbers would leave the range of float32.
        rows, z = rows.cpu().double(), z.cpu().double()
        perfect, constant = loss.bounds(rows)
        spread = constant - perfect
        rounding = variance_of_rounding(rows, torch.finfo(rows.dtype).eps)
        if not spread > max(_NO_SPREAD * perfect, rounding):
            return None, saturated
        reached = loss.per_sample(z, rows, ACTIVATIONS[output]).mean()
        return ((constant - reached) / spread).item(), saturated

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
            "units": list(self.optimizer.units),
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
        self.optimizer.units = state["units"]
        for name, memory in self.optimizer.memory.items():
            memory.copy_(torch.tensor(state["optimizer"][name], device="cpu"))
