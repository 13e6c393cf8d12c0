"""Batches: what each delivers, in which order, and to which process."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lenet_lightning.data.augmentation import Augmentation
from lenet_lightning.data.batches import (
    Chunk,
    EvaluationBatches,
    Images,
    TrainBatches,
    gather,
    seed_from,
    share,
    to_unit,
)

COUNT = 70


def data(border: int = 0, count: int = COUNT) -> Images:
    """Images recognisable by their label, which is their position in the set."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 32, 32), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(count), border)


def epoch(loader: TrainBatches, number: int = 0) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    loader.set_epoch(number)
    return [batch for chunk in loader for batch in chunk.batches()]


def labels(batches: list[tuple[torch.Tensor, torch.Tensor, int]]) -> list[int]:
    return torch.cat([batch[1] for batch in batches]).tolist()


def pixels(batches: list[tuple[torch.Tensor, torch.Tensor, int]]) -> torch.Tensor:
    """All images, sorted by label."""
    images = torch.cat([batch[0] for batch in batches])
    return images[torch.tensor(labels(batches)).argsort()]


def assert_same(one, other) -> None:
    assert [batch[2] for batch in one] == [batch[2] for batch in other]
    for (images, targets, _), (others, other_targets, _) in zip(one, other, strict=True):
        assert torch.equal(images, others) and torch.equal(targets, other_targets)


def is_reversed(loader: TrainBatches, number: int = 0) -> torch.Tensor:
    """Which images an epoch delivers reversed, by label."""
    shown, originals = pixels(epoch(loader, number)), to_unit(loader.data.pixels[loader.index])
    same = (shown == originals).flatten(1).all(1)
    assert torch.equal(shown[~same], 1 - originals[~same])
    return ~same


EVERYTHING = {
    "polarity": "random",
    "augmentation": Augmentation(
        rotation=10, translation=2, horizontal_flip=0.5, invert=0.2, cutout=6, elastic=1
    ),
}


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, COUNT),
    batch_size=st.integers(1, COUNT + 5),
    steps=st.integers(1, 70),
    seed=st.integers(0, 2**64),
    number=st.integers(0, 10**6),
)
def test_every_image_once_an_epoch(count, batch_size, steps, seed, number):
    index = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))[:count]
    loader = TrainBatches(data(), index, batch_size, steps, seed)
    batches = epoch(loader, number)
    assert sorted(labels(batches)) == sorted(index.tolist())
    assert torch.equal(pixels(batches), to_unit(data().pixels[index.sort().values]))
    sizes = [len(targets) for _, targets, _ in batches]
    assert sizes == [total for _, _, total in batches]
    assert sizes == [min(batch_size, count - i) for i in range(0, count, batch_size)]
    assert loader.steps == len(sizes)
    assert len(loader) == -(-len(sizes) // steps) == len(list(loader))


@pytest.mark.parametrize("count", [0, 5])
def test_gather_is_indexing(count):
    position = torch.randint(COUNT, (count,))
    assert torch.equal(gather(data().pixels, position), to_unit(data().pixels[position]))


def test_what_a_batch_holds():
    chunk = next(iter(TrainBatches(data(), torch.arange(COUNT), 16, 2)))
    assert isinstance(chunk, Chunk)
    assert chunk.images.shape == (32, 1, 32, 32) and chunk.images.dtype == torch.float32
    assert chunk.labels.shape == (32,) and chunk.labels.dtype == torch.int64
    assert chunk.sizes == chunk.totals == [16, 16]
    assert chunk.images.min() == 0 and chunk.images.max() == 1


@pytest.mark.parametrize("options", [{}, {"polarity": "half"}, EVERYTHING])
def test_an_epoch_depends_on_seed_and_epoch_alone(options):
    def loader(seed: int = 5) -> TrainBatches:
        return TrainBatches(data(), torch.arange(COUNT), 7, 2, seed, **options)

    torch.manual_seed(1)
    lived = loader()
    earlier = [epoch(lived, number) for number in range(3)]
    torch.manual_seed(2)
    assert_same(epoch(loader(), 2), earlier[2])
    assert_same(epoch(lived, 0), earlier[0])
    assert labels(earlier[0]) != labels(earlier[1])
    assert labels(epoch(loader(6), 0)) != labels(earlier[0])


def test_batches_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    epoch(TrainBatches(data(), torch.arange(COUNT), 7, 2, **EVERYTHING))
    assert torch.equal(torch.get_rng_state(), before)


def test_lightning_sets_the_epoch_through_the_sampler():
    loader = TrainBatches(data(), torch.arange(COUNT), 7)
    loader.sampler.set_epoch(3)
    assert labels([b for e in loader for b in e.batches()]) == labels(epoch(loader, 3))


@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, COUNT), steps=st.integers(1, 50), everything=st.booleans())
@example(batch_size=1, steps=50, everything=True)
@example(batch_size=3, steps=7, everything=True)
def test_steps_per_execution_changes_nothing(batch_size, steps, everything):
    options = EVERYTHING if everything else {}
    index = torch.arange(COUNT)
    one_by_one = epoch(TrainBatches(data(), index, batch_size, 1, **options))
    together = epoch(TrainBatches(data(), index, batch_size, steps, **options))
    assert_same(one_by_one, together)


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, COUNT),
    batch_size=st.integers(1, COUNT),
    world_size=st.integers(1, 5),
    everything=st.booleans(),
)
@example(count=COUNT, batch_size=4, world_size=3, everything=True)
@example(count=COUNT, batch_size=COUNT, world_size=4, everything=True)
def test_processes_share_every_global_batch(count, batch_size, world_size, everything):
    options = dict(EVERYTHING if everything else {"polarity": "half"})
    index = torch.arange(count)
    whole = epoch(TrainBatches(data(), index, batch_size, 3, **options))
    parts = [
        epoch(
            TrainBatches(data(), index, batch_size, 3, **options, rank=rank, world_size=world_size)
        )
        for rank in range(world_size)
    ]
    for batch, *own in zip(whole, *parts, strict=True):
        assert all(part[2] == batch[2] for part in own)
        assert torch.equal(torch.cat([part[0] for part in own]), batch[0])
        assert torch.equal(torch.cat([part[1] for part in own]), batch[1])
        sizes = [len(part[1]) for part in own]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("number", [0, 1])
