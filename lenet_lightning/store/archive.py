"""Read the files of ``torch.save``: nothing in them is executed, and time and memory are bounded.

``torch.load`` with ``weights_only`` runs no code, but calls constructors that allocate whatever a
pickle asks for. Here the pickle is examined before it is loaded.
"""

import io
import pickletools
import re
import warnings
import zipfile
from typing import Any

import torch

MEMBER = re.compile(
    r"data\.pkl|data/\d{1,9}|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)

# Storages hold as many values as their file; of the other names none allocates.
STORAGES = (
    "Float", "Double", "Half", "BFloat16", "ComplexFloat", "ComplexDouble",
    "Long", "Int", "Short", "Char", "Byte", "Bool",
)  # fmt: skip
GLOBALS = {
    "collections Counter",
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in STORAGES),
}

MAX_OPERATIONS = 1_000_000
MAX_UNFOLDED = 100_000


def unpack(data: bytes) -> Any:
    """Return what ``torch.load`` makes of a file; None if it is damaged or holds anything unusual.

    Args:
        data: the file's content.
    """
    try:
        # A copy, because torch's reader of archives may understand the original differently.
        copy = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(data)) as archive,
            zipfile.ZipFile(copy, "w") as plain,
        ):
            # torch stores without compression; what unpacks to more was made to fill the memory.
            if sum(member.file_size for member in archive.infolist()) > len(data):
                return None
            members = {path.partition("/")[2]: path for path in archive.namelist()}
            if len(members) < len(archive.namelist()) or not all(map(MEMBER.fullmatch, members)):
                return None
            check_pickle(archive.read(members["data.pkl"]))
            for name, path in members.items():
                plain.writestr(f"archive/{name}", archive.read(path))
        copy.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on files that are refused
            return torch.load(copy, map_location="cpu", weights_only=True)
    except Exception:  # damaged pickles raise whatever they like
        return None


def check_pickle(content: bytes) -> None:
    """Check, without loading it, that a pickle names known types only and can be loaded quickly.

    A tuple that holds another one twice, and so on, is short but takes exponential time as a key
    of a mapping. Therefore the stack is simulated with the number of values that each entry
    unfolds to; a mark is 0.

    Raises:
        ValueError: it names another type, or is too long, or unfolds to too many values.
    """
    stack: list[int] = []
    memo: dict[Any, int] = {}
    for count, (operation, argument, _) in enumerate(pickletools.genops(content), 1):
        name, before = operation.name, operation.stack_before
        if count > MAX_OPERATIONS or (name == "GLOBAL" and argument not in GLOBALS):
            raise ValueError(f"{name} {argument}")
        taken, fixed = 0, len(before)
        if pickletools.markobject in before:
            fixed = before.index(pickletools.markobject)
            while size := stack.pop():
                taken += size
        taken += sum(stack.pop() for _ in range(fixed))
        if name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(0)
        else:
            stack += [1 + taken if name.startswith("TUPLE") else 1] * len(operation.stack_after)
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        if stack and stack[-1] > MAX_UNFOLDED:
            raise ValueError(name)
