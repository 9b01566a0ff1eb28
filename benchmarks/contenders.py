"""The contenders: ways to train the model, or to do something of its size.

``CONTENDERS`` is the only list of them. A contender imports its library when it is
made, so that each process holds only what its contender needs.
"""

import os
import warnings
from contextlib import contextmanager, suppress

import numpy as np
from problem import LEARNING_RATE, glorot


class Unavailable(Exception):
    """The contender can't run here; says why."""


class Contender:
    """What the runner asks of a contender.

    Attributes
    ----------
    note : str
        What a reader of the table must know.
    penalised : bool
        Whether the contraction penalty is part of what it minimises.
    labelled : bool
        Whether it trains a classifier of labelled rows in place of an autoencoder.
    ties : bool
        Whether it can train tied weights, as it does where ``tied`` is set to True.
    takes_sparse : bool
        Whether its rows may be a CSR array.
    """

    note = ""
    penalised = True
    labelled = False
    cpu_only = False
    ties = False
    tied = False
    takes_sparse = False

    def __init__(self, device, seed):
        """Import the library; raise `Unavailable` where it can't use the device."""
        if self.cpu_only and device != "cpu":
            raise Unavailable("runs on the CPU only")
        self.device = device
        self.seed = seed
        self.load()

    def load(self):
        """Import what the contender needs."""

    def setup(self, X, n_hidden, batch_size, lam):
        """Build everything that is built once; X is float32 in [0, 1].

        Where ``labelled`` is true, the last argument is the labels y, from 0 to 9.
        """
        raise NotImplementedError

    def train(self, n_epochs):
        """Train and wait until it is done; return how many epochs' work that was."""
        raise NotImplementedError

    def transform(self, X):
        """Return the hidden representation as an array; None if it has no such.

        Of a classifier, the probabilities of the classes.
        """

    def weights(self):
        """Return W, b, V, c as arrays, (fan_in, fan_out); None if it has none."""


# The library


class Skcae(Contender):
    """The library's engine, doing what `fit` does between two epochs."""

    note = "epochs of fit with solver='adam', without start-up"
    precision = "float32"
    optimizer = "adam"
    ties = takes_sparse = True

    def load(self):
        import skcae.engine.training  # noqa: F401

    def setup(self, X, n_hidden, batch_size, lam):
        from skcae.engine.device import has_fast_bfloat16, resolve_device
        from skcae.engine.network import Architecture, Parameters
        from skcae.engine.training import Trainer

        device = resolve_device(self.device)
        if self.precision == "bfloat16" and not has_fast_bfloat16(device):
            raise Unavailable("bfloat16 is emulated on this device")
        start = glorot(X.shape[1], n_hidden, self.seed)
        if self.tied:
            start[2][:] = start[0].T
        self.trainer = Trainer(
            Architecture((X.shape[1], n_hidden), tied=self.tied),
            X,
            Parameters(*([block] for block in start)),
            loss="squared_error",
            lam=lam if self.penalised else 0,
            learning_rate=LEARNING_RATE,
            batch_size=batch_size,
            precision=self.precision,
            device=device,
            seed=self.seed,
            optimizer=self.optimizer,
        )
        # Steps as long as those of the others, not relative to the weights.
        if self.optimizer == "adam":
            self.trainer.optimizer.units = [1.0] * len(self.trainer.optimizer.units)
        self.estimator = None

    def train(self, n_epochs):
        for _ in range(n_epochs):
            self.trainer.epoch()
            self.kept = self.trainer.snapshot()
        return n_epochs

    def transform(self, X):
        if self.estimator is None:  # Not timed: the runner's first call is a warm-up.
            n_hidden = self.trainer.architecture.sizes[1]
            self.estimator = make_estimator(
                n_hidden, self.device, self.seed, max_iter=1
            )
            fit_quietly(self.estimator, X[:1000])
        return self.estimator.transform(X)

    def weights(self):
        return [group[0] for group in self.trainer.arrays()]


