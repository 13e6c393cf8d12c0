"""The classifier's own arithmetic, without a trainer."""

import torch
import torch.nn.functional as F

from lenet_lightning.data.batches import EvaluationBatch
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import Sums


def test_logits_are_averaged_over_all_views() -> None:
    """Three shifts along each axis and the mirror image of each: 18 views of equal weight."""
    torch.manual_seed(0)
    classifier = Classifier(view_shift=1, view_flip=True)
    classifier.network, classifier.view_sums = LeNet5(), Sums(1)
    images, labels = torch.rand(20, 1, 32, 32), torch.arange(20) % 10
    padded = torch.cat([images[..., :1], images, images[..., -1:]], 3)  # mirrored at its edge
    padded = torch.cat([padded[..., :1, :], padded, padded[..., -1:, :]], 2)
    shifts = [padded[..., y : y + 32, x : x + 32] for y in range(3) for x in range(3)]
    seen = torch.stack([*shifts, *(shift.flip(3) for shift in shifts)])
    with torch.no_grad():
        each = classifier.network(seen.flatten(0, 1)).view(18, 20, 10).double()
        classifier.evaluate_views(EvaluationBatch(images, 1 - images, labels, torch.arange(20)))
    measured, mean = classifier.view_sums.compute(), each.mean(0)
    torch.testing.assert_close(measured["loss"], F.cross_entropy(mean, labels).float())
    assert measured["acc"] == (mean.argmax(1) == labels).float().mean()
    losses = torch.stack([F.cross_entropy(view, labels) for view in each])
    assert ((losses - measured["loss"]).abs() > 1e-4).all(), "no view alone gives the same"
