"""The fused layer against torch's own operators.

Most tests use small whole numbers: every sum is then exact in float32, so that outputs and
gradients must equal torch's float64 to the last digit, and equal values in a window are frequent.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lenet_lightning.networks import fused, fused_build
from tests.networks.compiler import needs_kernel

pytestmark = needs_kernel


def whole_numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randint(-3, 4, shape, generator=generator).float()


def case(batch: int, channels: int, out: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Return x, weight, bias, and the gradient of y."""
    return (
        whole_numbers(batch, channels, height, width),
        whole_numbers(out, channels, 5, 5),
        whole_numbers(out),
        whole_numbers(batch, out, (height - 4) // 2, (width - 4) // 2, seed=1),
    )


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    y = F.conv2d(x, weight, bias)
    y = {"none": y, "relu": y.relu(), "absolute": y.abs()}[activation]
    return F.max_pool2d(y, 2)


def evaluate(layer, x, weight, bias, dy, activation, dtype=torch.float32) -> list[Tensor]:
    """Return y and the gradients of x, weight and bias, each a float64."""
    inputs = [t.detach().to(dtype).requires_grad_() for t in (x, weight, bias)]
    y = layer(*inputs, activation)
    return [t.detach().double() for t in (y, *torch.autograd.grad(y, inputs, dy.to(dtype)))]


def assert_exact(*args) -> None:
    ours = evaluate(fused.conv_pool, *args)
    theirs = evaluate(reference, *args, dtype=torch.float64)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("activation", ["none", "relu", "absolute"])
@pytest.mark.parametrize("batch", [0, 1, 2, 7, 16, 64, 250])
@pytest.mark.parametrize(("channels", "out", "side"), [(1, 6, 32), (3, 6, 32), (6, 16, 14)])
def test_lenet_layers_are_exact(channels, out, side, batch, activation):
    assert_exact(*case(batch, channels, out, side, side), activation)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("out", [1, 7, 8, 9, 16, 17, 33])
@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 6), (6, 11), (28, 13), (8, 36)])
def test_any_shape_is_exact(height, width, out, channels):
    assert_exact(*case(3, channels, out, height, width), ["none", "relu", "absolute"][out % 3])


def test_real_numbers_agree_with_float64():
    generator = torch.Generator().manual_seed(0)
    shapes = ((64, 6, 14, 14), (16, 6, 5, 5), (16,), (64, 16, 5, 5))
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    ours = evaluate(fused.conv_pool, *tensors, "relu")
    theirs = evaluate(reference, *tensors, "relu", dtype=torch.float64)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-6 * other.norm()


def test_the_first_of_equal_values_receives_the_gradient():
    x = torch.ones(1, 1, 6, 6)
    x, weight, bias, dy = x, torch.ones(1, 1, 5, 5), torch.zeros(1), torch.ones(1, 1, 1, 1)
    _, dx, _, _ = evaluate(fused.conv_pool, x, weight, bias, dy, "relu")
    assert torch.equal(dx[0, 0], F.pad(torch.ones(5, 5), (0, 1, 0, 1)).double())


