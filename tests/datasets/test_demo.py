"""The embedded demo: what the files promise, and what a stranger can see in them."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, label

from stage.datasets.demo.dataset import Photograph, draw, write_demo
from stage.datasets.demo.washer import draw_washer

SEED = 20261122
DEFECTS = [("fabric", "stain"), ("fabric", "pinhole"), ("washer", "scratch"), ("washer", "chip")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "raw"
    write_demo(root, SEED)
    return root


@cache
def drawn(category: str, defect: str, index: int, split: str = "test") -> Photograph:
    return draw(category, split, defect, index, seed=SEED)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return image.astype(float).mean(axis=2)


def contrast(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> float:
    """Grey levels between the masked pixels and those two to four pixels away from them."""
    inside = mask > 0
    around = binary_dilation(inside, iterations=4) & ~binary_dilation(inside, iterations=1)
    return abs(grey(image)[inside].mean() - grey(image)[around].mean())


def test_layout_is_mvtec_ads_with_the_stated_counts(demo: Path) -> None:
    """The reader of MVTec AD would find other images than the demo's parameters expect."""
    found = {str(folder.relative_to(demo)): len(list(folder.glob("*.png"))) for folder in demo.glob("*/*/*")}
    expected = {f"{category}/train/good": 48 for category, _ in DEFECTS} | {f"{category}/test/good": 8 for category, _ in DEFECTS}
    expected |= {f"{category}/{part}/{defect}": 15 for category, defect in DEFECTS for part in ("test", "ground_truth")}
    assert found == expected
    for category, defect in DEFECTS:
        for image in (demo / category / "test" / defect).iterdir():
            assert (demo / category / "ground_truth" / defect / f"{image.stem}_mask.png").is_file()


def test_images_are_rgb_and_masks_black_and_white(demo: Path) -> None:
    """A grey level between 0 and 255 in a mask would make the exactness depend on a threshold."""
    for path in demo.rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == (128, 128)
            if "ground_truth" in path.parts:
                assert picture.mode == "L"
                assert set(np.unique(np.asarray(picture))) == {0, 255}
            else:
                assert picture.mode == "RGB"


def test_same_seed_writes_same_bytes_over_an_earlier_demo_and_a_killed_run(demo: Path, tmp_path: Path) -> None:
    """`prepare` would see new images on every run, or take half a data set for a whole one."""
    again, killed = tmp_path / "raw", tmp_path / ".raw.drawing" / "fabric" / "train" / "good" / "048.png"
    shutil.copytree(demo, again)
    (again / "fabric" / "train" / "good" / "000.png").write_bytes(b"spoilt")
    killed.parent.mkdir(parents=True)
    killed.write_bytes(b"half an image")
    write_demo(again, SEED)
    assert files(again) == files(demo)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(("category", "defect"), [*DEFECTS, ("fabric", "good"), ("washer", "good")])
def test_another_seed_draws_another_image(category: str, defect: str) -> None:
    """The seed in params.yaml would change nothing."""
    images = [draw(category, "test", defect, 3, seed=seed).image for seed in (1, 2)]
    assert (images[0] != images[1]).mean() > 0.2


def test_no_two_images_are_the_same(demo: Path) -> None:
    """The leak guard compares content hashes: a repeated image would straddle the split."""
    images = [content for name, content in files(demo).items() if name.endswith(".png") and "ground_truth" not in name]
    assert len(set(images)) == len(images) == 2 * (48 + 8 + 30)


