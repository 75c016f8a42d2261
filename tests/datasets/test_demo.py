"""The embedded demo: what the files promise, and what a stranger can see in them."""

import shutil
from contextlib import chdir
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from commands import run as run_verb
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, find_objects
from source_tree import ROOT

from stage.datasets.components import components
from stage.datasets.demo.dataset import DEFECTS as DRAWINGS
from stage.datasets.demo.dataset import MARK, NORMAL, DrawnPhotograph, draw, perfect_pairs, write_demo
from stage.datasets.demo.washer import draw_washer
from stage.datasets.layouts import detect_layout
from stage.datasets.pairs import Pair

SEED = 20261122
DEFECTS = [("fabric", "stain"), ("fabric", "pinhole"), ("washer", "scratch"), ("washer", "corrosion")]
COUNT = 11  # images of a defect type: three for training, eight for the test


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as `stage demo-data` draws it for people to look at."""
    root = tmp_path_factory.mktemp("demo") / "raw"
    with chdir(ROOT):
        done = run_verb("demo-data", str(root))
    assert done.exit_code == 0, done.output
    return root


@cache
def drawn(category: str, defect: str, index: int, split: str = "test") -> DrawnPhotograph:
    return draw(category, split, defect, index, seed=SEED)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return image.astype(float).mean(axis=2)


def test_layout_is_mvtec_ads_with_the_stated_counts(demo: Path) -> None:
    """The reader of MVTec AD would find other images than the demo's parameters expect."""
    assert detect_layout(demo) == ("mvtec", ["fabric", "washer"])
    found = {str(folder.relative_to(demo)): len(list(folder.glob("*.png"))) for folder in demo.glob("*/*/*")}
    expected = {f"{category}/train/good": 40 for category, _ in DEFECTS} | {f"{category}/test/good": 12 for category, _ in DEFECTS}
    expected |= {f"{category}/{part}/{defect}": COUNT for category, defect in DEFECTS for part in ("test", "ground_truth")}
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
    write_demo(again, SEED, ["fabric"])  # the other category of the earlier demo goes with it
    assert files(again) == {name: content for name, content in files(demo).items() if not name.startswith("washer/")}
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(("category", "defect"), [*DEFECTS, ("fabric", "good"), ("washer", "good")])
def test_another_seed_draws_another_image(category: str, defect: str) -> None:
    """The seed in params.yaml would change nothing."""
    images = [draw(category, "test", defect, 3, seed=seed).image for seed in (1, 2)]
    assert (images[0] != images[1]).mean() > 0.2


def test_no_two_images_are_the_same(demo: Path) -> None:
    """The leak guard compares content hashes: a repeated image would straddle the split."""
    images = [content for name, content in files(demo).items() if name.endswith(".png") and "ground_truth" not in name]
    assert len(set(images)) == len(images) == 2 * (40 + 12 + 2 * COUNT)


