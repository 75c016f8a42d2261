"""Where networks run, and in which precision. The functions import torch themselves, and only where the answer needs it: its import
takes two seconds.
"""

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from stage.core.errors import MachineError

if TYPE_CHECKING:
    import torch

DRIVERS = ("libcuda.so.1", "libamdhip64.so")  # of NVIDIA and AMD; torch finds no GPU on Linux without one of them


def limit_threads(count: int) -> None:
    """Let torch use `count` threads, here and in processes started from here; does not import torch."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def device(choice: str) -> str:
    """`cuda` or `cpu`; `auto` takes a GPU if there is one. Raises MachineError if `cuda` is asked for and missing."""
    available = choice != "cpu" and _may_have_gpu() and _has_gpu()
    if choice == "cuda" and not available:
        raise MachineError(
            "Expected a GPU for execution.device: cuda, found none that torch can use. Set it to auto or cpu in params.yaml."
        )
    return "cuda" if available else "cpu"


def dtype_name(precision: str, device: str) -> str:
    """The data type of matrix products; `auto` is bfloat16 on a GPU that has it, float16 on another, float32 on the CPU."""
    if precision != "auto":
        return precision
    if device == "cpu":
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def dtype_of(precision: str, device: str) -> "torch.dtype":
    """The data type that `dtype_name` names."""
    import torch

    return getattr(torch, dtype_name(precision, device))


def device_name(device: str) -> str:
    """`cpu`, or the GPU's model: between models, the last bits of results differ."""
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(device)


def autocast(device: "str | torch.device", dtype: "torch.dtype") -> "torch.autocast":
    """A context in which networks compute in `dtype`, sums and norms in float32; without effect for float32."""
    import torch

    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype != torch.float32)


def _may_have_gpu() -> bool:
    """Whether to ask torch: not where all GPUs are hidden, as from a worker without one, nor on Linux without a driver."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return sys.platform != "linux" or any(map(_loads, DRIVERS))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
