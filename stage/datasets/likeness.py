"""How alike photographs are: the distance between small pictures of them, outside the defect.

N normal photographs, H, W image size, E edge of a small picture. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stage.core.arrays import Pixels
from stage.core.wording import apart
from stage.datasets.examples import column, pairs_of
from stage.datasets.resize import covered, resize_image

EDGE = 16  # px; enough to see where the part lies and how it is lit, too little to see its texture
USUAL = 0.95  # quantile of the normal photographs' distances to their nearest; a defect's photograph farther from all of them is unlike
FEW = 3  # normal photographs; among fewer, no distance is unusual


class Likeness:
    """The normal photographs of a category as small pictures. Distances are root mean squares over cells and channels, of 255."""

    def __init__(self, normals: Iterable[Pixels]) -> None:
        self.pictures = np.stack([_small(image) for image in normals])

    def nearest(self, image: Pixels, mask: Pixels, count: int) -> list[int]:
        """The indices of the `count` normal photographs most like a defect's photograph, the most similar first."""
        return [int(number) for number in self.distances(image, mask).argsort(kind="stable")[:count]]

    def distances(self, image: Pixels, mask: Pixels) -> NDArray[np.float64]:
        """The distance of each normal photograph, (N,), over the cells that the mask does not touch; over all where it touches all."""
        bare = covered(mask, EDGE) == 0
        bare = bare if bare.any() else ~bare
        return np.sqrt(((self.pictures - _small(image))[:, bare] ** 2).mean(axis=(1, 2)))

    def others(self, number: int) -> NDArray[np.float64]:
        """The distance of each normal photograph from one of them, (N,); its own is infinite."""
        distances = np.sqrt(((self.pictures - self.pictures[number]) ** 2).mean(axis=(1, 2, 3)))
        distances[number] = np.inf
        return distances

    def usual(self) -> float:
        """The distance within which 95 % of the normal photographs have another one; infinite for fewer than three."""
        if len(self.pictures) < FEW:
            return np.inf
        from sklearn.neighbors import NearestNeighbors  # here, because it takes a second to load, and planning does without

        flat = self.pictures.reshape(len(self.pictures), -1)
        nearest, _ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat).kneighbors()
        return float(np.quantile(nearest, USUAL)) / np.sqrt(flat.shape[1])


def unlike_types(folder: Path, category: str) -> list[str]:
    """A sentence for each defect type of a prepared category most of whose training photographs are unlike every normal one.

    Every background available for such a type shows the part in another position or light.
    """
    normal, defective = (pairs_of(folder, "train", good=good) for good in (True, False))
    likeness = Likeness(pair.image for pair in normal)
    usual, nearest = likeness.usual(), dict[str, list[float]]()
    for defect, pair in zip(column(defective, "defect"), defective, strict=True):
        nearest.setdefault(defect, []).append(float(likeness.distances(*pair).min()))
    return [_told(category, defect, found, usual) for defect, found in sorted(nearest.items()) if np.median(found) > usual]


def _told(category: str, defect: str, found: list[float], usual: float) -> str:
    median, most = apart(float(np.median(found)), usual, 1)
    return (
        f"{category}, {defect}: {sum(one > usual for one in found)} of {len(found)} training photographs are unlike every normal one "
        f"(by {median} of 255 in the median; normal ones differ from their nearest by up to {most}). Take more normal "
        "photographs as these were taken: samples of this type have backgrounds that do not fit."
    )


def _small(image: Pixels) -> NDArray[np.float64]:
    return resize_image(image, EDGE).astype(np.float64)
