"""Train the plain network in a plain loop of torch, without Lightning.

python examples/own_training_loop.py [STEPS]
"""

import sys

import torch
import torch.nn.functional as F

from lenet_lightning import Digits, LeNet5


def main() -> None:
    """Print the loss now and then, and the accuracy on the test images."""
    torch.manual_seed(0)
    data = Digits(batch_size=64, steps_per_execution=1)
    data.prepare_data()
    data.setup()
    network = LeNet5(invariance="absolute")
    optimizer = torch.optim.Adam(network.parameters())
    steps = int(sys.argv[1]) if sys.argv[1:] else 200
    batches = data.train_dataloader()
    step = 0
    while step < steps:
        for execution in batches:
            for images, labels, _ in execution.batches():
                loss = F.cross_entropy(network(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                if step % 50 == 0:
                    print(f"step {step}: loss {float(loss.detach()):.3f}")
        batches.set_epoch(batches.epoch + 1)
    network.eval()
    right = 0
    with torch.inference_mode():
        for batch in data.test_dataloader():
            right += int((network(batch.images).argmax(1) == batch.labels).sum())
    print(f"test accuracy {right / len(data.test_index):.1%}")


if __name__ == "__main__":
    main()
