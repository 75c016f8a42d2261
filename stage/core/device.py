"""Where networks run, and in which precision. The functions import torch themselves, so that importing this module is quick."""

from typing import TYPE_CHECKING

from stage.core.errors import MachineError

if TYPE_CHECKING:
    import torch


def device(choice: str) -> str:
    """`auto` is the first GPU where there is one; a MachineError where `cuda` is asked for and missing."""
    import torch

    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise MachineError(
            "Expected a GPU for execution.device: cuda, found none that torch can use. Set it to auto or cpu in params.yaml."
        )
    return "cuda" if available and choice != "cpu" else "cpu"


def dtype_of(precision: str, device: str) -> "torch.dtype":
    """What matrix products are computed in; `auto` is bfloat16 on a GPU that has it, float16 on another, float32 on the CPU."""
    import torch

    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if torch.device(device).type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def autocast(device: "str | torch.device", dtype: "torch.dtype") -> "torch.autocast":
    """A context in which networks compute in `dtype`, sums and norms in float32; without effect for float32."""
    import torch

    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype != torch.float32)
