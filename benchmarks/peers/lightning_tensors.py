"""Lightning with a TensorDataset and a DataLoader."""

import torch
from lightning_common import run
from peer import arrays
from torch.utils.data import DataLoader, TensorDataset


def loaders(options):
    train, train_labels, test, test_labels = (
        torch.from_numpy(a) for a in arrays(options.dataset, options.root)
    )
    train = DataLoader(TensorDataset(train / 255, train_labels), options.batch, shuffle=True)
    return test.shape[1], train, DataLoader(TensorDataset(test / 255, test_labels), 1000)


run(loaders)
