"""Which GPUs the workers of this machine are bound to."""

import os
import re
import shutil
import subprocess


def gpu_tokens() -> list[str]:
    """The name in CUDA_VISIBLE_DEVICES of each GPU, or part of one, that this process may use: its UUID if that is known."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return given.split(",")
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        if tokens := parse_tokens(listed):
            return tokens
    import torch  # here, because `prepare` asks for its engine alone

    return [str(number) for number in range(torch.cuda.device_count())]


def parse_tokens(listed: str) -> list[str]:
    """The UUIDs in the output of `nvidia-smi -L`; MIG devices replace the GPU that is split into them."""
    tokens: list[str] = []
    for token in re.findall(r"UUID: ((?:GPU|MIG)-[\w/-]+)", listed):
        if token.startswith("MIG") and tokens and tokens[-1].startswith("GPU"):
            tokens.pop()
        tokens.append(token)
    return tokens