def test_polarity_of_all_or_none(number):
    assert not is_reversed(TrainBatches(data(), torch.arange(COUNT), 7), number).any()
    negative = TrainBatches(data(), torch.arange(COUNT), 7, polarity="negative")
    assert is_reversed(negative, number).all()


@pytest.mark.parametrize("count", [COUNT, COUNT - 1])
def test_half_is_exactly_half_and_fixed_for_the_run(count):
    def loader(seed: int, **options) -> TrainBatches:
        return TrainBatches(data(), torch.arange(count), 7, 3, seed, "half", **options)

    first = is_reversed(loader(0), 0)
    assert int(first.sum()) == count // 2
    for number in (1, 2, 17):
        assert torch.equal(is_reversed(loader(0), number), first)
    assert not torch.equal(is_reversed(loader(1), 0), first)


def test_random_changes_every_epoch():
    loader = TrainBatches(data(), torch.arange(COUNT), 7, 3, polarity="random")
    masks = torch.stack([is_reversed(loader, number) for number in range(12)])
    assert len(masks.unique(dim=0)) == 12
    assert masks.any(0).all() and not masks.all(0).any()


def test_invert_changes_every_epoch_and_adds_to_polarity():
    invert = Augmentation(invert=0.5)
    loader = TrainBatches(data(), torch.arange(COUNT), 7, augmentation=invert)
    assert not torch.equal(is_reversed(loader, 0), is_reversed(loader, 1))
    always = Augmentation(invert=1.0)
    twice = TrainBatches(data(), torch.arange(COUNT), 7, polarity="negative", augmentation=always)
    images = pixels(epoch(twice))
    torch.testing.assert_close(images, to_unit(data().pixels), rtol=0, atol=1e-6)
    half = TrainBatches(data(), torch.arange(COUNT), 7, polarity="half")
    other_half = TrainBatches(data(), torch.arange(COUNT), 7, polarity="half", augmentation=always)
    assert torch.equal(
        is_reversed(half), ~(pixels(epoch(other_half)) != to_unit(data().pixels)).flatten(1).any(1)
    )