@pytest.mark.parametrize("readme", [None, "STAGE demo data set, and my own images beside it"])
def test_a_folder_with_someone_elses_files_is_refused_and_left_alone(tmp_path: Path, readme: str | None) -> None:
    """The demo would delete a user's photographs."""
    (tmp_path / "precious.png").write_bytes(b"photograph")
    if readme:
        (tmp_path / "readme.txt").write_text(readme, encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected an empty place.*precious\.png.*Name another folder"):
        write_demo(tmp_path, SEED)
    assert (tmp_path / "precious.png").read_bytes() == b"photograph"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """The user would see a traceback of the operating system's."""
    (tmp_path / "raw").write_bytes(b"")
    with pytest.raises(ValueError, match="found a file"):
        write_demo(tmp_path / "raw", SEED)


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_mask_is_exactly_where_image_differs_from_its_undamaged_rendering(category: str, defect: str, demo: Path) -> None:
    """A mask that is off teaches the generator and the segmenter the wrong pixels."""
    for index in range(15):
        photograph = drawn(category, defect, index)
        name = f"{index:03d}"
        with Image.open(demo / category / "test" / defect / f"{name}.png") as image:
            difference = np.abs(np.asarray(image).astype(int) - photograph.clean)
        with Image.open(demo / category / "ground_truth" / defect / f"{name}_mask.png") as image:
            mask = np.asarray(image) == 255
        np.testing.assert_array_equal(difference.max(axis=2) > 0, mask)
        assert difference[mask].mean() > 20


def test_undamaged_rendering_is_a_part_like_the_normal_ones() -> None:
    """`clean` would not be the defect-free part, and the test of exactness would compare with something else."""
    for category, defect in DEFECTS:
        normal = np.mean([drawn(category, "good", index, "train").image for index in range(8)], axis=0)
        clean = np.mean([drawn(category, defect, index).clean for index in range(8)], axis=0)
        assert np.abs(normal - clean).mean() < 10


def test_pinholes_are_tiny_and_plain_to_see_at_both_sizes() -> None:
    """The demo would not show whether defects of a few pixels survive the reduction to latent size."""
    for index in range(15):
        photograph = drawn("fabric", "pinhole", index)
        rows, columns = np.nonzero(photograph.mask)
        assert all(3 <= np.ptp(axis) + 1 <= 5 for axis in (rows, columns))
        assert contrast(photograph.image, photograph.mask) >= 60
        half = [np.asarray(Image.fromarray(picture).reduce(2)) for picture in (photograph.image, photograph.clean)]
        assert np.abs(grey(half[0]) - grey(half[1])).max() >= 40


@pytest.mark.parametrize(("defect", "smallest", "largest"), [("stain", 12, 30), ("chip", 8, 32)])
def test_blots_and_bites_are_one_piece_of_the_stated_size(defect: str, smallest: int, largest: int) -> None:
    """A contact sheet would show specks, or a spoilt picture, instead of one defect on a part."""
    category = "fabric" if defect == "stain" else "washer"
    for index in range(15):
        photograph = drawn(category, defect, index)
        rows, columns = np.nonzero(photograph.mask)
        assert all(smallest <= np.ptp(axis) + 1 <= largest for axis in (rows, columns))
        assert label(photograph.mask, np.ones((3, 3)))[1] == 1
        assert contrast(photograph.image, photograph.mask) > 20


def test_weave_stays_visible_in_a_stain() -> None:
    """A stain that hides the cloth is a patch of paint, and its inside does not teach texture."""
    for index in range(15):
        photograph = drawn("fabric", "stain", index)
        inside = binary_dilation(photograph.mask == 0, iterations=3) == 0
        assert np.corrcoef(grey(photograph.image)[inside], grey(photograph.clean)[inside])[0, 1] > 0.5


def test_scratches_are_thin_long_and_bright() -> None:
    """A scratch is told from a chip by its shape and its light."""
    for index in range(15):
        photograph = drawn("washer", "scratch", index)
        inside = photograph.mask > 0
        assert 1 <= label(inside, np.ones((3, 3)))[1] <= 3
        assert np.hypot(*(np.ptp(axis) for axis in np.nonzero(inside))) >= 18
        assert grey(photograph.image)[inside].max() > 220
        assert grey(photograph.image)[inside].mean() > grey(photograph.clean)[inside].mean() + 20


@pytest.mark.parametrize("defect", ["scratch", "chip"])
def test_washers_defects_lie_on_the_metal(defect: str) -> None:
    """A scratch in the background is no defect of the part."""
    for index in range(15):
        photograph = drawn("washer", defect, index)
        bright = grey(photograph.clean) > 40
        assert bright[photograph.mask > 0].mean() > 0.95
        rows, columns = np.nonzero(photograph.mask)
        radius = np.hypot(rows - 63.5, columns - 63.5)
        assert radius.min() > 22 - 4
        assert radius.max() < 52 + 4


def test_washer_differs_from_its_background_and_background_from_noise() -> None:
    """An object on a background: the metal must stand out, the surface must be calm."""
    washer = draw_washer(np.random.default_rng(SEED))
    metal, surface = washer.picture[washer.metal == 1].mean(), washer.picture[washer.metal == 0]
    assert metal - surface.mean() > 60
    assert surface.std() < 15


def test_weave_repeats_every_fourteen_pixels() -> None:
    """At 64 px a finer weave is a grey sheet, and the defects lie on nothing."""
    cloth = grey(drawn("fabric", "good", 0).image)
    spectrum = np.abs(np.fft.fft2(cloth - cloth.mean()))
    spectrum[:4, :4] = spectrum[-3:, :4] = spectrum[:4, -3:] = spectrum[-3:, -3:] = 0
    row, column = np.unravel_index(spectrum[:64, :64].argmax(), (64, 64))
    assert max(row, column) == pytest.approx(128 / 14, abs=1)
