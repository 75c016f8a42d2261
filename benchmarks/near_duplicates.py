"""What `stage groups` finds on real photographs, against their groups file and against copies that were exposed otherwise.

Run it with `python -m benchmarks.near_duplicates ../shared/data` from the project's root; two minutes on one core.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from stage.datasets.images import read_image
from stage.datasets.near_duplicates import SIMILAR, clusters, descriptors, similar_pairs
from stage.datasets.resize import resize_image

SIZE = 256  # px, as in the paper
MANY = 5000  # images of the timing
SETS = ("magnetic_tile", "ball_screw/ball_screw", "mvtec_bottle/bottle", "mvtec_screw/screw")
Pictures = list[NDArray[np.uint8]]
Matrix = NDArray[np.bool_]


class Found(NamedTuple):
    """Pairs that were found, and that are of one group, above the diagonal; how many are both."""

    found: int
    true: int
    both: int

    def __str__(self) -> str:
        precision, recall = self.both / max(self.found, 1), self.both / max(self.true, 1)
        return f"{self.found} ({precision:.2f} / {recall:.2f})" if self.true else str(self.found)


def pictures(folder: Path) -> tuple[Pictures, list[str]]:
    """The prepared images of a data set, and the group of each: that of its groups file, else its own path."""
    listed = folder / "groups.csv"
    if listed.is_file():
        table = pd.read_csv(listed, dtype=str)
        home = folder.parent if (folder.parent / str(table["file"][0])).is_file() else folder
        paths, groups = [home / name for name in table["file"]], table["group"].tolist()
    else:
        paths = sorted(path for side in ("train", "test") for path in (folder / side).glob("*/*.*"))
        groups = [str(path) for path in paths]
    return [resize_image(read_image(path, max_megapixels=200).pixels, SIZE) for path in paths], groups


def exposed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with 60 % of the light and a gamma of 1.2."""
    return np.rint(255 * (0.6 * image / 255.0) ** 1.2).astype(np.uint8)


def pairs_found(images: Pictures, groups: Sequence[str]) -> tuple[Found, Found, float]:
    """The similar pairs, the pairs within clusters, and the seconds that both took."""
    start = time.perf_counter()
    vectors = descriptors(images)
    pairs, members = similar_pairs(vectors, SIMILAR), clusters(vectors, SIMILAR)
    seconds = time.perf_counter() - start
    shape = (len(images), len(images))
    similar, clustered = np.zeros(shape, bool), np.zeros(shape, bool)
    similar[pairs.first, pairs.second] = True
    for some in members:
        clustered[np.ix_(some, some)] = True
    names = np.array(groups, dtype=object)
    same = names[:, None] == names[None]
    return _compared(similar, same), _compared(clustered, same), seconds


def _compared(found: Matrix, same: Matrix) -> Found:
    above = np.triu(np.ones(found.shape, bool), 1)
    return Found(int((found & above).sum()), int((same & above).sum()), int((found & same & above).sum()))


def main(shared: Path) -> None:
    """Print the table."""
    table = Table("data", "images", "pairs (precision / recall)", "in clusters", "with exposed copies of a tenth", "s")
    for name in SETS:
        images, groups = pictures(shared / name)
        found, clustered, seconds = pairs_found(images, groups)
        copied = range(0, len(images), 10)
        both, owners = [*images, *(exposed(images[k]) for k in copied)], [*map(str, range(len(images))), *map(str, copied)]
        planted, _, _ = pairs_found(both, owners)
        table.add_row(name, str(len(images)), str(found), str(clustered), f"{planted.both} of {planted.true}", f"{seconds:.1f}")
    Console(width=140).print(table)
    noise = np.random.default_rng(0).integers(0, 256, (MANY, 64, 64, 3), dtype=np.uint8)
    _, _, seconds = pairs_found(list(noise), [str(k) for k in range(MANY)])
    Console().print(f"{MANY} images of noise: {seconds:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
