"""Where networks run."""

import torch


def device(choice: str) -> str:
    """`auto` is the first GPU where there is one; a ValueError where `cuda` is asked for and missing."""
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise ValueError("Expected a GPU for execution.device: cuda, found none that torch can use. Set it to auto or cpu in params.yaml.")
    return "cuda" if available and choice != "cpu" else "cpu"
