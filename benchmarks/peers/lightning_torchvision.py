"""Lightning with torchvision's dataset, ToTensor and a DataLoader: what most people write."""

import tempfile
from pathlib import Path

from lightning_common import run
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms


class Pictures(Dataset):
    """CIFAR-10 as torchvision serves it: an array turned into a PIL image, sample by sample."""

    def __init__(self, images, labels, transform) -> None:
        self.images, self.labels, self.transform = images.transpose(0, 2, 3, 1), labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def loaders(options):
    if options.dataset == "CIFAR10":
        from common import arrays

        train, train_labels, test, test_labels = arrays(options.dataset, options.root)
        sets = [Pictures(train, train_labels, transforms.ToTensor()),
                Pictures(test, test_labels, transforms.ToTensor())]  # fmt: skip
        channels = 3
    else:
        folder = Path(tempfile.mkdtemp()) / options.dataset
        folder.mkdir()
        (folder / "raw").symlink_to((Path(options.root) / options.dataset).resolve())
        transform = transforms.Compose([transforms.Pad(2), transforms.ToTensor()])
        cls = getattr(datasets, options.dataset)
        sets = [cls(folder.parent, train=t, transform=transform) for t in (True, False)]
        channels = 1
    train = DataLoader(sets[0], options.batch, shuffle=True)
    return channels, train, DataLoader(sets[1], 1000)


run(loaders)
