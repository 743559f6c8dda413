"""Emulation of CUDA's autocast on a CPU: the dtypes of a network in low precision.

The CPU's own autocast leaves out most of what CUDA computes in float32: normalisation, softmax,
sums, powers. This mode has CUDA's lists, by the operations' names, for tensors on any device.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

LOW = frozenset(
    {
        *("linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm"),
        *("conv1d", "conv2d", "conv3d", "einsum", "prelu", "scaled_dot_product_attention"),
    }
)
"""Operations, by their Python name, that CUDA's autocast computes in low precision."""
FLOAT32 = frozenset(
    {
        *("layer_norm", "group_norm", "rms_norm", "softmax", "log_softmax", "softplus"),
        *("exp", "expm1", "log", "log1p", "log2", "log10", "logsumexp", "pow", "__pow__", "square"),
        *("sum", "cumsum", "prod", "norm", "normalize", "linalg_vector_norm", "cosine_similarity"),
        *("rsqrt", "reciprocal", "__rdiv__", "__rpow__", "cross_entropy", "mse_loss"),
    }
)
"""Operations that it computes in float32."""
RECURRENT = frozenset({"lstm", "gru"})
"""As `LOW`; but CPUs have none in float16, so here only what they give is in low precision."""


class CudaAutocast(TorchFunctionMode):
    """While active, operations cast what they are given as CUDA's autocast does."""

    def __init__(self, low: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.low = low
        self.switched = ExitStack()

    def __enter__(self) -> Self:
        # For modules that ask whether it is on; tensors on other devices are left alone.
        self.switched.enter_context(switched_on(self.low))
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.switched.close()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        if name in LOW:
            return func(*cast(args, self.low), **cast(kwargs, self.low))
        if name in FLOAT32:
            return func(*cast(args, torch.float32), **cast(kwargs, torch.float32))
        if name in RECURRENT:
            return cast(func(*cast(args, torch.float32), **kwargs), self.low)
        return func(*args, **kwargs)


def cast(values: Any, dtype: torch.dtype) -> Any:
    """Values with every floating-point tensor in a number format; tokens stay whole numbers."""
    if isinstance(values, Mapping):
        return {name: cast(value, dtype) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(cast(value, dtype) for value in values)
    if isinstance(values, Tensor) and values.is_floating_point():
        return values.to(dtype)
    return values


@contextmanager
def switched_on(low: torch.dtype) -> Iterator[None]:
    """Torch's own CUDA autocast; unlike `torch.autocast`, on machines without a GPU too."""
    was = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", low)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", was[0])
        torch.set_autocast_dtype("cuda", was[1])


@contextmanager
def fake_cuda(low: torch.dtype) -> Iterator[Callable[[Tensor], Tensor]]:
    """Torch's own CUDA autocast, on tensors that have shapes and no numbers.

    Yields:
        What makes such a tensor of a plain one.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), mode, switched_on(low):
        yield lambda x: FakeTensor(mode, torch.empty_like(x, device="meta"), torch.device("cuda:0"))
