"""Adam on the one flat parameter vector."""

import torch
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) in PyTorch's fused implementation.

    A `torch.optim.Adam` spends more time on bookkeeping than on a small model's
    arithmetic; this calls the function below it and owns its memory.

    Parameters
    ----------
    parameters, gradient : Tensor of shape (n_parameters,)
        Updated in place, and read, by each step.
    learning_rate : float
        Also an attribute, which may change between steps.
    """

    def __init__(self, parameters, gradient, learning_rate):
        self.parameters = parameters
        self.gradient = gradient
        self.learning_rate = learning_rate
        self.memory = {
            "exp_avgs": torch.zeros_like(parameters),
            "exp_avg_sqs": torch.zeros_like(parameters),
            "state_steps": torch.zeros(
                (), dtype=torch.float32, device=parameters.device
            ),
        }
        self._lists = {name: [tensor] for name, tensor in self.memory.items()}

    def step(self):
        """Update the parameters."""
        adam(
            [self.parameters],
            [self.gradient],
            max_exp_avg_sqs=[],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
            **self._lists,
        )