@pytest.mark.parametrize("readme", [None, "STAGE demo data set, and my own images beside it"])
def test_a_folder_with_someone_elses_files_is_refused_and_left_alone(tmp_path: Path, readme: str | None) -> None:
    """The demo would delete a user's photographs."""
    (tmp_path / "precious.png").write_bytes(b"photograph")
    if readme:
        (tmp_path / "readme.txt").write_text(readme, encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected an empty place.*precious\.png.*Name another folder"):
        write_demo(tmp_path, SEED)
    assert (tmp_path / "precious.png").read_bytes() == b"photograph"


@pytest.mark.parametrize("name", ["fabric/groups.csv", "fabric/test/stain/011.png", "washer/mine/0.png"])
def test_a_file_inside_an_earlier_demo_is_not_lost(tmp_path: Path, name: str) -> None:
    """The groups that a user has confirmed would go with the pictures."""
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("mine")
    (tmp_path / "readme.txt").write_text(f"{MARK}, drawn before", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected an empty place or an earlier demo.*found a folder with"):
        write_demo(tmp_path, SEED)
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """The user would see a traceback of the operating system's."""
    (tmp_path / "raw").write_bytes(b"")
    with pytest.raises(ValueError, match="found a file"):
        write_demo(tmp_path / "raw", SEED)


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_mask_is_exactly_where_image_differs_from_its_undamaged_rendering(category: str, defect: str, demo: Path) -> None:
    """A mask that is off teaches the generator and the segmenter the wrong pixels."""
    for index in range(COUNT):
        photograph = drawn(category, defect, index)
        name = f"{index:03d}"
        with Image.open(demo / category / "test" / defect / f"{name}.png") as image:
            difference = np.abs(np.asarray(image).astype(int) - photograph.clean)
        with Image.open(demo / category / "ground_truth" / defect / f"{name}_mask.png") as image:
            mask = np.asarray(image) == 255
        np.testing.assert_array_equal(difference.max(axis=2) > 0, mask)
        assert difference[mask].mean() > 10


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_undamaged_rendering_is_the_normal_part(category: str, defect: str) -> None:
    """`clean` would not be the defect-free part, and the test of exactness would compare with something else."""
    clean = DRAWINGS[category][defect](np.random.default_rng(5), np.random.default_rng(6)).clean
    np.testing.assert_array_equal(clean, NORMAL[category](np.random.default_rng(5)))


def extent(mask: NDArray[np.uint8]) -> int:
    """The larger side of the bounding box of the largest defect, px."""
    found = find_objects(components(mask))
    return max(part.stop - part.start for parts in found for part in parts)


@pytest.mark.parametrize(
    ("category", "defect", "small", "large", "largest"),
    [
        ("fabric", "stain", 10, 18, 38),
        ("fabric", "pinhole", 5, 9, 18),
        ("washer", "scratch", 12, 25, 45),
        ("washer", "corrosion", 8, 14, 40),
    ],
)
def test_defects_of_a_type_come_in_several_sizes(category: str, defect: str, small: int, large: int, largest: int) -> None:
    """The demo would not show how a method treats small defects, or large ones."""
    extents = [extent(drawn(category, defect, index).mask) for index in range(3 * COUNT)]
    assert min(extents) <= small
    assert large <= max(extents) <= largest


def test_weave_stays_visible_in_a_stain() -> None:
    """A stain that hides the cloth is a patch of paint, and its inside does not teach texture."""
    for index in range(COUNT):
        photograph = drawn("fabric", "stain", index)
        inside = photograph.mask > 0
        assert np.corrcoef(grey(photograph.image)[inside], grey(photograph.clean)[inside])[0, 1] > 0.5


def test_scratches_are_thin() -> None:
    """A scratch is told from corrosion by its shape."""
    for index in range(COUNT):
        inside = drawn("washer", "scratch", index).mask > 0
        assert not binary_erosion(inside, iterations=3).any()


@pytest.mark.parametrize("defect", ["scratch", "corrosion"])
def test_washers_defects_lie_on_the_metal(defect: str) -> None:
    """A scratch in the background is no defect of the part."""
    for index in range(COUNT):
        drawing = DRAWINGS["washer"][defect](np.random.default_rng(index), np.random.default_rng(SEED))
        metal = draw_washer(np.random.default_rng(index)).metal
        assert metal[drawing.coverage > 0].min() > 0


@pytest.mark.parametrize("category", ["fabric", "washer"])
def test_light_differs_from_picture_to_picture(category: str) -> None:
    """Three defects would stand for all, and no sample could add anything."""
    pictures = [grey(drawn(category, "good", index, "train").image) for index in range(16)]
    means = [picture.mean() for picture in pictures]
    tilts = [picture[:64].mean() - picture[64:].mean() for picture in pictures]
    assert max(means) > 1.25 * min(means)
    assert min(tilts) < -4
    assert max(tilts) > 4


@pytest.mark.parametrize("category", ["fabric", "washer"])
@pytest.mark.parametrize("size", [128, 64])
def test_perfect_pairs_are_masked_defects_of_each_type(category: str, size: int) -> None:
    """The arm that shows the headroom would train on something else than the demo's defects."""
    pairs = perfect_pairs(category, 3, size, seed=SEED)
    assert len(pairs) == 3 * len(DRAWINGS[category])
    for image, mask in pairs:
        assert image.shape == (size, size, 3)
        assert image.dtype == mask.dtype == np.uint8
        assert mask.shape == (size, size)
        assert set(np.unique(mask)) == {0, 1}


def test_pasting_takes_nothing_from_a_perfect_defect() -> None:
    """The headroom would be less than drawn defects can give, as it is where labels are softened inward."""
    for category in DRAWINGS:
        drawn = [draw(category, "perfect", defect, index, seed=SEED) for defect in DRAWINGS[category] for index in range(2)]
        pairs = perfect_pairs(category, 2, 128, seed=SEED)
        assert all(np.array_equal(pair.image, one.image) for pair, one in zip(pairs, drawn, strict=True))


def contents(pairs: list[Pair]) -> set[tuple[bytes, bytes]]:
    return {(pair.image.tobytes(), pair.mask.tobytes()) for pair in pairs}


def test_perfect_pairs_are_the_same_each_time_and_not_in_the_data_set(demo: Path) -> None:
    """A headroom that differs between runs is none, and one measured on test images is false."""
    for category in DRAWINGS:
        pairs = perfect_pairs(category, COUNT, 128, seed=SEED)
        again = perfect_pairs(category, 2, 128, seed=SEED)
        assert contents(again) < contents(pairs)
        photographs = {np.asarray(Image.open(path)).tobytes() for path in demo.glob(f"{category}/t*/*/*.png")}
        fresh = {pair.image.tobytes() for pair in pairs}
        assert len(fresh) == len(pairs)
        assert not fresh & photographs


def test_washer_differs_from_its_background_and_background_from_noise() -> None:
    """An object on a background: the metal must stand out, the surface must be calm."""
    washer = draw_washer(np.random.default_rng(SEED))
    metal, surface = washer.picture[washer.metal == 1].mean(), washer.picture[washer.metal == 0]
    assert metal > 1.5 * surface.mean()
    assert surface.std() < 15


def test_weave_repeats_every_fourteen_pixels() -> None:
    """A finer weave is a grey sheet once a base of 64 px sees it whole, and the defects lie on nothing."""
    cloth = grey(drawn("fabric", "good", 0).image)
    spectrum = np.abs(np.fft.fft2(cloth - cloth.mean()))
    spectrum[:6, :6] = spectrum[-5:, :6] = spectrum[:6, -5:] = spectrum[-5:, -5:] = 0  # light and clouds
    row, column = np.unravel_index(spectrum[:64, :64].argmax(), (64, 64))
    assert max(row, column) == pytest.approx(128 / 14, abs=1)
