"""Convolution, pooling and activation in one layer on the CPU; LeNet-5's gradients in one call.

The layer computes what ``relu(max_pool2d(conv2d(x, weight, bias), 2))`` computes, or
``max_pool2d(conv2d(x, weight, bias).abs(), 2)``, with exact gradients, several times faster on the
few channels of LeNet-5 (``fused.c`` says why). Its C source is compiled by the system's compiler
when first used (`fused_build`).

Ask `unavailable` whether this machine can run it and `supports` whether it takes these tensors;
then call `conv_pool`, or `lenet5_gradients`.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lenet_lightning.networks import fused_build

KERNEL_SIZE = 5

LayerActivation = Literal["none", "relu", "absolute"]
# fused.c numbers them in this order: those of a layer by itself, and those that LeNet-5 also has.
_OF_LAYER = {name: number for number, name in enumerate(get_args(LayerActivation))}
_OF_NETWORK = _OF_LAYER | {"leaky_relu": 3, "elu": 4, "tanh": 5, "silu": 6}

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

    Not where autocast asks for another precision.

    Args:
        x: the images, [B, C, H, W]; H and W at least 6.
        weight: the kernels, [O, C, 5, 5].
    """
    return (
        x.dim() == weight.dim() == 4
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and weight.shape[1:] == (x.shape[1], KERNEL_SIZE, KERNEL_SIZE)
        and x.shape[-2] > KERNEL_SIZE
        and x.shape[-1] > KERNEL_SIZE
        and x.layout == torch.strided
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def conv_pool(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: LayerActivation = "none"
) -> Tensor:
    """Convolve with stride 1 and no padding, apply the activation, pool 2x2 windows by maximum.

    Call it only where `unavailable` returns None and `supports` True. The result and the gradients
    are those of torch's ``max_pool2d(activation(conv2d(x, weight, bias)), 2)`` to rounding, the
    same for any number of threads; of equal values in a window, the first receives the gradient.

    Args:
        x: float32 [B, C, H, W], in any memory format; channels_last saves a copy.
        weight: float32 [O, C, 5, 5].
        bias: float32 [O], or None.
        activation: ``relu``, ``absolute`` (the absolute value) or ``none``.

    Returns:
        float32 [B, O, (H - 4) // 2, (W - 4) // 2], channels_last.

    Raises:
        RuntimeError: the kernel is not available.
        MemoryError: the kernel found no memory for its scratch space.
    """
    y: Tensor = _ConvPool.apply(x, weight, bias, _OF_LAYER[activation])
    return y


class _ConvPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: int
    ) -> Tensor:
        images, channels, height, width = x.shape
        out = len(weight)
        rows, columns = (height - KERNEL_SIZE + 1) // 2, (width - KERNEL_SIZE + 1) // 2
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        # Of the images' type and device, whatever torch's defaults are.
        y = x.new_empty((images, rows, columns, out)).permute(0, 3, 1, 2)
        winner = x.new_empty((images, rows, columns, out), dtype=torch.uint8)
        failed = _kernel().conv_pool_forward(
            x.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(),
            y.data_ptr(), winner.data_ptr(), images, channels, height, width, out, activation,
            _threads(),
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
        dweight, dbias = torch.empty_like(weight), weight.new_empty(len(weight))
        failed = _kernel().conv_pool_backward(
            x.data_ptr(), weight.data_ptr(), winner.data_ptr(), dy.data_ptr(),
            None if dx is None else dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr(),
            *x.shape, len(weight), _threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError("the fused convolution ran out of memory")
        return dx, dweight, dbias if ctx.needs_input_grad[2] else None, None


class GradientOptions(NamedTuple):
    """What `lenet5_gradients` computes the gradients of.

    Attributes:
        label_smoothing: as for `losses.class_loss`.
        temperature: likewise.
        passes: 1, or 2: there are then two images for each target, all first ones before all
            second ones, and logits are the mean over both.
        l1: as for `losses.Penalty`, whose gradient is added to the scaled one of the losses.
        l2: likewise.
        activations: of the two convolutions and of the hidden dense layers: ``relu``,
            ``leaky_relu``, ``elu``, ``tanh`` or ``silu``, after pooling; or ``absolute``, before
            it, for convolutions only.
        standardization: a factor and a summand for each channel of the images, contiguous float32
            with C elements each.
    """

    label_smoothing: float = 0.0
    temperature: float = 1.0
    passes: int = 1
    l1: float = 0.0
    l2: float = 0.0
    activations: tuple[str, str, str] = ("relu", "relu", "relu")
    standardization: tuple[Tensor, Tensor] | None = None


def lenet5_gradients(
    x: Tensor,
    parameters: Sequence[Tensor | None],
    target: Tensor,
    gradients: Sequence[Tensor | None],
    scale: float = 1.0,
    options: GradientOptions = GradientOptions(),  # noqa: B008
) -> tuple[Tensor, Tensor]:
    """Write the gradients of LeNet-5: of a batch's cross-entropy, and of a penalty.

    Call it only where `unavailable` returns None and `supports` takes the images and the first
    weight. Results are those of `losses` and autograd to rounding, the same for any number of
    threads.

    Args:
        x: float32 [B, C, H, W], or [2 B, C, H, W] with two passes.
        parameters: contiguous float32 weight and bias of the two convolutions and the three dense
            layers in turn, as `torch.nn` shapes them. The first bias may be None.
        target: labels, whole numbers [B]; or the probability of each class, [B, classes]. A label
            that is not a class makes the loss NaN.
        gradients: contiguous memory for each parameter's gradient.
        scale: a factor of the gradients of the losses.
        options: see there.

    Returns:
        The sum over the batch of losses and penalty, float32 [], and the logits, float32
        [B, classes].

    Raises:
        ValueError: the first dense layer does not take as many numbers as the convolutions leave,
            or there are not as many targets as images.
        RuntimeError: the kernel is not available.
        MemoryError: the kernel found no memory for its scratch space.
    """
    weights = cast(Sequence[Tensor], parameters[::2])
    size = x.shape[1:]
    images = len(x) // options.passes
    widths = [len(weight) for weight in weights]
    rows, columns = (((n - KERNEL_SIZE + 1) // 2 - KERNEL_SIZE + 1) // 2 for n in size[1:])
    if weights[2].shape[-1] != (left := widths[1] * rows * columns):
        raise ValueError(
            f"the first dense layer takes {weights[2].shape[-1]} numbers, but there are {left}"
        )
    soft = target.is_floating_point()
    shape = (images, *([widths[4]] if soft else []))
    if target.shape != shape:
        raise ValueError(f"the target's shape is {tuple(target.shape)}: expected {shape}")
    target = target.to(x.dtype if soft else torch.int64).contiguous()
    x = x.contiguous()
    factor, shift = options.standardization or (None, None)
    if not options.standardization and size[0] > 1:
        factor, shift = x.new_ones(size[0]), x.new_zeros(size[0])
    labels, probabilities = (None, target.data_ptr()) if soft else (target.data_ptr(), None)
    # Of the images' type and device, whatever torch's defaults are.
    loss, logits = x.new_empty(()), x.new_empty((images, widths[4]))
    failed = _kernel().lenet5_gradients(
        x.data_ptr(), *_addresses([factor, shift]), _pointers(parameters), labels, probabilities,
        _pointers(gradients), loss.data_ptr(), logits.data_ptr(),
        (ctypes.c_int * 5)(*widths), images, options.passes, *size,
        (ctypes.c_int * 3)(*(_OF_NETWORK[name] for name in options.activations)),
        options.label_smoothing, options.temperature, scale, options.l1, options.l2, _threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("the fused network ran out of memory")
    return loss, logits


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*_addresses(tensors))


def _addresses(tensors: Sequence[Tensor | None]) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _kernel() -> ctypes.CDLL:
    """Return the library; a process that received a network from another may not have it yet."""
    if _library is None and (reason := unavailable()):
        raise RuntimeError(reason)
    assert _library is not None
    return _library


def _threads() -> int:
    return torch.get_num_threads() if _may_thread else 1


def _load() -> ctypes.CDLL:
    """Return the compiled kernel with the types of its functions' arguments."""
    source = resources.files(__package__).joinpath("fused.c").read_bytes()
    library = fused_build.load(source)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.conv_pool_forward.argtypes = [pointer] * 5 + [number] * 7
    library.conv_pool_backward.argtypes = [pointer] * 7 + [number] * 6
    library.lenet5_gradients.argtypes = (
        *[pointer] * 10, *[number] * 5, pointer, *[ctypes.c_float] * 5, number,
    )  # fmt: skip
    return library


def _self_test() -> None:
    """Compare the kernel with torch on two small networks; raise RuntimeError if they differ."""
    with torch.inference_mode(False), torch.enable_grad():
        _compare(1, ("relu", "relu", "relu"))
        _compare(3, ("absolute", "silu", "silu"))


def _compare(channels: int, activations: tuple[str, str, str]) -> None:
    """Compare loss, logits and gradients of a LeNet-5: torch's, by layers, and by one call."""
    generator = torch.Generator().manual_seed(0)

    def random(shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")

    shapes = (6, channels, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)
    parameters = [
        (random(size) / math.prod(shape[1:]) ** 0.5).requires_grad_()
        for shape in shapes
        for size in (shape, shape[:1])
    ]
    x, labels = random((3, channels, 32, 32)), torch.tensor([3, 0, 9], device="cpu")

    def by_torch(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Any:
        maps = F.conv2d(x, weight, bias)
        if activation == "absolute":
            return F.max_pool2d(maps.abs(), 2)
        return getattr(F, activation)(F.max_pool2d(maps, 2))

    def by_layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Any:
        if activation in _OF_LAYER:
            return conv_pool(x, weight, bias, cast(LayerActivation, activation))
        return getattr(F, activation)(conv_pool(x, weight, bias))

    def results(stage: Callable[..., Tensor]) -> list[Tensor]:
        act = getattr(F, activations[2])
        y = stage(stage(x, *parameters[:2], activations[0]), *parameters[2:4], activations[1])
        y = act(F.linear(act(F.linear(y.flatten(1), *parameters[4:6])), *parameters[6:8]))
        y = F.linear(y, *parameters[8:])
        loss = F.cross_entropy(y, labels, reduction="sum")
        return [loss, y, *torch.autograd.grad(100 * loss, parameters)]

    gradients = [torch.empty_like(p) for p in parameters]
    options = GradientOptions(activations=activations)
    done = lenet5_gradients(x, parameters, labels, gradients, 100, options)
    expected = results(by_torch)
    for ours in ([*done, *gradients], results(by_layer)):
        for one, other in zip(ours, expected, strict=True):
            if not torch.allclose(one, other, rtol=1e-4, atol=1e-3):
                raise RuntimeError("its self-test disagrees with torch.")
