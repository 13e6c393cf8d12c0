"""Batches gathered by index from one uint8 tensor on the device: no workers, no per-sample Python.

Order and augmentation depend only on (seed, epoch), never on what ran before, so a run can be
resumed exactly and a distributed run sees the same global batches as a single one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lenet_lightning.data.augmentation import NO_AUGMENTATION, Augmentation, cut_out
from lenet_lightning.data.polarity import TrainPolarity, negate, reversed_images


class Images(NamedTuple):
    """Images and labels resident on one device.

    Attributes:
        pixels: uint8 ``[count, channels, 32, 32]``.
        labels: int64 ``[count]``.
        border: pixels of padding around each image that a negative does not reverse; usually 0.
    """

    pixels: Tensor
    labels: Tensor
    border: int = 0


class Chunk(NamedTuple):
    """Consecutive training batches, delivered together: ``steps_per_execution`` of them.

    Attributes:
        images: float32 ``[sum(sizes), channels, 32, 32]``, values in [0, 1].
        labels: int64 ``[sum(sizes)]``.
        sizes: images of each batch that this process trains on.
        totals: images of each batch over all processes.
    """

    images: Tensor
    labels: Tensor
    sizes: list[int]
    totals: list[int]

    def batches(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield (images, labels, images of the batch over all processes)."""
        images, labels = self.images.split(self.sizes), self.labels.split(self.sizes)
        return zip(images, labels, self.totals, strict=True)


class EvaluationBatch(NamedTuple):
    """A batch to evaluate.

    Attributes:
        images: float32 ``[batch, channels, 32, 32]``, values in [0, 1].
        negatives: their negatives, same shape.
        labels: int64 ``[batch]``.
        position: int64 ``[batch]``, each image's position in its set.
    """

    images: Tensor
    negatives: Tensor
    labels: Tensor
    position: Tensor


def seed_from(*key: int) -> int:
    """Mix non-negative integers such as (seed, epoch) into one seed for torch."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def generator(*key: int) -> torch.Generator:
    """Return a CPU generator seeded by :func:`seed_from`."""
    return torch.Generator().manual_seed(seed_from(*key))


def to_unit(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels to float32 in [0, 1]."""
    return pixels.to(torch.float32).div_(255)


def gather(pixels: Tensor, position: Tensor) -> Tensor:
    """Return chosen images as float32 in [0, 1].

    What ``to_unit(pixels[position])`` returns, at a quarter of the time: whole images are copied.

    Args:
        pixels: uint8 ``[count, channels, height, width]``.
        position: int64 ``[chosen]``.
    """
    return to_unit(pixels.index_select(0, position))


class Share(NamedTuple):
    """One process's part ``[start, stop)`` of a batch of ``total`` images, by position."""

    start: int
    stop: int
    total: int


class Draws(NamedTuple):
    """What an epoch draws for each training image, in the order in which they come.

    Attributes:
        position: int64 ``[train_size]``, where the image lies among all images.
        reverse: bool ``[train_size]``, whether it is replaced by its negative; None for none.
        affine: float32 ``[train_size, 2, 3]``, its affine map; None if nothing moves.
        warp: float32 ``[train_size, 2, 5, 5]``, how it is warped; None if nothing is.
        corners: ``[train_size, 2]``, where a square is cut out of it; None if none is.
    """

    position: Tensor
    reverse: Tensor | None
    affine: Tensor | None
    warp: Tensor | None
    corners: Tensor | None

    def of(self, shares: list[Share]) -> "Draws":
        """Return the draws for parts of batches."""
        parts = (
            None if each is None else torch.cat([each[s.start : s.stop] for s in shares])
            for each in self
        )
        return Draws(*parts)  # type: ignore[arg-type]


