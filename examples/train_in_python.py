"""Train LeNet-5 on scikit-learn's digits with Lightning's Trainer, and test it.

python examples/train_in_python.py [EPOCHS]
"""

import sys
from functools import partial

import torch
from lightning.pytorch import Trainer

from lenet_lightning import Classifier, Digits


def main() -> None:
    """Print the accuracy on the test images and on their negatives."""
    classifier = Classifier(optimizer=partial(torch.optim.AdamW, lr=0.002), scaling="centered")
    data = Digits(batch_size=32)
    trainer = Trainer(
        max_epochs=int(sys.argv[1]) if sys.argv[1:] else 10,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, data)
    (metrics,) = trainer.test(classifier, data, verbose=False)
    print(f"originals {metrics['test/acc']:.1%}, negatives {metrics['test/acc_negative']:.1%}")


if __name__ == "__main__":
    main()
