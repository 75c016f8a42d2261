"""Near-duplicates: photographs of a category that resemble each other far more than its photographs usually do.

They are candidates for a group, which only a person can confirm: two bolts on one plate differ less than one bolt in two lights.
N images, D = 1024 values of a thumbnail. A similarity is a cosine, at most 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from stage.core.wording import counted

SIDE = 32  # px of a thumbnail
SIMILAR = 0.6  # docs/data.md shows what it finds on photographs whose groups are known
BLOCK = 1024  # rows that are compared at once
Vectors = NDArray[np.float32]


class Cluster(NamedTuple):
    """Images that resemble each other, sorted by path, their mean similarity, and whether they lie on both sides of the split."""

    files: tuple[str, ...]
    similarity: float
    straddles: bool


class SimilarPairs(NamedTuple):
    """Indices of similar images, `first` below `second`, and their similarity, each (P,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: Vectors


def near_duplicates(
    images: Iterable[NDArray[np.uint8]], paths: Sequence[str], splits: Sequence[str], groups: Mapping[str, str], threshold: float = SIMILAR
) -> list[Cluster]:
    """Clusters of similar images, (H, W, 3) uint8, those on both sides of the split first, then by similarity.

    A cluster whose images are all of one group in `groups` (by path) is known, and left out.
    """
    vectors = descriptors(images)
    found: list[Cluster] = []
    for members in clusters(vectors, threshold):
        files = tuple(sorted(paths[int(k)] for k in members))
        if len({groups.get(file, file) for file in files}) > 1:
            cosines = (vectors[members] @ vectors[members].T)[np.triu_indices(len(members), 1)]
            found.append(Cluster(files, round(float(cosines.mean()), 3), len({splits[int(k)] for k in members}) > 1))
    return sorted(found, key=lambda one: (not one.straddles, -one.similarity, one.files))


def descriptors(images: Iterable[NDArray[np.uint8]]) -> Vectors:
    """What makes each image differ from the others, as unit vectors (N, min(N, D)); zero where nothing does.

    They are grey thumbnails of zero mean and unit norm, so that exposure and contrast do not count, less their mean and whitened, so
    that what all images share and how their light varies do not count either. The variances are raised by their mean: a direction that
    hardly varies holds only noise.
    """
    thumbnails = _unit(_centred(np.stack([_thumbnail(image) for image in images]), axis=1))
    residuals = _centred(thumbnails, axis=0)
    along, variances = _principal(residuals)
    floor = variances.sum() / min(residuals.shape)
    if floor < np.finfo(np.float32).eps:  # all images are one
        return np.zeros_like(along)
    return _unit(along / np.sqrt(variances + floor))


def _principal(residuals: Vectors) -> tuple[Vectors, Vectors]:
    """The residuals (N, D) along their principal directions, (N, min(N, D)), and the variances there.

    N images differ in fewer than N directions, so few images need only the small N x N matrix, and a hundredth of the time.
    """
    count, size = residuals.shape
    if count >= size:
        variances, directions = np.linalg.eigh(residuals.T @ residuals / count)
        return residuals @ directions, np.maximum(variances, 0)
    exact = residuals.astype(np.float64)  # roots of the products' rounding errors would show in float32
    variances, images = np.linalg.eigh(exact @ exact.T / count)
    variances = np.maximum(variances, 0)
    return (images * np.sqrt(count * variances)).astype(np.float32), variances.astype(np.float32)


def similar_pairs(vectors: Vectors, threshold: float) -> SimilarPairs:
    """All pairs of unit vectors whose cosine is at least `threshold`, compared block by block."""
    parts: list[NDArray[np.float64]] = [np.empty((3, 0))]
    for start in range(0, len(vectors), BLOCK):
        cosines = np.triu(vectors[start : start + BLOCK] @ vectors[start:].T, 1)
        rows, columns = np.nonzero(cosines >= threshold)
        parts.append(np.stack([rows + start, columns + start, cosines[rows, columns]]).astype(np.float64))
    first, second, similarity = np.concatenate(parts, axis=1)
    return SimilarPairs(first.astype(np.int64), second.astype(np.int64), similarity.astype(np.float32))


def clusters(vectors: Vectors, threshold: float) -> list[NDArray[np.int64]]:
    """Disjoint sets of two and more vectors whose mean cosine is at least `threshold`.

    A chain of similar pairs may join unlike images, so each connected part is divided by average linkage.
    """
    pairs = similar_pairs(vectors, threshold)
    graph = coo_matrix((np.ones(len(pairs.first)), (pairs.first, pairs.second)), (len(vectors),) * 2)
    _, labels = connected_components(graph, directed=False)
    found: list[NDArray[np.int64]] = []
    for label in np.flatnonzero(np.bincount(labels) > 1):
        members = np.flatnonzero(labels == label)
        distances = np.clip(1 - vectors[members] @ vectors[members].T, 0, None)
        np.fill_diagonal(distances, 0)
        parts = fcluster(linkage(squareform(distances, checks=False), "average"), 1 - threshold, "distance")
        found += [members[parts == part] for part in np.unique(parts) if (parts == part).sum() > 1]
    return found


def near_duplicate_lines(found: Sequence[Cluster], category: str) -> list[str]:
    """A sentence on the near-duplicates of a category without a groups file, if there are any."""
    if not found:
        return []
    count, astride = sum(len(one.files) for one in found), sum(one.straddles for one in found)
    return [
        f"{category}: {count} photographs look like near-duplicates, in {counted(len(found), 'cluster')}, {astride} of them on both sides of the split; no "
        f'groups file says whether they show the same part. Run `stage groups "{category}"` to look at them.'
    ]


def _thumbnail(image: NDArray[np.uint8]) -> Vectors:
    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(grey, np.float32).ravel()


def _centred(values: Vectors, *, axis: int) -> Vectors:
    return values - values.mean(axis=axis, keepdims=True)


def _unit(values: Vectors) -> Vectors:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, lengths, out=np.zeros_like(values), where=lengths > np.finfo(np.float32).eps)