@pytest.mark.parametrize("activation", ["none", "relu", "absolute"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(("channels", "out"), [(1, 6), (3, 6), (6, 16)])
def test_inputs_that_are_not_finite_are_not_hidden(channels, out, bad, activation):
    x, weight, bias, _ = case(2, channels, out, 20, 20)
    x[0, -1, 7, 9] = bad
    weight.requires_grad_()
    y = fused.conv_pool(x, weight, bias, activation)
    theirs = reference(x, weight, bias, activation)
    if bad != bad:
        assert torch.equal(y.isnan(), theirs.isnan())
    assert torch.equal(y[1], theirs[1]) and not y[0].isfinite().all()
    (gradient,) = torch.autograd.grad(y.sum(), weight)
    assert not gradient.isfinite().all()


def test_weights_that_are_not_finite_are_not_hidden():
    x, weight, bias, _ = case(2, 1, 6, 20, 20)
    weight[1, 0, 2, 2], weight[2, 0, 4, 0], bias[4] = float("nan"), float("inf"), float("nan")
    ours, theirs = (layer(x, weight, bias, "relu") for layer in (fused.conv_pool, reference))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_gradient_that_is_not_finite_reaches_every_parameter():
    x, weight, bias, dy = case(2, 3, 6, 20, 20)
    dy[0, :, 2, 3] = float("nan")
    _, dx, dweight, dbias = evaluate(fused.conv_pool, x, weight, bias, dy, "none")
    assert all(bool(t.isnan().any()) for t in (dx[0], dweight, dbias))
    assert not dx[1].isnan().any()


@pytest.mark.parametrize("activation", ["relu", "absolute"])
@pytest.mark.parametrize(("channels", "out"), [(1, 6), (6, 16)])
def test_where_all_is_zero_nothing_flows_back(channels, out, activation):
    x, weight, bias, dy = case(2, channels, out, 14, 14)
    x[1], bias[:] = 0, 0
    y, dx, dweight, dbias = evaluate(fused.conv_pool, x, weight, bias, dy, activation)
    alone = evaluate(fused.conv_pool, x[:1], weight, bias, dy[:1], activation)
    assert not y[1].any() and not dx[1].any()
    assert torch.equal(dweight, alone[2]) and torch.equal(dbias, alone[3])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_relu_silenced_stops_even_gradients_that_are_not_finite(bad):
    x, weight, bias, dy = case(2, 3, 6, 14, 14)
    bias[2], dy[:, 2] = -1e6, bad
    assert_exact(x, weight, bias, dy, "relu")


@pytest.mark.parametrize("activation", ["none", "relu", "absolute"])
def test_no_bias(activation):
    x, weight, _, dy = case(5, 3, 6, 16, 16)
    weight.requires_grad_()
    (ours,) = torch.autograd.grad(fused.conv_pool(x, weight, None, activation), weight, dy)
    (theirs,) = torch.autograd.grad(reference(x, weight, None, activation), weight, dy)
    assert torch.equal(ours, theirs)


def test_any_memory_layout():
    x, weight, bias, dy = case(4, 3, 6, 12, 16)
    theirs = evaluate(reference, x, weight, bias, dy, "relu", dtype=torch.float64)
    spread = torch.zeros(4, 3, 24, 16)[:, :, ::2].copy_(x)
    layouts = {
        "channels_last": [t.to(memory_format=torch.channels_last) for t in (x, weight, dy)],
        "strided": [spread, weight, dy.flip(0).flip(0)],
        "transposed": [t.mT.contiguous().mT for t in (x, weight, dy)],
        "expanded": [x, weight, dy[:1, :, :1, :1].expand_as(dy)],
    }
    for name, (x2, weight2, dy2) in layouts.items():
        bias2 = torch.stack([bias, bias], 1)[:, 0]
        ours = evaluate(fused.conv_pool, x2, weight2, bias2, dy2, "relu")
        if name == "expanded":
            theirs = evaluate(reference, x, weight, bias, dy2, "relu", dtype=torch.float64)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)), name


def test_gradients_only_where_they_are_wanted():
    x, weight, bias, dy = case(4, 3, 6, 12, 12)
    y = fused.conv_pool(x, weight.requires_grad_(), bias, "relu")
    y.backward(dy)
    assert x.grad is None and bias.grad is None and weight.grad is not None
    with torch.no_grad():
        assert not fused.conv_pool(x, weight, bias, "relu").requires_grad
    with torch.inference_mode():
        assert torch.equal(fused.conv_pool(x, weight, bias, "relu"), y)


