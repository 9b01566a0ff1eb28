"""Fit one model to the Parquet files of the folder rows/, a row group at a time."""

import numpy as np
import pyarrow.dataset
from sklearn.preprocessing import MinMaxScaler

from skcae import ContractiveAutoencoderTransformer

dataset = pyarrow.dataset.dataset("rows", format="parquet")
row_groups = [
    group
    for fragment in dataset.get_fragments()
    for group in fragment.split_by_row_group()
]


def read(group):
    return group.to_table().to_pandas().astype(np.float32)


scaler = MinMaxScaler()
for group in row_groups:
    scaler.partial_fit(read(group))

model = ContractiveAutoencoderTransformer(
    batch_size=256, learning_rate_init=0.01, random_state=0
)
order = np.random.default_rng(0)
for epoch in range(10):
    losses = []
    for i in order.permutation(len(row_groups)):
        model.partial_fit(scaler.transform(read(row_groups[i])))
        losses.append(model.loss_curve_[-1])
    print(f"Epoch {epoch + 1}: objective = {np.mean(losses):.4g}")
