"""Files of torch.save: what honest ones hold is returned, and hostile ones are refused early."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lenet_lightning.errors import UserError
from lenet_lightning.store import archive, checkpoints
from tests.store.test_checkpoints import CHECKPOINT

REBUILD = torch.zeros(1).__reduce_ex__(2)[0]
GIGABYTE = 10**9


class Storage:
    """A storage, as a pickle names it."""

    def __init__(
        self, count: Any = 4, kind: Any = torch.FloatStorage, key: str = "0", where: str = "cpu"
    ) -> None:
        self.words = ("storage", kind, key, where, count)


class Call:
    """What unpickling calls."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.reduced: tuple[Any, ...] = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class Pickler(pickle.Pickler):
    """Writes storages as torch does."""

    def persistent_id(self, value: Any) -> Any:
        return value.words if isinstance(value, Storage) else None


def tensor(
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    hooks: Any = None,
    more: tuple[Any, ...] = (),
    **storage: Any,
) -> Call:
    """A tensor of four numbers in four bytes each, or whatever else the arguments tell."""
    return Call(REBUILD, Storage(**storage), offset, size, stride, hooks is not None, hooks, *more)


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def written(value: Any, **members: bytes) -> bytes:
    """A file as torch.save writes it; ``members`` are added, with ``__`` for ``/``."""
    files = {"data.pkl": pickled(value), "byteorder": b"little", "version": b"3\n"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in (files | {"data/0": bytes(16)} | members).items():
            file.writestr("archive/" + name.replace("__", "/"), content)
    return buffer.getvalue()


def nested(depth: int, kind: type = list) -> Any:
    value: Any = kind()
    for _ in range(depth):
        value = {"a": value} if kind is dict else kind([value])
    return value


def doubled(levels: int) -> Any:
    """A tuple of 2**levels values in all, which a pickle holds in a few bytes a level."""
    value: Any = (1, 2)
    for _ in range(levels):
        value = (value, value)
    return value


def deep(levels: int) -> bytes:
    """A list in lists; Python's own pickler reaches its limit of recursion at a thousand."""
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def doubled_key(levels: int) -> bytes:
    """A mapping with such a tuple as its key, which cannot be made in order to be pickled."""
    doubling = b"".join(b"q%ch%c\x86" % (level, level) for level in range(levels))
    return b"\x80\x02}K\x01\x85" + doubling + b"K\x01s."


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # quantized tensors are deprecated
    UNUSUAL = {
        "sparse": torch.zeros(2, 2).to_sparse(),
        "sparse rows": torch.zeros(2, 2).to_sparse_csr(),
        "meta": torch.zeros(2, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
    }

HOSTILE: dict[str, Any] = {
    "more values than the file": tensor(count=10**6, size=(10**6,)),
    "a huge number of values": tensor(count=10**15),
    "a negative number of values": tensor(count=-4),
    "text as the number of values": tensor(count="4"),
    "a tensor larger than its storage": tensor(size=(10**6,)),
    "a tensor that repeats one value": tensor(size=(10**13,), stride=(0,)),
    "a size that overflows": tensor(size=(2**40, 2**40), stride=(0, 0)),
    "a negative size": tensor(size=(-1,)),
    "a negative stride": tensor(stride=(-1,), offset=3),
    "a negative offset": tensor(offset=-8),
    "an offset beyond the end": tensor(offset=10**6),
    "a file elsewhere": tensor(key="../../../../etc/passwd"),
    "settings that are none": tensor(more=(5,)),
    "bytes that no file holds": Call(bytearray, GIGABYTE),
    "a tensor that no file holds": Call(torch.Tensor, GIGABYTE),
    "a storage that no file holds": Call(torch.UntypedStorage, GIGABYTE),
    "a set": {1, 2},
    "bytes": b"x",
    "a type": torch.float32,
    "a complex number": 1j,
    "nested lists": nested(100),
    "nested mappings": nested(100, dict),
    "nested tuples": nested(100, tuple),
    "lists 10,000 deep": deep(10_000),
    "a key that takes for ever to hash": doubled_key(40),
    "an element that takes for ever to hash": Call(Counter, [doubled(40)]),
    "a list that doubles": [doubled(40)],
    "a million values": [[0] * 1000] * 1000,
    "a number of 600 digits": 10**600,
    "text of a million characters": "x" * 1_000_001,
    "a key that is no name": {1.5: 1},
    "a name that controls the terminal": {"\x1b[2J\r\n\x00\u2028": b"x"},
    "a long name": {"x" * 100_000: b"x"},
    "a mapping of what is not pairs": Call(OrderedDict, [[1]]),
}


def hostile(name: str) -> bytes:
    if isinstance(HOSTILE[name], bytes) and name != "bytes":
        return written(None, **{"data.pkl": HOSTILE[name]})
    # First, because storages are read once.
    return written({"more": HOSTILE[name]} | CHECKPOINT | {"state_dict": {"weight": tensor()}})


def test_honest() -> None:
    weights = torch.nn.BatchNorm2d(2).state_dict()
    tied = torch.ones(3)
    content = {
        "state_dict": weights,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "tied": [tied, tied[1:]],
        "kinds": [torch.ones(2, dtype=d) for d in (torch.half, torch.bfloat16, torch.bool)],
        "milestones": Counter({3: 2}),
        "betas": [(0.9, 0.999)] * 3,
        "size": torch.Size([1, 2]),
        "plain": [None, True, 1, -1.5, "text", 2**40],
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    loaded = archive.unpack(buffer.getvalue())
    assert loaded.keys() == content.keys()
    for key in ("milestones", "betas", "size", "plain"):
        assert loaded[key] == content[key]
    for key in ("parameter", "tied", "kinds"):
        torch.testing.assert_close(loaded[key], content[key], rtol=0, atol=0)
    torch.testing.assert_close(dict(loaded["state_dict"]), dict(weights), rtol=0, atol=0)


@pytest.mark.parametrize("where", ["cuda:0", "mps", "meta"])
def test_tensors_of_another_device(where: str) -> None:
    """They are put on the processor."""
    loaded = archive.unpack(written(tensor(where=where)))
    assert loaded.device.type == "cpu" and torch.equal(loaded, torch.zeros(4))


def test_written_here_is_honest() -> None:
    """The helpers of this module write what torch reads, so that a refusal has its own reason."""
    loaded = archive.unpack(written({"a": tensor(hooks=OrderedDict()), "b": doubled(3)}))
    assert torch.equal(loaded["a"], torch.zeros(4)) and loaded["b"] == doubled(3)
    Path("a.ckpt").write_bytes(written(CHECKPOINT | {"state_dict": {"weight": tensor()}}))
    assert torch.equal(checkpoints.load("a.ckpt")["state_dict"]["weight"], torch.zeros(4))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    """One printable sentence that names the file, before anything large is allocated."""
    Path("a.ckpt").write_bytes(hostile(name))
    with pytest.raises(UserError) as refused:
        checkpoints.load("a.ckpt")
    said = str(refused.value)
    assert "a.ckpt" in said and said.isprintable() and len(said) < 600


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_tensors(kind: str) -> None:
    torch.save(CHECKPOINT | {"more": UNUSUAL[kind]}, "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt"):
        checkpoints.load("a.ckpt")


def test_tensors_are_copied() -> None:
    """Overlapping strides, memory in common, hooks and gradients stay behind."""
    square = {"size": (2, 2), "stride": (1, 1)}
    content = {"more": [tensor(**square), tensor(hooks=5), tensor()]}
    Path("a.ckpt").write_bytes(written(CHECKPOINT | {"state_dict": {"w": tensor()}} | content))
    first, second, third = checkpoints.load("a.ckpt")["more"]
    first += 1
    assert first.tolist() == [[1, 1], [1, 1]]
    assert second.tolist() == third.tolist() == [0] * 4
    assert not second.requires_grad
    second.requires_grad_()
    second.sum().backward()  # without the hooks, of which 5 is none


def test_attributes_in_place_of_methods() -> None:
    """A mapping of torch.save can have attributes; none replaces what the mapping can do."""
    weights = Call(OrderedDict, [["weight", tensor()]])
    weights.reduced += (dict.fromkeys(["items", "keys", "get", "_metadata"], 5),)
    data = written(CHECKPOINT | {"state_dict": weights})
    assert archive.unpack(data)["state_dict"].keys == 5
    Path("a.ckpt").write_bytes(data)
    loaded = checkpoints.load("a.ckpt")["state_dict"]
    assert type(loaded) is dict and loaded.keys() == {"weight"}
    torch.nn.ParameterDict({"weight": torch.ones(4)}).load_state_dict(loaded)


@pytest.mark.parametrize(
    "member", ["constants.pkl", "DATA.PKL", "code__a.py", "data__x", "data__..__0", ".data__x"]
)
def test_unknown_members(member: str) -> None:
    assert archive.unpack(written({"a": 1})) == {"a": 1}
    assert archive.unpack(written({"a": 1}, **{member: b"x"})) is None


def test_two_pickles() -> None:
    data = io.BytesIO(written({"a": 1}))
    with zipfile.ZipFile(data, "a") as file:
        file.writestr("other/data.pkl", pickled({"a": 2}))
    assert archive.unpack(data.getvalue()) is None


def test_files_before_and_after_the_archive() -> None:
    """torch and Python find different archives in such a file; only Python's is read."""
    first, second = written({"a": 1}), written({"a": 2})
    assert archive.unpack(first + second) == {"a": 2}
    assert archive.unpack(b"x" * 100 + second) == {"a": 2}


class TestCheckPickle:
    @pytest.mark.parametrize("function", [bytearray, torch.Tensor, torch.UntypedStorage, os.mkdir])
    def test_other_types(self, function: Callable) -> None:
        """They are refused before anything calls them."""
        with pytest.raises(ValueError, match=f"GLOBAL .* {function.__name__}"):
            archive.check_pickle(pickled(Call(function, "a")))

    # Entries of the memo beyond 255 have operations of their own.
    @pytest.mark.parametrize("before", [0, 300])
    @pytest.mark.parametrize("value", [(1,), doubled(3), ((1, 2, 3), (4, 5, 6, 7), [8, 9], 1)])
    def test_unfolded(self, monkeypatch: pytest.MonkeyPatch, value: Any, before: int) -> None:
        """A tuple in tuples counts as often as it is held; a list counts as one value."""

        def size(part: Any) -> int:
            return 1 + sum(map(size, part)) if isinstance(part, tuple) else 1

        content = pickled([*map(str, range(before)), value, (1,)])
        monkeypatch.setattr(archive, "MAX_UNFOLDED", size(value))
        archive.check_pickle(content)
        monkeypatch.setattr(archive, "MAX_UNFOLDED", size(value) - 1)
        with pytest.raises(ValueError, match="TUPLE"):
            archive.check_pickle(content)

    def test_operations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = pickled([1, 2])
        count = len([*pickletools.genops(content)])
        monkeypatch.setattr(archive, "MAX_OPERATIONS", count)
        archive.check_pickle(content)
        monkeypatch.setattr(archive, "MAX_OPERATIONS", count - 1)
        with pytest.raises(ValueError, match="STOP"):
            archive.check_pickle(content)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_no_protocol_runs_anything(protocol: int) -> None:
    content = pickle.dumps(Call(os.mkdir, "marker"), protocol)
    assert archive.unpack(written(None, **{"data.pkl": content})) is None
    assert not Path("marker").exists()