def test_second_derivative_is_refused():
    x, weight, bias, _ = case(1, 1, 2, 8, 8)
    y = fused.conv_pool(x, weight.requires_grad_(), bias, "none")
    (gradient,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_any_number_of_threads_gives_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    shapes = ((41, 6, 14, 14), (16, 6, 5, 5), (16,), (41, 16, 5, 5))
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(evaluate(fused.conv_pool, *tensors, "relu"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_several_python_threads_at_once():
    tensors = case(32, 6, 16, 14, 14)
    expected = evaluate(fused.conv_pool, *tensors, "relu")
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(evaluate, fused.conv_pool, *tensors, "relu") for _ in range(40)]
        for future in futures:
            assert all(torch.equal(a, b) for a, b in zip(expected, future.result(), strict=True))


def test_supports():
    x, weight = torch.zeros(2, 3, 32, 32), torch.zeros(6, 3, 5, 5)
    assert fused.supports(x, weight)
    assert fused.supports(x[:, :, :6, :6], weight)
    assert not fused.supports(x[:, :, :5], weight)
    assert not fused.supports(x[..., :5], weight)
    assert not fused.supports(x[0], weight)
    assert not fused.supports(x[:, :1], weight)
    assert not fused.supports(x, weight[..., :3, :3])
    assert not fused.supports(x.double(), weight.double())
    assert not fused.supports(x, weight.double())
    assert not fused.supports(x, weight.to("meta"))
    assert not fused.supports(x.to_sparse(), weight)
    assert not fused.supports(x.to("meta"), weight.to("meta"))
    assert not fused.supports(x[:, None], weight[None])


@pytest.mark.parametrize("module", [(torch.compiler, "is_compiling"), (torch.jit, "is_tracing")])
def test_supports_nothing_that_is_recorded(monkeypatch, module):
    x, weight = torch.zeros(2, 3, 32, 32), torch.zeros(6, 3, 5, 5)
    monkeypatch.setattr(*module, lambda: True)
    assert not fused.supports(x, weight)


@pytest.mark.parametrize("full", ["conv_pool_forward", "conv_pool_backward"])
def test_without_memory_there_is_no_result(monkeypatch, full):
    class Full:
        conv_pool_forward = conv_pool_backward = staticmethod(lambda *_: 0)

    monkeypatch.setattr(Full, full, lambda *_: 1)
    monkeypatch.setattr(fused, "_library", Full)
    with pytest.raises(MemoryError):
        evaluate(fused.conv_pool, *case(2, 1, 6, 12, 12), "relu")


# ---- compiling ----------------------------------------------------------------------------------


def test_available_wherever_it_can_be_compiled():
    assert fused.unavailable() is None


@pytest.fixture
def fresh(monkeypatch, tmp_path) -> None:
    """The module as if just imported, its cache empty."""
    monkeypatch.setattr(fused, "_library", None)
    monkeypatch.setattr(fused, "_reason", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_another_default_type_changes_nothing(fresh):
    """Lightning's double precision sets it, for as long as a network is trained."""
    tensors = case(2, 1, 6, 12, 12)
    expected = evaluate(fused.conv_pool, *tensors, "relu")
    fused._library = None
    torch.set_default_dtype(torch.float64)
    try:
        assert fused.unavailable() is None
        assert all(map(torch.equal, evaluate(fused.conv_pool, *tensors, "relu"), expected))
    finally:
        torch.set_default_dtype(torch.float32)


def test_another_default_device_changes_nothing(fresh):
    tensors = case(2, 1, 6, 12, 12)
    expected = evaluate(fused.conv_pool, *tensors, "relu")
    fused._library = None
    with torch.device("meta"):
        assert fused.unavailable() is None
        assert all(map(torch.equal, evaluate(fused.conv_pool, *tensors, "relu"), expected))


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false", "'"])
def test_missing_or_broken_compiler_is_one_sentence(fresh, monkeypatch, compiler):
    monkeypatch.setenv("CC", compiler)
    reason = fused.unavailable()
    assert reason and reason.startswith("The fused kernel is not available: ")
    assert "\n" not in reason
    with pytest.raises(RuntimeError, match="not available"):
        fused.conv_pool(torch.zeros(1, 1, 6, 6), torch.zeros(1, 1, 5, 5), None, "relu")


def change_source(monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes) -> None:
    """Have another source compiled; it must hold the old text once."""
    load = fused_build.load

    def changed(source: bytes) -> ctypes.CDLL:
        assert source.count(old) == 1
        return load(source.replace(old, new))

    monkeypatch.setattr(fused_build, "load", changed)


def test_source_that_does_not_compile_is_one_sentence(fresh, monkeypatch, tmp_path):
    change_source(monkeypatch, b"#include <math.h>", b"nonsense")
    reason = fused.unavailable()
    assert reason and "error" in reason and "\n" not in reason
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_kernel_that_computes_wrongly_is_refused(fresh, monkeypatch):
    change_source(monkeypatch, b"value > best", b"value < best")
    assert "self-test" in (fused.unavailable() or "")
    with pytest.raises(RuntimeError, match="self-test"):
        evaluate(fused.conv_pool, *case(2, 1, 6, 12, 12), "relu")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_can_use_it():
    code = """
import os, torch
from lenet_lightning.networks import fused, fused_build
from tests.networks.compiler import needs_kernel
torch.set_num_threads(2)
assert fused.unavailable() is None
x, weight = torch.randn(64, 1, 32, 32), torch.randn(6, 1, 5, 5)
y = fused.conv_pool(x, weight, None, "relu")
child = os.fork()
if child == 0:
    os._exit(fused.conv_pool(x, weight, None, "relu").tolist() != y.tolist())
exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0