class SkcaeNoPenalty(Skcae):
    """The same with lam=0: what the penalty costs."""

    note = "lam=0"
    penalised = False


class SkcaeMuon(Skcae):
    """The same with the default optimiser, whose steps cost more and achieve more."""

    note = "solver='muon', the default"
    optimizer = "muon"


class SkcaeBfloat16(Skcae):
    """The same in mixed precision."""

    note = "bfloat16"
    precision = "bfloat16"


class SkcaeMuonBfloat16(SkcaeBfloat16):
    """Both: the products of the optimiser in bfloat16 too, if they are large."""

    note = "solver='muon', bfloat16"
    optimizer = "muon"


def make_estimator(n_hidden, device, seed, **parameters):
    """Return the library's estimator, untied as the other contenders are."""
    from skcae import ContractiveAutoencoderTransformer

    return ContractiveAutoencoderTransformer(
        n_hidden, tied_weights=False, device=device, random_state=seed, **parameters
    )


def fit_quietly(estimator, X, y=None):
    """Fit without the warning that max_iter came before convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(X, y)


class SkcaeFit(Contender):
    """Whole calls of `fit`, which go on where the last one stopped."""

    note = "whole fits with warm_start, own start"

    def load(self):
        import skcae  # noqa: F401

    def setup(self, X, n_hidden, batch_size, lam):
        self.X = X
        self.estimator = make_estimator(
            n_hidden,
            self.device,
            self.seed,
            lam=lam,
            solver="adam",
            learning_rate_init=LEARNING_RATE,
            batch_size=batch_size,
            tol=0,
            n_iter_no_change=10**6,
            warm_start=True,
        )

    def train(self, n_epochs):
        self.estimator.set_params(max_iter=n_epochs)
        fit_quietly(self.estimator, self.X)
        return n_epochs

    def transform(self, X):
        return self.estimator.transform(X)

    def weights(self):
        return estimator_weights(self.estimator)


def estimator_weights(estimator):
    """Return W, b, V, c of a fitted estimator of the library."""
    return [
        estimator.encoder_coefs_[0],
        estimator.encoder_intercepts_[0],
        estimator.decoder_coefs_[0],
        estimator.decoder_intercepts_[0],
    ]


# PyTorch


def torch_autoencoder(X, n_hidden, lam, seed, device, tied=False):
    """Return the model as it is usually written: two linear layers and autograd."""
    import torch

    class Autoencoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Linear(X.shape[1], n_hidden)
            self.decoder = torch.nn.Linear(n_hidden, X.shape[1])

        def encode(self, x):
            return torch.sigmoid(self.encoder(x))

        def forward(self, x):
            h = self.encode(x)
            if tied:
                weight = self.encoder.weight.T
                return h, torch.nn.functional.linear(h, weight, self.decoder.bias)
            return h, self.decoder(h)

        def loss(self, output, x):
            h, reconstruction = output
            error = (reconstruction - x).square().sum(dim=1)
            column_norms = self.encoder.weight.square().sum(dim=1)
            penalty = (h * (1 - h)).square() @ column_norms
            return (error + lam * penalty).mean()

        def arrays(self):
            W, b, V, c = (p.detach().cpu().numpy().T for p in self.parameters())
            return [W, b, W.T if tied else V, c]

    model = Autoencoder()
    start = glorot(X.shape[1], n_hidden, seed)
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), start, strict=True):
            parameter.copy_(torch.from_numpy(array.T))
    model.decoder.weight.requires_grad_(not tied)
    return model.to(device)


class PyTorch(Contender):
    """The textbook loop: DataLoader, autograd, torch.optim.Adam."""

    note = "DataLoader, autograd, optim.Adam"
    adam_options = {}
    ties = True

    def load(self):
        import torch

        self.torch = torch
        torch.manual_seed(self.seed)

    def setup(self, X, n_hidden, batch_size, lam):
        model = torch_autoencoder(X, n_hidden, lam, self.seed, self.device, self.tied)
        self.prepare(model, batch_size, X)

    def prepare(self, model, batch_size, *arrays):
        """Make the optimiser, and batches of rows of all arrays."""
        self.batch_size = batch_size
        self.model = model
        self.optimizer = self.torch.optim.Adam(
            self.model.parameters(), lr=LEARNING_RATE, **self.adam_options
        )
        self.tensors = [self.torch.from_numpy(array) for array in arrays]
        self.loader = self.make_loader()

    def make_loader(self):
        data = self.torch.utils.data
        return data.DataLoader(
            data.TensorDataset(*self.tensors),
            batch_size=self.batch_size,
            shuffle=True,
            pin_memory=self.device != "cpu",
        )

    def batches(self):
        for batch in self.loader:
            yield [rows.to(self.device, non_blocking=True) for rows in batch]

    def loss(self, x):
        return self.model.loss(self.model(x), x)

    def step(self, *batch):
        self.optimizer.zero_grad()
        self.loss(*batch).backward()
        self.optimizer.step()

    def train(self, n_epochs):
        for _ in range(n_epochs):
            for batch in self.batches():
                self.step(*batch)
        synchronize(self.device)
        return n_epochs

    def transform(self, X):
        if hasattr(X, "toarray"):
            return None
        with self.torch.inference_mode():
            x = self.torch.from_numpy(X).to(self.device)
            return self.model.encode(x).cpu().numpy()

    def weights(self):
        return self.model.arrays()


def synchronize(device):
    """Wait until the device has done all its work."""
    import torch

    if device != "cpu":
        torch.get_device_module(device).synchronize()


class PyTorchTuned(PyTorch):
    """The same without DataLoader, the data on the device, and a fused Adam."""

    note = "rows by randperm, fused Adam"
    adam_options = {"fused": True}
    takes_sparse = True

    def prepare(self, model, batch_size, *arrays):
        self.sparse = None
        if hasattr(arrays[0], "toarray"):
            self.sparse, *arrays = arrays
            self.note = "rows made dense batch by batch, fused Adam"
        super().prepare(model, batch_size, *arrays)

    def make_loader(self):
        self.tensors = [tensor.to(self.device) for tensor in self.tensors]

    def batches(self):
        rows = self.tensors[0] if self.sparse is None else self.sparse
        order = self.torch.randperm(rows.shape[0], device=self.device)
        for index in order.split(self.batch_size):
            if self.sparse is None:
                yield [tensor[index] for tensor in self.tensors]
            else:
                batch = self.sparse[index.cpu().numpy()].toarray()
                yield [self.torch.from_numpy(batch).to(self.device)]


class MaterialisedJacobian(PyTorchTuned):
    """The penalty from whole Jacobians; a step or two, extrapolated by rows."""

    note = "extrapolated from a few rows"
    ties = takes_sparse = False
    n_steps = 2
    max_entries = 2**26  # of the Jacobians of one batch

    def setup(self, X, n_hidden, batch_size, lam):
        rows = max(1, self.max_entries // (n_hidden * X.shape[1]))
        super().setup(X, n_hidden, min(rows, batch_size, len(X)), lam)
        self.lam = lam

    def loss(self, x):
        jacobian = self.torch.func.vmap(self.torch.func.jacrev(self.model.encode))
        _, reconstruction = self.model(x)
        error = (reconstruction - x).square().sum()
        return (error + self.lam * jacobian(x).square().sum()) / len(x)

    def train(self, n_epochs):
        for batch, _ in zip(self.batches(), range(self.n_steps), strict=False):
            self.step(*batch)
        synchronize(self.device)
        return min(1, self.n_steps * self.batch_size / len(self.tensors[0]))

    def transform(self, X):
        return None  # The same as above.

    def weights(self):
        return None  # After a few steps the objective means nothing.


class Skorch(Contender):
    """The same model in skorch, without callbacks and validation."""

    note = "no callbacks, no validation"

    def load(self):
        import skorch

        self.skorch = skorch

    def setup(self, X, n_hidden, batch_size, lam):
        import torch

        class Net(self.skorch.NeuralNet):
            def get_loss(self, y_pred, y_true, X=None, training=False):
                return self.module_.loss(y_pred, y_true)

        torch.manual_seed(self.seed)
        self.net = Net(
            torch_autoencoder(X, n_hidden, lam, self.seed, self.device),
            criterion=torch.nn.MSELoss,  # Required, but not used.
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            batch_size=batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks="disable",
            device=self.device,
            verbose=0,
        ).initialize()
        x = torch.from_numpy(X)
        self.data = torch.utils.data.TensorDataset(x, x)

    def train(self, n_epochs):
        self.net.fit_loop(self.data, epochs=n_epochs)
        synchronize(self.device)
        return n_epochs

    def weights(self):
        return self.net.module_.arrays()


# Keras


@contextmanager
def silent_imports():
    """Hide what TensorFlow's C++ code logs when it is imported."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


