"""The emulation of CUDA's autocast for tests casts as CUDA does."""

from collections.abc import Callable, Mapping

import pytest
import torch
from cuda_autocast import CudaAutocast, fake_cuda
from torch import Tensor
from torch.nn import functional

OPERATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "layer_norm": lambda x: functional.layer_norm(x, (4,)),
    "group_norm": lambda x: functional.group_norm(x, 2),
    "rms_norm": lambda x: functional.rms_norm(x, (4,)),
    "batch_norm": lambda x: functional.batch_norm(x, None, None, training=True),
    "softmax": lambda x: x.softmax(1),
    "softplus": functional.softplus,
    "log_softmax": lambda x: functional.log_softmax(x, 1),
    "logsumexp": lambda x: x.logsumexp(1),
    "sum": lambda x: x.sum(1),
    "cumsum": lambda x: x.cumsum(1),
    "mean": lambda x: x.mean(1),
    "amax": lambda x: x.amax(1),
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log2": torch.log2,
    "power": lambda x: x**2,
    "root": lambda x: x**0.5,
    "square": torch.square,
    "norm": lambda x: x.norm(dim=1),
    "vector_norm": torch.linalg.vector_norm,
    "normalize": lambda x: functional.normalize(x, dim=1),
    "cosine_similarity": lambda x: functional.cosine_similarity(x, x),
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "one_over": lambda x: 1 / x,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "sine": torch.sin,
    "matmul": lambda x: x @ x,
    "linear": lambda x: functional.linear(x, x),
}


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_the_double_gives_the_number_formats_of_cudas_autocast(low: torch.dtype) -> None:
    x = torch.rand(4, 4).to(low)
    with fake_cuda(low) as fake:
        expected = {name: operation(fake(x)).dtype for name, operation in OPERATIONS.items()}
    with CudaAutocast(low):
        assert {name: operation(x).dtype for name, operation in OPERATIONS.items()} == expected
