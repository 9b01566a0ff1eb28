"""Fit one model to the rows of X.npy with several processes, started by torchrun."""

import os
import pickle
import signal

import numpy as np
import torch
import torch.distributed as dist

from skcae import ContractiveAutoencoderTransformer
from skcae.distributed import data_parallel

if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group()  # NCCL on GPUs, else gloo
rank, n_ranks = dist.get_rank(), dist.get_world_size()

X = np.load("X.npy", mmap_mode="r")
shard = np.array_split(X, n_ranks)[rank]

model = ContractiveAutoencoderTransformer(random_state=0, verbose=rank == 0)
with data_parallel():
    model.fit(shard)

# torchrun passes Ctrl-C on: the one that ended the fit may come once more.
signal.signal(signal.SIGINT, signal.SIG_IGN)
if rank == 0:
    with open("model.pickle", "wb") as file:
        pickle.dump(model, file)
dist.destroy_process_group()