class Keras(Contender):
    """The well-known snippet's model, its gradient through W repaired."""

    note = "compile and fit with Keras's defaults"
    compile_options = {}
    min_batches_for_fit = 1
    ties = True

    def load(self):
        os.environ["KERAS_BACKEND"] = self.backend
        if self.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
            os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        with silent_imports():
            import keras

            # On JAX too Keras imports it later, if it is there.
            with suppress(ImportError):
                import tensorflow  # noqa: F401
        self.keras = keras
        if self.device != "cpu" and not (
            self.device.startswith("cuda") and self.sees_gpu()
        ):
            raise Unavailable(f"{self.backend} doesn't see the device")

    def setup(self, X, n_hidden, batch_size, lam):
        keras, ops, tied = self.keras, self.keras.ops, self.tied

        class Autoencoder(keras.Model):
            def __init__(self):
                super().__init__()
                self.encoder = keras.layers.Dense(n_hidden, activation="sigmoid")
                if tied:
                    self.bias = self.add_weight(
                        shape=(X.shape[1],), initializer="zeros"
                    )
                else:
                    self.decoder = keras.layers.Dense(X.shape[1])

            def call(self, x):
                h = self.encoder(x)
                if tied:
                    transpose = ops.transpose(self.encoder.kernel)
                    return h, ops.matmul(h, transpose) + self.bias
                return h, self.decoder(h)

            def compute_loss(self, x, y, y_pred, *args, **kwargs):
                h, reconstruction = y_pred
                error = ops.sum(ops.square(reconstruction - x), axis=1)
                column_norms = ops.sum(ops.square(self.encoder.kernel), axis=0)
                penalty = ops.matmul(ops.square(h * (1 - h)), column_norms)
                return ops.mean(error + lam * penalty)

        keras.utils.set_random_seed(self.seed)
        self.model = Autoencoder()
        self.model(X[:1])  # Creates the weights.
        W, b, V, c = glorot(X.shape[1], n_hidden, self.seed)
        self.model.encoder.set_weights([W, b])
        if not tied:
            self.model.decoder.set_weights([V, c])
        self.model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE), **self.compile_options
        )
        self.X, self.batch_size = X, batch_size
        self.rng = np.random.default_rng(self.seed)
        features = keras.Input((X.shape[1],))
        self.encoder = keras.Model(features, self.model.encoder(features))

    def train(self, n_epochs):
        if len(self.X) < self.min_batches_for_fit * self.batch_size:
            return self.train_on_batches(n_epochs)
        self.model.fit(
            self.X,
            batch_size=self.batch_size,
            epochs=n_epochs,
            shuffle=True,
            verbose=0,
        )
        return n_epochs

    def train_on_batches(self, n_epochs):
        for _ in range(n_epochs):
            order = self.rng.permutation(len(self.X))
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                self.model.train_on_batch(self.X[batch])
        return n_epochs

    def transform(self, X):
        return self.encoder.predict_on_batch(X)

    def weights(self):
        W, b = self.model.encoder.get_weights()
        if self.tied:
            return W, b, W.T, np.asarray(self.model.bias)
        return W, b, *self.model.decoder.get_weights()