@dataclass(eq=False)
class TrainBatches:
    """One epoch of shuffled training batches each time it is iterated.

    Attributes:
        data: the images, on the training device.
        index: int64 ``[train_size]``, which of them train.
        batch_size: images of a batch over all processes; the last, smaller batch is kept.
        steps_per_execution: batches delivered together.
        seed: together with the epoch, decides order, polarity and augmentation.
        polarity: which images are reversed, see ``polarity``.
        augmentation: what happens to each image before that.
        rank: this process, from 0.
        world_size: number of processes; each gets its share of every batch.
        epoch: the epoch, from 0, that the next iteration delivers.
    """

    data: Images
    index: Tensor
    batch_size: int
    steps_per_execution: int = 1
    seed: int = 0
    polarity: TrainPolarity = "original"
    augmentation: Augmentation = NO_AUGMENTATION
    rank: int = 0
    world_size: int = 1
    epoch: int = field(default=0, init=False)

    @property
    def changes(self) -> Augmentation:
        """What happens to each image in the current epoch."""
        return self.augmentation.at(self.epoch)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.index) // self.batch_size)

    @property
    def sampler(self) -> "TrainBatches":
        """Itself: Lightning calls ``sampler.set_epoch`` at the start of every epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration delivers."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.steps // self.steps_per_execution)

    def __iter__(self) -> Iterator[Chunk]:
        draws = self.draw()
        shares = [
            share(len(self.index), self.batch_size, i, self.rank, self.world_size)
            for i in range(self.steps)
        ]
        for first in range(0, self.steps, self.steps_per_execution):
            own = shares[first : first + self.steps_per_execution]
            drawn = draws.of(own)
            labels, sizes = self.data.labels[drawn.position], [s.stop - s.start for s in own]
            yield Chunk(self.images(drawn), labels, sizes, [s.total for s in own])

    def images(self, drawn: Draws) -> Tensor:
        """Gather images and change them as it was drawn."""
        images = gather(self.data.pixels, drawn.position)
        if drawn.affine is not None:
            images = self.changes.apply(images, drawn.affine, drawn.warp)
        if drawn.corners is not None:
            images = cut_out(images, drawn.corners, self.changes.cutout)
        if drawn.reverse is not None:
            mask = drawn.reverse.view(-1, 1, 1, 1)
            images = torch.where(mask, negate(images, self.data.border), images)
        return images

    def draw(self) -> Draws:
        """Return this epoch's draws, on the images' device."""
        order = torch.randperm(len(self.index), generator=generator(self.seed, self.epoch, 0))
        position, device = self.index[order], self.data.labels.device
        change = self.changes
        # The streams are part of what a seed means: each keeps its number.
        changes = (
            self.reversed_by_position(),
            self.by_position(1, change.draw) if change.moves else None,
            self.by_position(5, change.draw_warp) if change.elastic else None,
            self.by_position(4, change.draw_corners) if change.cutout else None,
        )
        ordered = (None if each is None else each[order].to(device) for each in changes)
        return Draws(position.to(device), *ordered)

    def by_position(
        self, stream: int, draw: Callable[[int, int, torch.Generator], Tensor]
    ) -> Tensor:
        """Return what a method of the augmentation draws in this epoch, ``[train_size, ...]``."""
        draws = generator(self.seed, self.epoch, stream)
        return draw(len(self.index), self.data.pixels.shape[-1], draws)

    def reversed_by_position(self) -> Tensor | None:
        """Return this epoch's mask ``[train_size]`` of images to reverse; None for none."""
        count, invert = len(self.index), self.changes.invert
        if self.polarity == "original" and not invert:
            return None
        # The half that is reversed is the same in every epoch.
        epoch = 0 if self.polarity == "half" else self.epoch
        mask = reversed_images(self.polarity, count, generator(self.seed, epoch, 2))
        if invert:
            inverts = generator(self.seed, self.epoch, 3)
            mask = mask ^ (torch.rand(count, generator=inverts) < invert)
        return mask


def share(count: int, batch_size: int, batch: int, rank: int, world_size: int) -> Share:
    """Return the part of batch number ``batch`` of ``count`` images that process ``rank`` takes."""
    start = batch * batch_size
    total = min(batch_size, count - start)
    bounds = [start + total * r // world_size for r in (rank, rank + 1)]
    return Share(bounds[0], bounds[1], total)


@dataclass(eq=False)
class EvaluationBatches:
    """Every image once, in order, beside its negative.

    Attributes:
        data: the images, on the evaluating device.
        index: int64 ``[size]``, which of them to evaluate.
        batch_size: images of a batch over all processes.
        rank: this process, from 0.
        world_size: number of processes; each evaluates its share of every batch.
    """

    data: Images
    index: Tensor
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        """Keep the index beside the images."""
        self.index = self.index.to(self.data.labels.device)

    @property
    def size(self) -> int:
        """Images in the set, over all processes."""
        return len(self.index)

    def __len__(self) -> int:
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        positions = torch.arange(len(self.index), device=self.index.device)
        for batch in range(len(self)):
            own = share(len(self.index), self.batch_size, batch, self.rank, self.world_size)
            place = positions[own.start : own.stop]
            chosen = self.index[place]
            images, labels = gather(self.data.pixels, chosen), self.data.labels[chosen]
            yield EvaluationBatch(images, negate(images, self.data.border), labels, place)
