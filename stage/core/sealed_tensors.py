"""Tensors in a safetensors file under a seal, so that a damaged one is not taken for a network."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stage.core.durable import whole_file

SEAL = "seal"  # in the file's metadata: SHA-256 over names, types, shapes and bytes


def write_sealed_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write copies of the tensors, which may lie on any device, atomically."""
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    with whole_file(path) as partial:
        save_file(copies, partial, metadata={SEAL: _seal(copies)})


def read_sealed_tensors(path: Path) -> dict[str, Tensor]:
    """What `write_sealed_tensors` wrote, on the CPU. Raises ValueError if a byte was changed, FileNotFoundError if there is no file."""
    try:
        with safe_open(path, framework="pt") as file:
            told, tensors = (file.metadata() or {}).get(SEAL), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except SafetensorError as error:
        raise ValueError(f"no tensors that can be read ({error})") from None
    if told != _seal(tensors):
        raise ValueError("a seal that does not fit it, so that it was changed")
    return tensors


def _seal(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {[*value.shape]}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