class KerasJax(Keras):
    """Keras 3 on JAX."""

    backend = "jax"

    def sees_gpu(self):
        import jax

        return jax.default_backend() == "gpu"


class KerasTensorflow(Keras):
    """Keras 3 on TensorFlow, whose `fit` takes long to start: not for small data."""

    backend = "tensorflow"
    min_batches_for_fit = 50

    def sees_gpu(self):
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))


class _Tuned:
    """Many steps per call from Python and a compiled step.

    It is the fastest of what Keras offers without a loop of one's own, on both
    backends.
    """

    note = "jit_compile, steps_per_execution=16"
    compile_options = {"jit_compile": True, "steps_per_execution": 16}


class KerasJaxTuned(_Tuned, KerasJax):
    """The same with the options that make it fastest."""


class KerasTensorflowTuned(_Tuned, KerasTensorflow):
    """The same with the options that make it fastest."""


# scikit-learn


class Mlp(Contender):
    """MLPRegressor(X, X): an autoencoder without the penalty."""

    note = "no penalty, own start"
    penalised = False
    cpu_only = True

    def load(self):
        import sklearn.neural_network

        self.module = sklearn.neural_network

    def setup(self, X, n_hidden, batch_size, lam):
        self.X = X
        self.model = self.module.MLPRegressor(
            hidden_layer_sizes=n_hidden,
            activation="logistic",
            alpha=0,
            batch_size=min(batch_size, len(X)),
            learning_rate_init=LEARNING_RATE,
            tol=0,
            n_iter_no_change=10**6,
            warm_start=True,
            random_state=self.seed,
        )

    def train(self, n_epochs):
        # Both go on with the weights; a fit of several epochs validates X only once.
        if n_epochs == 1:
            self.model.partial_fit(self.X, self.X)
        else:
            self.model.set_params(max_iter=n_epochs)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.model.fit(self.X, self.X)
        return n_epochs

    def weights(self):
        (W, V), (b, c) = self.model.coefs_, self.model.intercepts_
        return W, b, V, c


