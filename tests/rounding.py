"""Operators of torch whose last bit depends on the shape, on the processor or on the library."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

# Sums and products in an order of the library's, two operations rounded as one or as two, and
# functions that vectors and single elements compute apart.
INEXACT = {
    "matmul", "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "dot", "einsum", "linear",
    "convolution", "avg_pool2d", "sum", "mean", "var", "std", "norm", "cumsum", "prod", "softmax",
    "addcmul", "addcdiv", "lerp", "sqrt", "rsqrt", "hypot", "exp", "log", "log1p", "pow",
    "sin", "cos", "tan", "atan", "atan2", "tanh", "sigmoid", "erf",
}  # fmt: skip


def inexact_operators(function: Callable[[], object]) -> set[str]:
    """Return which of them a function calls, without what it computes once and keeps."""
    function()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiled:
        function()
    called = {event.key.removeprefix("aten::").rstrip("_") for event in profiled.key_averages()}
    return called & INEXACT
