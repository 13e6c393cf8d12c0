"""Convolution, max-pooling and an activation as one layer on the CPU.

The layer computes what ``relu(max_pool2d(conv2d(x, weight, bias), 2))`` computes, or
``max_pool2d(conv2d(x, weight, bias).abs(), 2)``, with exact gradients, several times faster on the
few channels of LeNet-5 (``fused.c`` says why). Its C source is compiled by the system's compiler
when first used, and kept in the user's cache folder.

Ask `unavailable` whether this machine can run it and `supports` whether it takes these tensors;
then call `conv_pool`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

KERNEL_SIZE = 5

Activation = Literal["none", "relu", "absolute"]
# The numbers that fused.c gives them.
_ACTIVATIONS: dict[Activation, int] = {"none": 0, "relu": 1, "absolute": 2}

_OPTIONS = ["-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math"]
if sys.platform == "darwin":
    _OPTIONS.append("-Wl,-undefined,dynamic_lookup")

_lock = threading.Lock()
_library: ctypes.CDLL | None = None
_reason: str | None = None
_may_thread = True


def _after_fork() -> None:
    """Work in one thread: the parent's pool of threads does not survive a fork."""
    global _may_thread, _lock
    _may_thread = False
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def unavailable() -> str | None:
    """Say why the fused layer cannot be used here; None if it can.

    The first call compiles the kernel (about a second; later processes load it from the cache) and
    compares it with torch. Never raises.
    """
    global _library, _reason
    with _lock:
        if _library is None and _reason is None:
            try:
                library = _load()
                _library = library
                _self_test()
            except Exception as error:
                _library = None
                _reason = f"The fused kernel is not available: {error}"
    return _reason


