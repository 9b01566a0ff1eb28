"""The training loop, one epoch at a time, and the training of an autoencoder."""

import math
from typing import NamedTuple

import numpy as np
import torch

from .activations import ACTIVATIONS, BOUNDED
from .batches import ShuffledBatches
from .corruption import ISOTROPIC, KEEP_ZEROS, make_corruption
from .device import PRECISIONS, isolated, make_generator, threads_for
from .distributed import ALONE
from .losses import LOSSES
from .network import Parameters, encode, initialise
from .objective import Terms, make_gradient, objective
from .optimizer import OPTIMIZERS, dtype_of_steps
from .penalties import PENALTIES, contraction, entries_per_row, reported, weighted
from .reconstruction import is_expandable, loss_per_sample, needs_no_reconstruction
from .replay import replayed
from .rows import (
    Rows,
    as_rows,
    as_tensor,
    block_rows,
    cast,
    spread_by_weight,
    variance_of_rounding,
)
from .space import WHOLE, choose_space
from .sparse import mean_row, product, squared_norms, total_variance

# If the losses of the best constant and of a perfect reconstruction differ by no more
# than this fraction, the data don't vary.
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
    """Raise FloatingPointError if the weight of a term is too large for the dtype."""
    for name, weight in weights.items():
        if weight > torch.finfo(dtype).max / 4:
            raise FloatingPointError(f"{name}={weight} is too large for {dtype}")


class TrainingRun:
    """Parameters, gradient, optimiser and batches of a training in progress.

    A subclass sets the attributes ``architecture``, ``batches``, ``gradient``,
    ``optimizer``, ``learning_rate`` (the initial one) and ``_corrupt``, and calls
    `_record`.

    Attributes
    ----------
    group : OneProcess or ManyProcesses
        The processes that train together, each with batches of its own.
    constant : float
        The mean over all rows of the part of the first term that the gradient leaves
        out; see `FlatGradient`.
    space : Whole, RowSpace or Columns
        The space in which the model is trained, to which the parameters of ``gradient``
        belong. ``architecture``, and the parameters that `arrays` returns, belong to
        the space of all features.
    """

    group = ALONE
    constant = 0.0
    space = WHOLE

    def _record(self, names, generators):
        """Prepare the function that evaluates a batch.

        Parameters
        ----------
        names : sequence of str or None
            Names of the gradient's terms, None for terms that aren't reported.
        generators : sequence of torch.Generator
            The generators from which a step draws.
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
        # Machines round differently. Copying rank 0's values keeps the replicas
        # identical, and so are all decisions that depend on the report.
        group.copy_(gradient.flat, totals)
        # An epoch reads values back from the device only here.
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
        """Exchange the states of the generators, which `state` needs, in each epoch."""

    def scale_learning_rate(self, factor):
        """Set the learning rate to ``factor`` times the initial one."""
        self.optimizer.learning_rate = factor * self.learning_rate

    @property
    def current_learning_rate(self):
        return self.optimizer.learning_rate

    def _corruption(self, name, level, generator):
        """Return the function that corrupts batches; see `make_corruption`."""
        shape = self.batches.batch_size, self.gradient.architecture.sizes[0]
        return make_corruption(
            name,
            level,
            None if self.batches.stays_sparse else shape,
            dtype=self.gradient.dtype,
            device=self.gradient.flat.device,
            generator=generator,
        )

    def _parameters(self, arrays, like):
        """Return the parameters as tensors of ``like``'s dtype, on its device."""
        return Parameters(*([as_tensor(a).to(like) for a in group] for group in arrays))

    @isolated
    def snapshot(self, arrays=None):
        """Return a copy of the parameters, or of ``arrays``, as a flat vector."""
        flat = self.gradient.flat
        if arrays is None:
            return flat.clone()
        parameters = self.space.project(self._parameters(arrays, flat))
        return self.gradient.architecture.flatten(parameters)

    @isolated
    def arrays(self, snapshot=None):
        """Return the parameters (or a snapshot of them) as `Parameters` of ndarray.

        The arrays own their memory, including those of tied decoder weights.
        """
        flat = self.gradient.flat if snapshot is None else snapshot
        parameters = self.gradient.architecture.view(flat)
        if not self.space.is_whole:
            lifted = self.space.lift(parameters)
            parameters = self.architecture.view(self.architecture.flatten(lifted))
        return Parameters(
            *(
                [block.cpu().numpy().copy(order="C") for block in group]
                for group in parameters
            )
        )


