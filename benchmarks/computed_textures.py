"""Draws pictures of computed textures: what `stage make-base` is tried on where there are no photographs.

`python -m benchmarks.computed_textures FOLDER COUNT SIDE`
"""

import sys
from pathlib import Path

from PIL import Image

from stage.synthesis.procedural import procedural


def main(folder: str, count: str, side: str) -> None:
    """Write COUNT square pictures of SIDE px, one per seed from 0."""
    Path(folder).mkdir(parents=True)
    for seed in range(int(count)):
        Image.fromarray(procedural(int(side), int(side), seed)).save(Path(folder) / f"{seed:04}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