def test_border_of_a_negative():
    loader = TrainBatches(data(border=2), torch.arange(COUNT), 7, polarity="negative")
    shown, originals = pixels(epoch(loader)), to_unit(data().pixels)
    assert torch.equal(shown[..., 2:-2, 2:-2], 1 - originals[..., 2:-2, 2:-2])
    assert torch.equal(shown[..., :2, :], originals[..., :2, :])
    assert torch.equal(shown[..., :, -2:], originals[..., :, -2:])
    evaluated = next(iter(EvaluationBatches(data(border=2), torch.arange(COUNT), COUNT)))
    torch.testing.assert_close(evaluated.negatives, shown)


def test_images_move_before_they_are_reversed():
    """What a shift brings in is black, and white in the negative."""
    white = Images(torch.full((4, 1, 32, 32), 255, dtype=torch.uint8), torch.arange(4))
    options = {"augmentation": Augmentation(translation=8), "polarity": "negative"}
    shown = pixels(epoch(TrainBatches(white, torch.arange(4), 4, **options)))
    assert shown.max() == 1 and shown.min() == 0
    assert (shown == 0).float().mean() > 0.5


def test_augmentation_changes_every_epoch_and_not_with_the_batch_size():
    options = {"augmentation": Augmentation(rotation=20, translation=3)}
    small = pixels(epoch(TrainBatches(data(), torch.arange(COUNT), 3, **options)))
    large = pixels(epoch(TrainBatches(data(), torch.arange(COUNT), COUNT, **options)))
    assert torch.equal(small, large)
    later = pixels(epoch(TrainBatches(data(), torch.arange(COUNT), COUNT, **options), 1))
    assert not torch.allclose(later, large, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, COUNT),
    batch_size=st.integers(1, COUNT + 5),
    world_size=st.integers(1, 4),
)
def test_evaluation_counts_every_image_once_over_all_processes(count, batch_size, world_size):
    index = torch.randperm(COUNT, generator=torch.Generator().manual_seed(2))[:count]
    loaders = [
        EvaluationBatches(data(), index, batch_size, rank, world_size) for rank in range(world_size)
    ]
    assert all(loader.size == count for loader in loaders)
    assert len({len(loader) for loader in loaders}) == 1
    batches = [batch for loader in loaders for batch in loader]
    places = torch.cat([batch.position for batch in batches])
    assert sorted(places.tolist()) == list(range(count))
    for batch in batches:
        assert torch.equal(batch.labels, index[batch.position])
        assert torch.equal(batch.images, to_unit(data().pixels[batch.labels]))
        assert torch.equal(batch.negatives, 1 - batch.images)


def test_evaluation_keeps_the_order():
    index = torch.tensor([5, 3, 9, 0])
    batches = list(EvaluationBatches(data(), index, 3))
    assert [batch.labels.tolist() for batch in batches] == [[5, 3, 9], [0]]
    assert [batch.position.tolist() for batch in batches] == [[0, 1, 2], [3]]


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 200), batch_size=st.integers(1, 250), world_size=st.integers(1, 9))
def test_shares_tile_the_set(count, batch_size, world_size):
    place = 0
    for batch in range(-(-count // batch_size)):
        for rank in range(world_size):
            own = share(count, batch_size, batch, rank, world_size)
            assert own.start == place
            assert own.total == min(batch_size, count - batch * batch_size)
            place = own.stop
    assert place == count


def test_seeds_are_mixed():
    keys = [(s, e, use) for s in range(4) for e in range(4) for use in range(4)]
    seeds = [seed_from(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_distortion_ends_with_its_epochs():
    """From then on an epoch is as it would be without cutout and elastic from the start."""
    index, moved = torch.arange(COUNT), {"rotation": 5, "translation": 2}
    distorted, plain, ended = (
        TrainBatches(data(), index, 7, seed=4, augmentation=Augmentation(**moved, **options))
        for options in (
            {"cutout": 6, "elastic": 1},
            {},
            {"cutout": 6, "elastic": 1, "distortion_epochs": 2},
        )
    )
    for number, same in enumerate((distorted, distorted, plain, plain)):
        assert torch.equal(pixels(epoch(ended, number)), pixels(epoch(same, number)))
    assert not torch.equal(pixels(epoch(distorted, 2)), pixels(epoch(plain, 2)))


def test_to_unit():
    values = to_unit(torch.arange(256, dtype=torch.uint8))
    assert values.dtype == torch.float32
    assert torch.equal(values, torch.arange(256) / 255)
