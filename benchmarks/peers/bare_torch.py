"""The floor for eager torch: a bare loop over tensors, no logging, both polarities evaluated.

``--subset`` trains on the first images only, ``--evaluated`` evaluates the first only.
"""

import time

import torch
import torch.nn.functional as F
from peer import arguments, arrays, groups, lenet, report

options = arguments(subset=60000, evaluated=10000)
train, labels, test, test_labels = (
    torch.from_numpy(a) for a in arrays(options.dataset, options.root)
)
train, labels = train[: options.subset], labels[: options.subset]
test, test_labels = test[: options.evaluated], test_labels[: options.evaluated]
torch.manual_seed(options.seed)
torch.set_flush_denormal(True)  # Adam is slow with them
net = lenet(train.shape[1])
# Pooling before ReLU gives the same result for less; channels last and fused Adam are faster.
net = torch.nn.Sequential(*[net[i] for i in (0, 2, 1, 3, 5, 4, 6, 7, 8, 9, 10, 11)])
net = net.to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(groups(net, options.l2), lr=options.lr, fused=True)
for _ in range(options.epochs):
    start = time.perf_counter()
    for index in torch.randperm(len(train)).split(options.batch):
        images = train[index].float().div_(255)
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels[index]).backward()
        optimizer.step()
    with torch.no_grad():
        correct = 0
        for images, target in zip(test.split(1000), test_labels.split(1000), strict=True):
            images = images.float().div_(255)
            correct += int((net(images).argmax(1) == target).sum())
            net(1 - images)
    report(time.perf_counter() - start, correct / len(test))
