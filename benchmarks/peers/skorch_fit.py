"""skorch's NeuralNetClassifier."""

import torch
from peer import arguments, arrays, lenet, report
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from skorch.helper import predefined_split


class Report(Callback):
    def on_epoch_end(self, net, **_) -> None:
        report(net.history[-1, "dur"], net.history[-1, "valid_acc"])


options = arguments()
train, labels, test, test_labels = arrays(options.dataset, options.root)
train, test = train.astype("float32") / 255, test.astype("float32") / 255
torch.manual_seed(options.seed)
net = NeuralNetClassifier(
    lenet(train.shape[1]),
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=options.lr,
    optimizer__param_groups=[("*.weight", {"weight_decay": 2 * options.l2})],
    batch_size=options.batch,
    max_epochs=options.epochs,
    iterator_train__shuffle=True,
    iterator_valid__batch_size=1000,
    train_split=predefined_split(Dataset(test, test_labels)),
    callbacks=[Report()],
)
net.fit(train, labels)
