"""The floor for eager torch: a bare loop over tensors, no logging, both polarities evaluated."""

import time

import torch
import torch.nn.functional as F
from common import arguments, arrays, lenet, report

options = arguments()
train, labels, test, test_labels = (
    torch.from_numpy(a) for a in arrays(options.dataset, options.root)
)
net = lenet(train.shape[1])
# Pooling before ReLU gives the same result for less; channels last and fused Adam are faster.
net = torch.nn.Sequential(*[net[i] for i in (0, 2, 1, 3, 5, 4, 6, 7, 8, 9, 10, 11)])
net = net.to(memory_format=torch.channels_last)
kernels = [p for p in net.parameters() if p.dim() > 1]
biases = [p for p in net.parameters() if p.dim() == 1]
groups = [{"params": kernels, "weight_decay": 0.002}, {"params": biases}]
optimizer = torch.optim.Adam(groups, lr=0.0005, fused=True)
seconds = []
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
    seconds.append(time.perf_counter() - start)
report(seconds, correct / len(test))