class Rbm(Contender):
    """BernoulliRBM: another model of the same size; each round is a new fit."""

    note = "another model"
    penalised = False
    cpu_only = True

    def load(self):
        import sklearn.neural_network

        self.module = sklearn.neural_network

    def setup(self, X, n_hidden, batch_size, lam):
        self.X = X
        self.model = self.module.BernoulliRBM(
            n_hidden, batch_size=batch_size, random_state=self.seed
        )

    def train(self, n_epochs):
        self.model.set_params(n_iter=n_epochs).fit(self.X)
        return n_epochs

    def transform(self, X):
        return self.model.transform(X)


class Pca(Contender):
    """PCA, for scale: one whole fit stands where an epoch stands for the others."""

    note = "another model; a whole fit"
    penalised = False
    cpu_only = True

    def load(self):
        import sklearn.decomposition

        self.module = sklearn.decomposition

    def setup(self, X, n_hidden, batch_size, lam):
        self.X = X
        self.model = self.module.PCA(min(n_hidden, *X.shape), random_state=self.seed)

    def train(self, n_epochs):
        self.model.fit(self.X)
        return 1

    def transform(self, X):
        return self.model.transform(X)


# The floor


class Floor(Contender):
    """The five matrix products of a step, into buffers, on rows as they lie.

    x W, h V, r Vᵀ, xᵀ a and hᵀ r, of which no method that computes the gradient in
    these number formats can leave one out.
    """

    note = "five matrix products a step, nothing else, by PyTorch's mm"
    penalised = False
    ties = True

    def load(self):
        import torch

        self.torch = torch

    def setup(self, X, n_hidden, batch_size, lam):
        W, _, V, _ = glorot(X.shape[1], n_hidden, self.seed)
        self.prepare(X, W, V, batch_size)

    def prepare(self, X, W, V, batch_size):
        """List the products of an epoch."""
        torch, device = self.torch, self.device
        W, V = (torch.from_numpy(w).to(device) for w in (W, V))
        h = torch.rand(batch_size, W.shape[1], device=device)
        r = torch.rand(batch_size, V.shape[1], device=device)
        a, z, dW, dV = (torch.empty_like(t) for t in (h, r, W, V))
        self.W = W
        self.products = []  # (left, right, out) of a whole epoch
        for x in torch.from_numpy(X).to(device).split(batch_size):
            n = len(x)
            self.products += [
                (x, W, a[:n]),
                (h[:n], V, z[:n]),
                (r[:n], V.T, a[:n]),
                (x.T, h[:n], dW),
                (h[:n].T, r[:n], dV),
            ]

    def train(self, n_epochs):
        product = self.torch.mm
        for _ in range(n_epochs):
            for left, right, out in self.products:
                product(left, right, out=out)
        synchronize(self.device)
        return n_epochs

    def transform(self, X):
        x = self.torch.from_numpy(X).to(self.device)
        return self.torch.mm(x, self.W).cpu().numpy()


