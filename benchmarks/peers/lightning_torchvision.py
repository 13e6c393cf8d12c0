"""Lightning with torchvision's dataset, ToTensor and a DataLoader: what most people write."""

import tempfile
from pathlib import Path

from lightning_common import run
from peer import arrays
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms


class Pictures(Dataset):
    """CIFAR-10 as torchvision serves it: an array turned into a PIL image, sample by sample.

    Not its own class, which reads the Python version of the files; the binary one lies here.
    """

    def __init__(self, images, labels, transform) -> None:
        self.images, self.labels, self.transform = images.transpose(0, 2, 3, 1), labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def mnist(name: str, root: str) -> list[Dataset]:
    """Return torchvision's MNIST or Fashion-MNIST, whose files it expects in a folder ``raw``."""
    transform = transforms.Compose([transforms.Pad(2), transforms.ToTensor()])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).mkdir()
        (Path(folder) / name / "raw").symlink_to((Path(root) / name).resolve())
        kind = getattr(datasets, name)
        return [kind(folder, train=train, transform=transform) for train in (True, False)]


def cifar(name: str, root: str) -> list[Dataset]:
    train, train_labels, test, test_labels = arrays(name, root)
    transform = transforms.ToTensor()
    return [Pictures(train, train_labels, transform), Pictures(test, test_labels, transform)]


def loaders(options):
    colour = options.dataset == "CIFAR10"
    train, test = (cifar if colour else mnist)(options.dataset, options.root)
    train = DataLoader(train, options.batch, shuffle=True)
    return 3 if colour else 1, train, DataLoader(test, 1000)


run(loaders)
