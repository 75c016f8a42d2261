"""Near-duplicates are found under another exposure, and not where photographs only share what all of a category share."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stage.datasets.near_duplicates import BLOCK, clusters, descriptors, near_duplicate_lines, near_duplicates, similar_pairs

Picture = NDArray[np.uint8]
SIDE = 64


def parts(count: int, seed: int = 0) -> list[Picture]:
    """Photographs of parts: the same bright disc, a gradient of light, and a texture of their own."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    disc = 90.0 * (np.hypot(rows - 0.5, columns - 0.5) < 0.4)
    pictures = [60 + disc + 30 * random.random() * rows + 12 * _texture(random) for _ in range(count)]
    return [np.repeat(np.clip(one, 0, 255)[..., None], 3, 2).astype(np.uint8) for one in pictures]


def _texture(random: np.random.Generator) -> NDArray[np.float64]:
    return np.kron(random.standard_normal((16, 16)), np.ones((4, 4)))


def exposed(image: Picture, light: float, gamma: float) -> Picture:
    return np.rint(255 * (light * image / 255.0) ** gamma).astype(np.uint8)


def found(images: list[Picture], **groups: str) -> list[tuple[str, ...]]:
    paths = [f"{k}" for k in range(len(images))]
    return [one.files for one in near_duplicates(images, paths, ["train"] * len(images), groups)]


@pytest.mark.parametrize(("light", "gamma"), [(1.0, 1.0), (0.5, 1.0), (1.3, 1.0), (0.8, 1.4)])
def test_an_exposure_does_not_hide_a_duplicate(light: float, gamma: float) -> None:
    """The magnetic tiles: one tile in several lights would be trained on and tested on."""
    images = parts(40)

    assert found([*images, exposed(images[7], light, gamma)]) == [("40", "7")]


def test_what_all_photographs_share_makes_no_duplicate() -> None:
    """All bottles lie alike on one ground: every pair would be reported, at a correlation of 0.98."""
    images = parts(40)
    flat = np.stack([one.mean(2).ravel() for one in images])

    assert np.corrcoef(flat).min() > 0.8
    assert found(images) == []


def test_a_known_group_is_not_proposed_again() -> None:
    """A user would be asked the same for ever."""
    images = parts(20)
    images = [*images, exposed(images[3], 0.7, 1.0), exposed(images[5], 0.7, 1.0)]

    assert found(images, **{"3": "A", "20": "A"}) == [("21", "5")]
    assert sorted(found(images, **{"3": "A", "20": "B"})) == [("20", "3"), ("21", "5")]


def test_clusters_astride_the_split_come_first() -> None:
    """The ones that matter would stand below hundreds that do not."""
    images = parts(20)
    images = [*images, images[3], exposed(images[5], 0.7, 1.2)]
    clustered = near_duplicates(images, list(map(str, range(22))), ["train"] * 21 + ["test"], {})

    assert [(one.files, one.straddles) for one in clustered] == [(("21", "5"), True), (("20", "3"), False)]
    assert near_duplicate_lines(clustered, "part")[0].startswith(
        "part: 4 photographs look like near-duplicates, in 2 clusters, 1 of them on both sides"
    )
    assert near_duplicate_lines([], "part") == []


def test_a_chain_does_not_join_unlike_images() -> None:
    """A turning screw: each picture is like the next, and the first and the last are of different screws. By hand: cosines of 36 degrees."""
    angles = np.radians(36.0 * np.arange(5))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    assert len(similar_pairs(vectors, 0.8).first) == 4
    assert sorted(map(len, clusters(vectors, 0.8))) == [2, 2]


def test_pairs_are_found_across_blocks() -> None:
    """From the second thousand of images on, duplicates would be missed."""
    vectors = np.random.default_rng(0).standard_normal((2 * BLOCK + 50, 64)).astype(np.float32)
    vectors[-1] = vectors[3]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = similar_pairs(vectors, 0.95)

    assert list(zip(pairs.first, pairs.second, strict=True)) == [(3, 2 * BLOCK + 49)]


def test_flat_and_equal_images_are_no_error() -> None:
    """A folder of one picture many times, or of black ones, would end in a division by zero."""
    black = np.zeros((SIDE, SIDE, 3), np.uint8)

    assert not descriptors([black] * 3).any()
    assert found([black]) == []
    assert found([parts(1)[0]] * 3) == []