def supports(x: Tensor, weight: Tensor) -> bool:
    """Whether `conv_pool` takes these tensors: strided float32 on the CPU, in eager mode.

    Args:
        x: the images, [B, C, H, W] or [B, S, C, H, W]; H and W at least 6.
        weight: the kernels, [O, C, 5, 5] or [S, O, C, 5, 5].
    """
    return (
        x.dim() == weight.dim()
        and x.dim() in (4, 5)
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and weight.shape[-3:] == (x.shape[-3], KERNEL_SIZE, KERNEL_SIZE)
        and weight.shape[:-4] == x.shape[1:-3]
        and x.shape[-2] > KERNEL_SIZE
        and x.shape[-1] > KERNEL_SIZE
        and x.layout == torch.strided
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def conv_pool(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation = "none"
) -> Tensor:
    """Convolve with stride 1 and no padding, apply the activation, pool 2x2 windows by maximum.

    Call it only where `unavailable` returns None and `supports` True. The result and the gradients
    are those of torch's ``max_pool2d(activation(conv2d(x, weight, bias)), 2)`` to rounding, the
    same for any number of threads; of equal values in a window, the first receives the gradient.

    S sets of weights work as one, each on images of its own: to the last bit what S calls give.

    Args:
        x: float32 [B, C, H, W], or [B, S, C, H, W], in any memory format; channels_last saves a
            copy.
        weight: float32 [O, C, 5, 5], or [S, O, C, 5, 5].
        bias: float32 [O], or [S, O], or None.
        activation: ``relu``, ``absolute`` (the absolute value) or ``none``.

    Returns:
        float32 [B, O, (H - 4) // 2, (W - 4) // 2], or [B, S, O, ...], channels_last.

    Raises:
        RuntimeError: the kernel is not available.
        MemoryError: the kernel found no memory for its scratch space.
    """
    y: Tensor = _ConvPool.apply(
        x if weight.dim() == 4 else x.flatten(0, 1), weight, bias, _ACTIVATIONS[activation]
    )
    return y if weight.dim() == 4 else y.unflatten(0, x.shape[:2])


class _ConvPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: int
    ) -> Tensor:
        images, channels, height, width = x.shape
        sets, out = _sets(weight), weight.shape[-4]
        rows, columns = (height - KERNEL_SIZE + 1) // 2, (width - KERNEL_SIZE + 1) // 2
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        # Of the images' type and device, whatever torch's defaults are.
        y = x.new_empty((images, rows, columns, out)).permute(0, 3, 1, 2)
        winner = x.new_empty((images, rows, columns, out), dtype=torch.uint8)
        failed = _kernel().conv_pool_forward(
            x.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(),
            y.data_ptr(), winner.data_ptr(), images // sets, sets, channels, height, width, out,
            activation, _threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError("the fused convolution ran out of memory")
        ctx.save_for_backward(x, weight, winner)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        x, weight, winner = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dweight, dbias = torch.empty_like(weight), weight.new_empty(weight.shape[:-3])
        images, *size = x.shape
        sets = _sets(weight)
        failed = _kernel().conv_pool_backward(
            x.data_ptr(), weight.data_ptr(), winner.data_ptr(), dy.data_ptr(),
            None if dx is None else dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr(),
            images // sets, sets, *size, weight.shape[-4], _threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError("the fused convolution ran out of memory")
        return dx, dweight, dbias if ctx.needs_input_grad[2] else None, None


def _sets(weight: Tensor) -> int:
    return weight.shape[0] if weight.dim() == 5 else 1


def _kernel() -> ctypes.CDLL:
    """Return the library; a process that received a network from another may not have it yet."""
    if _library is None and (reason := unavailable()):
        raise RuntimeError(reason)
    assert _library is not None
    return _library


def _threads() -> int:
    return torch.get_num_threads() if _may_thread else 1


def _load() -> ctypes.CDLL:
    """Return the compiled kernel, from the cache if it is there."""
    source = resources.files(__package__).joinpath("fused.c").read_bytes()
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    version = _run([*compiler, "--version"])
    key = hashlib.sha256(source + f"{version}{compiler}{_OPTIONS}{_cpu()}".encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_lightning"
    library = cache / f"fused-{key[:32]}.so"
    try:
        return _open(library)
    except OSError:
        pass  # Not there, or damaged.
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=cache)
    except OSError:
        # No cache to write to: the file lives as long as it takes to load it.
        with tempfile.TemporaryDirectory() as temporary:
            return _open(_compile(compiler, source, Path(temporary)))
    with folder as temporary:
        # Renamed when complete, so that no other process ever loads half a file.
        os.replace(_compile(compiler, source, Path(temporary)), library)
    return _open(library)


def _compile(compiler: list[str], source: bytes, folder: Path) -> Path:
    code, library = folder / "fused.c", folder / "fused.so"
    code.write_bytes(source)
    command = [*compiler, *_OPTIONS, "-o", str(library), str(code)]
    try:
        _run([*command, "-march=native"])
    except RuntimeError:
        _run(command)  # Some compilers do not know the machine's own instruction set.
    return library


def _run(command: list[str]) -> str:
    """Run a compiler; return what it prints, or raise a RuntimeError of one sentence."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(
            f"no working C compiler ({command[0]!r}: {getattr(error, 'strerror', None) or error}); "
            "install one, or name it in the environment variable CC."
        ) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        line = next((line for line in lines if "error" in line), lines[-1])
        line = line[max(line.find("error"), 0) :]  # Without the name of a temporary file.
        raise RuntimeError(f"the C compiler {command[0]!r} failed: {line}")
    return done.stdout


def _cpu() -> str:
    """Identify the processor: code compiled for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    names = ("model name", "flags", "Features", "CPU part", "isa")
    return "".join(sorted({line for line in lines if line.startswith(names)}))


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.conv_pool_forward.argtypes = [pointer] * 5 + [number] * 8
    library.conv_pool_backward.argtypes = [pointer] * 7 + [number] * 7
    return library


def _self_test() -> None:
    """Compare the kernel with torch on LeNet-5's two layers; raise RuntimeError if they differ."""
    generator = torch.Generator().manual_seed(0)

    def random(shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")

    with torch.inference_mode(False), torch.enable_grad():
        layers: tuple[tuple[int, int, int, Activation], ...] = (
            (1, 6, 16, "relu"),
            (3, 6, 11, "absolute"),
            (6, 16, 14, "relu"),
        )
        for channels, out, size, activation in layers:
            x, weight, bias = tensors = [
                random(shape).requires_grad_()
                for shape in ((3, channels, size, size), (out, channels, 5, 5), (out,))
            ]
            ours = conv_pool(x, weight, bias, activation)
            sums = F.conv2d(x, weight, bias)
            theirs = F.max_pool2d(sums.relu() if activation == "relu" else sums.abs(), 2)
            weights = random(theirs.shape)
            for one, other in zip(
                (ours, *torch.autograd.grad((ours * weights).sum(), tensors)),
                (theirs, *torch.autograd.grad((theirs * weights).sum(), tensors)),
                strict=True,
            ):
                if not torch.allclose(one, other, rtol=1e-4, atol=1e-3):
                    raise RuntimeError("its self-test disagrees with torch.")