def _saturated(architecture, encoding):
    """Return the saturated fraction of the code, 0 for unbounded activations."""
    activation = ACTIVATIONS[architecture.activation]
    if architecture.activation not in BOUNDED:
        return 0.0
    zero = encoding[0][-1].new_zeros(1)
    largest = activation.derivative(zero, activation.value(zero))
    d = activation.derivative(encoding[0][-1], encoding[1][-1])
    return (d < largest / 25).double().mean().item()


def _weights_that_differ(weights, n_samples, group):
    """Return the weights of this process's rows; None if all processes' are equal."""
    if not any(group.gather(weights is not None)):
        return None
    weights = np.ones(n_samples) if weights is None else weights
    lows, highs = zip(*group.gather((weights.min(), weights.max())), strict=True)
    return None if min(lows) == max(highs) else weights


def _scatter(rows, centre):
    """Return Σ_n ‖x_n − centre‖² over all rows, a float."""
    total = 0.0
    for _, block in rows.tensors(rows.at_once(), centre.dtype, centre.device):
        if rows.stays_sparse:
            wide = centre.double()
            cross = product(block, wide[:, None]).sum()
            distances = squared_norms(block).sum() - 2 * cross
            distances += len(block) * torch.dot(wide, wide)
        else:
            distances = torch.linalg.vector_norm(block - centre).double().square()
        total += distances.item()
    return total


# If the Trainer chooses lam, the initial penalty is this fraction of the variance that
# the initial parameters explain.
_SHARE_OF_PENALTY = 0.01


def _balanced_lam(architecture, flat, rows, loss, explained):
    """Return the lam that makes the initial penalty a fixed part of what is explained.

    ``explained`` is the variance that the initial parameters explain. For another loss
    than the squared error, the explained fraction is taken to be the same.
    """
    variance = total_variance(rows)
    perfect, constant = LOSSES[loss].bounds(rows)
    rows = rows[: block_rows(entries_per_row(architecture))]
    penalty = contraction(architecture, architecture.view(flat), rows).mean()
    lam = _SHARE_OF_PENALTY * explained / variance * (constant - perfect) / penalty
    # The result is 0 for data that don't vary, or whose squares underflow.
    return lam.nan_to_num(0, 0, 0).clamp(min=0).item()


# Factors of the units of steps, chosen by the objectives that fits of six data sets
# reached. The first two are for untied weights, the third is for biases of
# pre-activations. The last is for the output's bias, in standard deviations of a
# feature.
_ENCODER_UNIT = 0.5
_DECODER_UNIT = 2.0
_BIAS_UNIT = 3.5
_OUTPUT_BIAS_UNIT = 0.5


