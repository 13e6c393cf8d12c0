"""skorch's NeuralNetClassifier."""

import torch
from common import arguments, arrays, lenet, report
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.helper import predefined_split

options = arguments()
train, labels, test, test_labels = arrays(options.dataset, options.root)
train, test = train.astype("float32") / 255, test.astype("float32") / 255
net = NeuralNetClassifier(
    lenet(train.shape[1]),
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.0005,
    optimizer__weight_decay=0.002,
    batch_size=options.batch,
    max_epochs=options.epochs,
    iterator_train__shuffle=True,
    train_split=predefined_split(Dataset(test, test_labels)),
)
net.fit(train, labels)
report(net.history[:, "dur"], net.history[-1, "valid_acc"])