# Fine-tuning: one sigmoid layer, a softmax layer, cross-entropy. The softmax layer
# starts with zeros.

N_CLASSES = 10


class Classifier(Contender):
    """What all that train on labels have in common."""

    penalised = False
    labelled = True


class SkcaeClassifier(Classifier, Skcae):
    """The library's engine, doing what fine-tuning does between two epochs."""

    note = "epochs of fine-tuning with solver='adam', without start-up"
    n_tangents = 0

    def load(self):
        import skcae.engine.finetuning  # noqa: F401

    def setup(self, X, n_hidden, batch_size, y):
        from skcae.engine.device import resolve_device
        from skcae.engine.finetuning import ClassifierArchitecture, FineTuner

        W, b, _, _ = glorot(X.shape[1], n_hidden, self.seed)
        self.trainer = FineTuner(
            ClassifierArchitecture((X.shape[1], n_hidden, N_CLASSES)),
            X,
            y,
            [W],
            [b],
            weights=np.ones(len(y)),
            tangents=self.tangents(X) if self.n_tangents else None,
            tangent_weight=0.1,
            alpha=0.0,
            learning_rate=LEARNING_RATE,
            batch_size=batch_size,
            precision="float32",
            device=resolve_device(self.device),
            seed=self.seed,
            optimizer=self.optimizer,
        )

    def tangents(self, X):
        rng = np.random.default_rng(self.seed)
        shape = len(X), self.n_tangents, X.shape[1]
        tangents = rng.standard_normal(shape, dtype=np.float32)
        tangents /= X.shape[1] ** 0.5
        return tangents

    def transform(self, X):
        from skcae.engine.device import resolve_device
        from skcae.engine.finetuning import probabilities
        from skcae.engine.inference import map_rows

        arrays, device = self.trainer.arrays(), resolve_device(self.device)
        return map_rows(
            probabilities, self.trainer.architecture, arrays, X, device=device
        )


class SkcaeTangentsClassifier(SkcaeClassifier):
    """The same with the tangent penalty, of random directions."""

    note = "tangent_weight > 0, n_tangents=8"
    n_tangents = 8


class SkcaeMuonClassifier(SkcaeClassifier):
    """The same with the default optimiser."""

    note = "solver='muon', the default"
    optimizer = "muon"


def torch_classifier(n_features, n_hidden, seed, device):
    """Return the network as it is usually written."""
    import torch

    model = torch.nn.Sequential(
        torch.nn.Linear(n_features, n_hidden),
        torch.nn.Sigmoid(),
        torch.nn.Linear(n_hidden, N_CLASSES),
    )
    W, b, _, _ = glorot(n_features, n_hidden, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].weight.copy_(torch.from_numpy(W.T))
        model[0].bias.copy_(torch.from_numpy(b))
    return model.to(device)