def _units(architecture, flat, variance, n_features):
    """Return the unit of each block of the parameters, to which its steps are relative.

    The unit of weights is the root mean square of their entries at the start of
    training. In a smaller space, units are chosen such that steps are as large as they
    would be in the space of all ``n_features`` features.
    """
    blocks = flat.split([torch.Size(shape).numel() for shape in architecture.shapes()])
    shapes = architecture.weight_shapes()
    units = []
    for weight, shape in zip(blocks, shapes, strict=False):
        size = torch.linalg.vector_norm(weight).item() / weight.numel() ** 0.5
        # When a fit continues, weights may be all zeros, which need another unit.
        units.append(size or (2 / sum(shape)) ** 0.5)
    if not architecture.tied:
        factors = architecture.depth * [_ENCODER_UNIT] + architecture.depth * [
            _DECODER_UNIT
        ]
        units = [unit * factor for unit, factor in zip(units, factors, strict=True)]
    # The norm of Muon's steps grows with the smaller side of a weight's shape.
    size, n_hidden, *_ = architecture.sizes
    factor = (min(n_hidden, size) / min(n_hidden, n_features)) ** 0.5
    units[0] *= factor
    if not architecture.tied:
        units[-1] *= factor
    units += [_BIAS_UNIT] * (len(blocks) - len(shapes))
    if architecture.output_activation == "identity":
        units[-1] = _OUTPUT_BIAS_UNIT * (variance / architecture.sizes[0]) ** 0.5
    return units


class HeldOut(NamedTuple):
    """Held-out rows in the space of a training, and their mean ‖x⊥‖² outside of it."""

    rows: Rows
    outside: np.ndarray  # of shape (n_samples,), or 0
    weights: np.ndarray


