"""The training set as latents: through windows of the defects, or, without them, as it always was."""

import numpy as np
import pytest
import torch
from miniatures import PATCH, SIZE, small_base, small_params

from stage.core.errors import ConfigError
from stage.core.model_params import StageMethod
from stage.datasets.examples import DefectImages
from stage.datasets.windows import cut, turn, window
from stage.model.base import pixels_to_tensor, tensor_to_pixels
from stage.model.codec import PatchCodec
from stage.model.latents import CachedLatents

CELLS = SIZE // PATCH
LARGE = 3 * SIZE


def method(below: int = 0) -> StageMethod:
    """`small_params`' with windows for defects under `below` px, in half of which the defect lies."""
    whole = small_params().method
    return whole.model_copy(update={"crop": whole.crop.model_copy(update={"below": below, "defect_share": 0.5, "smallest": 8})})


def photographs(size: int, normal: int = 5) -> DefectImages:
    """Three defects, two of them in one place; no two pixels of an image and no two images are alike."""
    rng = np.random.default_rng(0)
    masks = np.zeros((3, size, size), np.uint8)
    masks[0, 2:5, 3:5] = masks[1, 2:5, 3:5] = masks[2, size - 4 : size - 1, 1:3] = 1
    images = rng.integers(0, 256, (3 + normal, size, size, 3)).astype(np.uint8)
    return DefectImages("bottle", images[:3], masks, ["crack", "spot", "crack"], images[3:])


def encode(data: DefectImages, below: int = 0, *, augment: bool = True) -> CachedLatents:
    return CachedLatents.encode(small_base(), data, method(below), augment=augment, image_size=SIZE)


def pixels(latents: torch.Tensor) -> np.ndarray:
    """What latents (B, C, h, w) are of: patch latents lose nothing."""
    base = small_base()
    assert isinstance(base.codec, PatchCodec)
    return tensor_to_pixels(base.decode(latents))


def same(cached: CachedLatents, other: CachedLatents) -> bool:
    return all(torch.equal(getattr(cached, name), getattr(other, name)) for name in ("latents", "masks", "types", "normal", "groups"))


@pytest.mark.parametrize("augment", [False, True])
def test_whole_images_are_encoded_as_they_are(augment: bool) -> None:
    """The paper's setting would train on other pixels: here against the codec alone, image by image."""
    data, base = photographs(SIZE), small_base()
    cached = encode(data, augment=augment)

    turns = range(8 if augment else 1)
    for latents, image in zip(cached.latents, data.images, strict=True):
        assert torch.equal(latents, base.encode(pixels_to_tensor(np.stack([turn(image, k) for k in turns]))))
    assert torch.equal(cached.normal, torch.cat([base.encode(pixels_to_tensor(image[None])) for image in data.normal]))
    assert cached.types.tolist() == [0, 1, 0]


def test_windows_that_are_whole_images_change_nothing() -> None:
    """Switching windows on would change the training of categories whose defects are large."""
    assert same(encode(photographs(SIZE), below=2), encode(photographs(SIZE)))


@pytest.mark.parametrize(("size", "below"), [(SIZE, 8), (LARGE, 0), (LARGE, 8)])
def test_defects_are_seen_through_their_windows_and_then_turned(size: int, below: int) -> None:
    """Training would see the defect at another scale than sampling, or its mask beside it."""
    data = photographs(size)
    cached = encode(data, below)

    assert cached.latents.shape == (3, 8, 3 * PATCH**2, CELLS, CELLS)
    for latents, masks, image, mask in zip(cached.latents, cached.masks, data.images, data.masks, strict=True):
        place = window(mask, method(below).crop, SIZE)
        assert place.side == (8 if below else SIZE)
        for k, seen in enumerate(pixels(latents)):
            assert np.array_equal(seen, turn(cut(image, place, SIZE), k))
            fine = turn(cut(mask, place, SIZE), k).reshape(CELLS, PATCH, CELLS, PATCH).max((1, 3))
            assert np.array_equal(masks[k, 0], fine)


def test_a_defect_is_hidden_by_the_same_place_turned_alike() -> None:
    """The network would learn to find back from a patch of another place, a state that it never meets."""
    data = photographs(LARGE)
    cached = encode(data)
    places = [window(mask, method().crop, SIZE) for mask in data.masks]

    for row, place in enumerate(places):
        for variant in range(8):
            drawn = cached.normal[cached.normals(torch.full((20,), row), torch.full((20,), variant), torch.Generator().manual_seed(0))]
            expected = {turn(cut(image, place, SIZE), variant).tobytes() for image in data.normal}
            found = {seen.tobytes() for seen in pixels(drawn)}
            assert len(found) == 3  # five normal images over two places
            assert found <= expected


def test_every_normal_image_is_used_somewhere() -> None:
    """Normal images would be collected in vain: each is seen at one of the two places at least."""
    data = photographs(LARGE)
    places = {window(mask, method().crop, SIZE) for mask in data.masks}
    seen = {picture.tobytes() for picture in pixels(encode(data, augment=False).normal)}

    assert all(any(cut(image, place, SIZE).tobytes() in seen for place in places) for image in data.normal)


def test_whole_images_are_hidden_by_any_normal_one() -> None:
    """The numbers of a training that was published would change: one draw, over all normal images, whatever row and turn."""
    cached = encode(photographs(SIZE))
    rows, variants = torch.tensor([0, 2, 1, 2]), torch.tensor([0, 7, 3, 1])

    drawn = cached.normal[cached.normals(rows, variants, torch.Generator().manual_seed(4))]

    assert torch.equal(drawn, cached.normal[torch.randint(5, (4,), generator=torch.Generator().manual_seed(4))])


def test_a_training_that_hides_no_defect_holds_no_normal_image() -> None:
    """Ten thousand normal images would fill the GPU for nothing. What is drawn stays the same, or the training would be another."""
    data, base = photographs(LARGE), small_base()
    held, none = (CachedLatents.encode(base, data, method(), augment=True, image_size=SIZE, hides=hides) for hides in (True, False))
    rows, variants = torch.tensor([0, 2, 1]), torch.tensor([0, 7, 3])

    assert len(none.normal) == 0 < len(held.normal)
    assert torch.equal(none.latents, held.latents)
    assert torch.equal(*(one.normals(rows, variants, torch.Generator().manual_seed(4)) for one in (held, none)))


def specks() -> DefectImages:
    """As `photographs`, the first crack and the spot one pixel each: under half a cell of two."""
    data = photographs(SIZE)
    data.masks[:2] = 0
    data.masks[:2, 3, 3] = 1
    return data


def test_an_image_whose_defect_has_no_cell_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Under an empty mask a visible defect teaches the network to draw defects beside their masks."""
    data = specks()
    data.defects[:] = ["crack"] * 3
    cached = CachedLatents.encode(
        small_base(), data, method().model_copy(update={"mask_reduction": "released"}), augment=False, image_size=SIZE
    )

    assert len(cached.latents) == 1
    assert cached.masks.any()
    assert "2 of 3 training images of bottle have no cell" in capsys.readouterr().err


def test_a_type_without_any_cell_is_refused() -> None:
    """A night's training would know nothing of the type that it is asked for."""
    with pytest.raises(ConfigError, match=r"found none of spot with method.mask_reduction released\. Set it to max"):
        CachedLatents.encode(
            small_base(), specks(), method().model_copy(update={"mask_reduction": "released"}), augment=False, image_size=SIZE
        )