def torch_weights(model):
    """Return its weights and biases as arrays, (fan_in, fan_out)."""
    return [parameter.detach().cpu().numpy().T for parameter in model.parameters()]


class PyTorchClassifier(Classifier, PyTorch):
    """The textbook loop: DataLoader, autograd, torch.optim.Adam."""

    def setup(self, X, n_hidden, batch_size, y):
        model = torch_classifier(X.shape[1], n_hidden, self.seed, self.device)
        self.prepare(model, batch_size, X, y)

    def loss(self, x, y):
        return self.torch.nn.functional.cross_entropy(self.model(x), y)

    def transform(self, X):
        with self.torch.inference_mode():
            x = self.torch.from_numpy(X).to(self.device)
            return self.model(x).softmax(dim=1).cpu().numpy()

    def weights(self):
        return torch_weights(self.model)


class PyTorchTunedClassifier(PyTorchClassifier, PyTorchTuned):
    """The same without DataLoader, the data on the device, and a fused Adam."""


class SkorchClassifier(Classifier, Skorch):
    """The same network in skorch, without callbacks and validation."""

    def setup(self, X, n_hidden, batch_size, y):
        import torch

        torch.manual_seed(self.seed)
        self.net = self.skorch.NeuralNetClassifier(
            torch_classifier(X.shape[1], n_hidden, self.seed, self.device),
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            batch_size=batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks="disable",
            device=self.device,
            verbose=0,
        ).initialize()
        self.data = torch.utils.data.TensorDataset(
            torch.from_numpy(X), torch.from_numpy(y)
        )

    def weights(self):
        return torch_weights(self.net.module_)


class MlpClassifier(Classifier, Mlp):
    """MLPClassifier."""

    note = "own start"

    def setup(self, X, n_hidden, batch_size, y):
        self.X, self.y = X, y
        self.model = self.module.MLPClassifier(
            hidden_layer_sizes=n_hidden,
            activation="logistic",
            alpha=0,
            batch_size=min(batch_size, len(X)),
            learning_rate_init=LEARNING_RATE,
            random_state=self.seed,
        )

    def train(self, n_epochs):
        for _ in range(n_epochs):
            self.model.partial_fit(self.X, self.y, classes=np.arange(N_CLASSES))
        return n_epochs

    def transform(self, X):
        return self.model.predict_proba(X)


class FloorClassifier(Classifier, Floor):
    """The five matrix products of a step: x W, h U, r Uᵀ, xᵀ a and hᵀ r."""

    def setup(self, X, n_hidden, batch_size, y):
        W, *_ = glorot(X.shape[1], n_hidden, self.seed)
        _, _, U, _ = glorot(N_CLASSES, n_hidden, self.seed)
        self.prepare(X, W, U, batch_size)


CONTENDERS = {
    "floor": Floor,
    "skcae": Skcae,
    "skcae-lam0": SkcaeNoPenalty,
    "skcae-muon": SkcaeMuon,
    "skcae-bf16": SkcaeBfloat16,
    "skcae-muon-bf16": SkcaeMuonBfloat16,
    "skcae-fit": SkcaeFit,
    "keras-jax": KerasJax,
    "keras-jax-tuned": KerasJaxTuned,
    "keras-tf": KerasTensorflow,
    "keras-tf-tuned": KerasTensorflowTuned,
    "pytorch": PyTorch,
    "pytorch-tuned": PyTorchTuned,
    "skorch": Skorch,
    "mlp": Mlp,
    "rbm": Rbm,
    "pca": Pca,
    "jacobian": MaterialisedJacobian,
    "floor-classifier": FloorClassifier,
    "skcae-classifier": SkcaeClassifier,
    "skcae-muon-classifier": SkcaeMuonClassifier,
    "skcae-tangents-classifier": SkcaeTangentsClassifier,
    "pytorch-classifier": PyTorchClassifier,
    "pytorch-tuned-classifier": PyTorchTunedClassifier,
    "skorch-classifier": SkorchClassifier,
    "mlp-classifier": MlpClassifier,
}