class Trainer(TrainingRun):
    """Parameters, gradient, optimiser and batches of an autoencoder's training.

    Parameters
    ----------
    architecture : Architecture
    X : ndarray, CSR array or Rows of shape (n_samples, n_features)
        The rows of this process.
    arrays : Parameters of ndarray, default=None
        The parameters to start from. None means those that `initialise` draws.
    loss : str
    learning_rate : float
    batch_size : int
        Number of rows in a step, of all processes together.
    precision : str
        A key of ``PRECISIONS``: the number format of the computations. The parameters
        are float64 for "float64" and float32 otherwise.
    device : torch.device
    seed : int
        Seed of all random numbers. All ranks use rank 0's seed, plus their rank.
    optimizer : str, default="muon"
        A key of ``OPTIMIZERS``.
    corruption : str, default=None
        A key of ``CORRUPTIONS``: the corruption of the input during training.
    corruption_level : float, default=0.0
    alpha, n_projections, **settings
        As in `FlatGradient` and `objective`. Where ``arrays`` is None, ``lam`` may be:
        then the penalty is a hundredth of the variance that the start explains.
    weights : ndarray of shape (n_samples,), default=None
        Of the rows of this process, > 0, in all means. Only their ratios matter, to
        those of other processes too. None is 1 for each.
    group : OneProcess or ManyProcesses, default=ALONE
        The processes that train together. All ranks must make the same calls to their
        trainers.
    only_these_rows : bool, default=False
        Whether the model is trained only on these rows, in this training and in earlier
        ones. Training may then be done in a smaller `space`.

    Attributes
    ----------
    variance, mean_square : float
        Variance and mean square of the rows of all processes, summed over features,
        estimated from about 1000 rows.
    balanced_lam : float or None
        The number that is used for ``lam=None``. None if ``arrays`` is given.

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
        weights=None,
        group=ALONE,
        only_these_rows=False,
        **settings,
    ):
        self.architecture = architecture
        self.loss = loss
        self.learning_rate = learning_rate
        self.group = group
        self.balanced_lam = None
        self.generator = make_generator(group.gather(seed)[0] + group.rank)
        # The generator from which steps draw; on a GPU, each epoch seeds it.
        self._draws = self.generator
        if device.type == "cuda":
            self._draws = make_generator(0, device)
        dtype = PRECISIONS[precision]
        wide = torch.promote_types(dtype, torch.float32)
        rows = self._in_best_form(as_rows(X), device, dtype, corruption, settings)
        if only_these_rows:
            self.space = self._space_of(rows, wide, device, corruption)
            rows = self.space.rows(rows)
            architecture = self.space.architecture(architecture)
        of_terms = {p.weight: settings.get(p.weight) or 0 for p in PENALTIES.values()}
        check_weights(wide, alpha=alpha, **of_terms)
        self.weights = _weights_that_differ(weights, len(rows), group)
        n_samples = sum(group.gather(len(rows)))
        share = len(rows) / n_samples
        weights = self.weights
        if weights is not None:
            share = weights.sum() / sum(group.gather(float(weights.sum())))
            # Their mean over the rows of all processes is 1.
            weights = cast(weights * (share * n_samples / weights.sum()), wide)
        self.batches = ShuffledBatches(
            rows,
            weights=weights,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            generator=self.generator,
            n_batches=group.n_batches(len(rows), batch_size),
        )
        # Rounding decides on directions in which the data don't vary, and so does the
        # number of threads; the start isn't to depend on that.
        with threads_for(0):
            some = self._rounded(self._spaced(rows, math.ceil(1000 * share)))
            some = group.pool(some.to(wide))
            self.variance = total_variance(some).item()
            self.mean_square = squared_norms(some).mean().item()
            if arrays is None:
                # Enough rows to estimate as many directions as there are units.
                n_rows = max(1000, 4 * max(architecture.sizes[1:]))
                n_rows = math.ceil(n_rows * share)
                if weights is None:
                    sample = rows.sample(n_rows, self.generator)
                else:
                    sample = self._spaced(rows, n_rows)
                sample = self._rounded(sample)
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
                like = torch.empty((), dtype=wide, device=device)
                parameters = self.space.project(self._parameters(arrays, like))
                flat = architecture.flatten(parameters)
        group.copy_(flat)
        # Machines round differently; rank 0's values are used.
        gain, settings["lam"] = group.gather((architecture.gain, settings["lam"]))[0]
        architecture = architecture._replace(gain=gain)
        self.architecture = self.architecture._replace(gain=gain)
        check_weights(wide, lam=settings["lam"])
        self.settings = {"loss": loss, "n_projections": n_projections, **settings}
        centre = mean_row(some)
        group.copy_(centre)
        corrupts = corruption is not None
        size = self.batches.batch_size
        # All processes have to leave the same out of the loss.
        is_relative = weights is None and needs_no_reconstruction(
            architecture, loss, dtype, size, corrupts, rows.stays_sparse
        )
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
            takes_weights=weights is not None,
            **self.settings,
        )
        if self.gradient.is_relative:
            self.constant = sum(group.gather(_scatter(rows, centre))) / n_samples
        n_features = self.architecture.sizes[0]
        units = _units(architecture, flat, self.variance, n_features)
        self.optimizer = OPTIMIZERS[optimizer](
            architecture,
            flat,
            self.gradient.gradient,
            learning_rate,
            dtype_of_steps(dtype, device, group),
            group.gather(units)[0],
        )
        self._mean = centre
        (weight, *_), (self._bias, *_), *_ = architecture.view(flat)
        self._weight_t = weight.T
        views = architecture.view(self.gradient.gradient)
        (self._d_weight, *_), (self._d_bias, *_), *_ = views
        self._corrupt = self._corruption(corruption, corruption_level, self._draws)
        known = ["reconstruction", *reported(settings)]
        names = [name if name in known else None for name in Terms._fields]
        self._record(names, [self._draws])

    def _in_best_form(self, rows, device, dtype, corruption, settings):
        """Return the rows, which stay sparse if all of the training supports that."""
        output = self.architecture.output_activation
        noisy = any(PENALTIES[name].adds_noise for name in weighted(settings))
        if (
            noisy
            or corruption not in KEEP_ZEROS
            or not is_expandable(self.loss, output)
        ):
            return rows
        kept = rows.kept_sparse(device, dtype)
        # All processes have to compute in the same way.
        return kept if all(self.group.gather(kept.stays_sparse)) else rows

    def _space_of(self, rows, dtype, device, corruption):
        """Return the space to train in."""
        output = self.architecture.output_activation
        isotropic = rows.stays_sparse or corruption in ISOTROPIC
        if self.group.size > 1 or not (is_expandable(self.loss, output) and isotropic):
            return WHOLE
        with threads_for(0):
            return choose_space(rows, self.architecture.sizes[1], dtype, device)

    def _as_in_training(self, rows):
        """Return other rows, which stay sparse if the training's batches are sparse."""
        batches = self.batches
        if not batches.stays_sparse:
            return rows
        return rows.kept_sparse(batches.device, batches.dtype)

    def _spaced(self, rows, n_samples):
        """Return about so many rows, evenly spaced: those that weigh more, more often.

        ``rows`` are those that are trained on, in one form or another.
        """
        if self.weights is None:
            return rows.evenly_spaced(n_samples)
        n_samples = min(n_samples, rows.n_together())
        return rows[spread_by_weight(self.weights, n_samples)]

    def _rounded(self, rows):
        """Return a copy of rows in the precision and on the device of the training."""
        batches = self.batches
        return as_tensor(rows).to(batches.dtype, copy=True).to(batches.device)

    def epoch(self):
        """Make a step on each batch of one epoch; see `TrainingRun.epoch`."""
        if self._draws is not self.generator:
            # The seed comes from the state of the CPU's generator, but doesn't advance
            # it. That state then determines both generators, and the order of the rows
            # is the same as in a training on the CPU whose steps draw nothing.
            ahead = make_generator(0).set_state(self.generator.get_state())
            seed = torch.randint(2**62, (), generator=ahead, device="cpu")
            self._draws.manual_seed(seed.item())
        return super().epoch()

    def _step(self):
        """Make a step of W and of the bias of the centred data, b + μ W.

        Otherwise each step ΔW would move all pre-activations by μ ΔW, where the mean μ
        may be far larger than the deviations from it.
        """
        self._d_weight.addr_(self._mean, self._d_bias, alpha=-1)
        before = torch.mv(self._weight_t, self._mean)
        self.optimizer.step()
        # The difference comes first: without a step it is exactly zero.
        self._bias.add_(before.sub_(torch.mv(self._weight_t, self._mean)))

    @isolated
    def held_out(self, X, weights=None):
        """Return rows in the form that `mean_objective` needs them in.

        They have weights, of shape (n_samples,); None is 1 for each.
        """
        rows = self._as_in_training(as_rows(X))
        weights = np.ones(len(rows)) if weights is None else weights
        with threads_for(self.gradient.work):
            return HeldOut(*self.space.held_out(rows), weights)

    @isolated
    def mean_objective(self, X):
        """Return the (weighted) mean objective over the rows of X, as a float.

        X are the rows of this process, or the result of `held_out` for these. Rows are
        corrupted as in training, since the objective is that of a denoising model. All
        random numbers are the same in each call. Raises FloatingPointError if the
        result is infinite or NaN.
        """
        held_out = X if isinstance(X, HeldOut) else self.held_out(X)
        rows = held_out.rows
        flat = self.gradient.flat
        architecture = self.gradient.architecture
        parameters = architecture.view(flat)
        generator = make_generator(0, flat.device)
        total = torch.zeros((), dtype=flat.dtype, device=flat.device)
        n_rows = rows.at_once(entries_per_row(architecture))
        with threads_for(self.gradient.work):
            for part, x in rows.tensors(n_rows, flat.dtype, flat.device):
                terms = objective(
                    architecture,
                    parameters,
                    self._corrupt(x, generator),
                    x,
                    generator=generator,
                    **self.settings,
                )
                weights = torch.from_numpy(cast(held_out.weights[part], flat.dtype))
                values = self.gradient.total(terms)
                total += torch.dot(values, weights.to(flat.device))
        weights = held_out.weights
        outside = float((weights * held_out.outside).sum())
        own = total.item() + outside, float(weights.sum())
        totals, sizes = zip(*self.group.gather(own), strict=True)
        decays = self.group.gather(self.gradient.weight_decay().item())
        mean = sum(totals) / sum(sizes) + decays[0]
        if not math.isfinite(mean):
            raise FloatingPointError(f"the objective on held-out samples is {mean}")
        return mean

    @isolated
    def explained(self, arrays, X):
        """Return the fraction of the variation of the data that the model explains.

        It is 1 if the mean loss of 100 to 1000 rows of this process is that of a
        perfect reconstruction, 0 if it is that of the best constant reconstruction, and
        None if these two losses are the same up to rounding.

        The second result is the fraction of the code's activations that are saturated.
        A bounded activation is saturated if its derivative is less than a twenty-fifth
        of that at 0.

        Parameters
        ----------
        arrays : Parameters of ndarray
            The model.
        X : ndarray, CSR array or Rows of shape (n_samples, n_features)
            The rows that the model was trained on.
        """
        rows = self._as_in_training(as_rows(X))
        n_rows = min(1000, max(100, rows.at_once()))
        rows = self._rounded(self._spaced(rows, n_rows)).to(self.gradient.flat.dtype)
        parameters = self._parameters(arrays, self.gradient.flat)
        encoding = encode(self.architecture, parameters, rows)
        saturated = _saturated(self.architecture, encoding)
        # Squares of small numbers would underflow in float32.
        rows, h, parameters = (
            rows.cpu().to(torch.float64),
            encoding[1][-1].cpu().double(),
            Parameters(*([p.cpu().double() for p in group] for group in parameters)),
        )
        perfect, constant = LOSSES[self.loss].bounds(rows)
        spread = constant - perfect
        rounding = variance_of_rounding(rows, torch.finfo(rows.dtype).eps)
        if not spread > max(_NO_SPREAD * perfect, rounding):
            return None, saturated
        reached = loss_per_sample(self.architecture, parameters, h, rows, self.loss)
        return ((constant - reached.mean()) / spread).item(), saturated

    @isolated
    def share_generators(self):
        """Exchange the states of all ranks' generators.

        `state` needs all of them, but may be called on one rank only.
        """
        states = self.group.gather(self.generator.get_state())
        self._generators = torch.stack(states).numpy()

    @isolated
    def state(self):
        """Return the state that `restore` needs to continue exactly.

        It holds NumPy arrays and numbers. It doesn't include the parameters; see
        `arrays`. It is the same on all ranks if they called `share_generators` after
        the last epoch.
        """
        if self.group.size == 1:
            self.share_generators()
        memory = self.optimizer.memory
        return {
            "space": type(self.space).__name__,
            "generator": self._generators,
            "units": list(self.optimizer.units),
            "optimizer": {k: v.cpu().numpy().copy() for k, v in memory.items()},
        }

    def can_restore(self, state):
        """Return whether the trainer whose `state` this is trained in the same space.

        On another device it may be another one.
        """
        memory, before = self.optimizer.memory, state["optimizer"]
        same = all(before[name].shape == memory[name].shape for name in memory)
        return same and state["space"] == type(self.space).__name__

    @isolated
    def restore(self, state):
        """Continue the training of the trainer that returned ``state``.

        With the same number of ranks, the ranks continue to draw the same random
        numbers. With another number of ranks, they draw other numbers.
        """
        if len(state["generator"]) == self.group.size:
            own = state["generator"][self.group.rank]
            self.generator.set_state(torch.tensor(own, device="cpu"))
        self.optimizer.units = state["units"]
        for name, memory in self.optimizer.memory.items():
            memory.copy_(torch.tensor(state["optimizer"][name], device="cpu"))

    @isolated
    def resume_at(self, last, kept):
        """Set the parameters to the snapshot ``last``; return the snapshot ``kept``.

        Both are given as arrays.
        """
        flat = self.gradient.flat
        flat.copy_(torch.tensor(last, device="cpu"))
        return torch.tensor(kept, device="cpu").to(flat)
