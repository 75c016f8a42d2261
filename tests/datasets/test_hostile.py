"""Two thousand inputs that no camera wrote: none ends in a traceback, and none is lost."""

import io
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.catalog import prepare
from stage.datasets.folder import FoundFile, find
from stage.datasets.images import GreyRange, read_image
from stage.datasets.inventory import inventory
from stage.datasets.layouts import MVTEC
from stage.datasets.masks import read_mask
from stage.datasets.table import read_catalog
from stage.datasets.walking import SUFFIXES, shown

FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "JPEG2000": ("L", "RGB", "I;16"),
}
WHOLE, DAMAGED = 400, 1600
TWELVE_BITS = GreyRange(0, 4095, is_named=True)


def drawn(random: np.random.Generator, mode: str) -> Image.Image:
    """A picture of a mode with few or many levels, of 1 to 24 px a side."""
    height, width = random.integers(1, 25, 2)
    levels = int(random.choice([2, 3, 5, 256]))
    top = int(random.choice([1, 31, 127, 255]))
    values = (random.integers(0, levels, (height, width)) * top // max(1, levels - 1)).astype(np.uint8)
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray(values.astype(dtype) * random.choice([-1, 1, 16, 257] if mode in ("I", "F") else [1, 16, 257]).astype(dtype))
    channels = len(Image.new(mode, (1, 1)).getbands())
    picture = Image.fromarray(values)
    if mode == "P":
        picture = Image.frombytes("P", picture.size, values.tobytes())
        picture.putpalette(random.integers(0, 256, 3 * int(random.integers(1, 257)), dtype=np.uint8).tolist())
        return picture
    if channels == 1:
        return picture.convert(mode)
    bands = [Image.fromarray(random.permuted(values, axis=0)) if random.random() < 0.5 else picture for _ in range(channels)]
    return Image.merge(mode, bands)


def encoded(random: np.random.Generator) -> bytes:
    """A file of any format and mode, at times with an EXIF orientation."""
    name = str(random.choice([*FORMATS]))
    picture, buffer = drawn(random, str(random.choice(FORMATS[name]))), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = int(random.integers(0, 12))
    picture.save(buffer, name, **({"exif": exif} if name in ("PNG", "JPEG", "TIFF", "WEBP") and random.random() < 0.3 else {}))
    return buffer.getvalue()


def damaged(random: np.random.Generator, whole: bytes) -> bytes:
    """The file cut, with bytes changed, or with a piece put in or taken out."""
    content, place = bytearray(whole), int(random.integers(0, len(whole)))
    how = random.integers(0, 4)
    if how == 0:
        return bytes(content[:place])
    if how == 1:
        for spot in random.integers(0, len(content), int(random.integers(1, 8))):
            content[spot] = int(random.integers(0, 256))
    elif how == 2:
        content[place:place] = random.bytes(int(random.integers(1, 40)))
    else:
        del content[place : place + int(random.integers(1, 40))]
    return bytes(content)


def inputs(random: np.random.Generator) -> Iterator[bytes]:
    wholes = [encoded(random) for _ in range(WHOLE)]
    yield from wholes
    for _ in range(DAMAGED):
        yield damaged(random, wholes[int(random.integers(0, WHOLE))])


@pytest.mark.slow
def test_two_thousand_files_are_read_or_refused(tmp_path: Path) -> None:
    """One damaged file among thousands would end a night's run in a traceback."""
    random, file, outcomes = np.random.default_rng(0), tmp_path / "a.png", Counter[str]()
    for number, content in enumerate(inputs(random)):
        file.unlink(missing_ok=True)  # a file that is written anew waits for the disk
        file.write_bytes(content)
        outcomes[outcome(file, is_mask=bool(number % 2))] += 1

    assert outcomes.total() == WHOLE + DAMAGED
    assert min(outcomes["image"], outcomes["mask"], outcomes["refused"]) > 200


def outcome(file: Path, *, is_mask: bool) -> str:
    """What a file was read as; anything but pixels of the right kind, or a DataError with words, fails."""
    try:
        raster = read_mask(file, max_megapixels=0.01, threshold=128) if is_mask else read_image(file, max_megapixels=0.01, grey=TWELVE_BITS)
    except DataError:
        return "refused"
    assert raster.pixels.dtype == np.uint8
    assert raster.pixels.ndim == (2 if is_mask else 3)
    assert not is_mask or raster.pixels.max() <= 1
    return "mask" if is_mask else "image"


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
FOLDERS = (
    "train/good",
    "test/good",
    "test/crack",
    "test/spot",
    "ground_truth/crack",
    "ground_truth/spot",
    "ground_truth/crack/a",
    "foreground",
)
ENDINGS = ("", ".png", ".PNG", ".jpg", "_mask.png", "_mask.tif", ".txt", ".dvcignore")
KINDS = ("image", "mask", "text", "link to nothing", "link to itself", "pipe", "bytes in its name")
Files = list[tuple[str, str, str, str]]


def put(part: Path, folder: str, name: str, ending: str, kind: str) -> None:
    """Write one file; a name that the disk does not take, or that is there already, is left out."""
    path = part / folder / (name + ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "bytes in its name":
        path = path.with_name(os.fsdecode(b"\xff\xfe" + os.fsencode(path.name)[:20]))
    try:
        if os.path.lexists(path):
            return
        if kind.startswith("link"):
            path.symlink_to(path if kind == "link to itself" else part / "nothing")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(b"text" if kind == "text" else picture(kind, len(name)))
    except OSError:
        return


def picture(kind: str, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:4] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask if kind == "mask" else pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(files=st.lists(st.tuples(st.sampled_from(FOLDERS), NAMES, st.sampled_from(ENDINGS), st.sampled_from(KINDS)), max_size=16))
def test_every_file_is_found(files: Files) -> None:
    """A file would vanish without a word: nobody would know that a defect was never looked at."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in FOLDERS:
            (root / "part" / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            put(root / "part", *file)
        present = {shown(Path(folder, name).relative_to(root).as_posix()) for folder, _, names in os.walk(root) for name in names}
        found = find(root, "part", MVTEC)

        assert {path for each in found for path in (each.image, *each.masks, *each.foregrounds) if path} == present - unused(found, present)
        assert len(inventory(root, root / "memory.json").splitlines()) == len(present)


def unused(found: list[FoundFile], present: set[str]) -> set[str]:
    """Foregrounds of no image: they are read for the strategy `files` only, and then each image names its own."""
    taken = {path for each in found for path in (each.image, *each.masks, *each.foregrounds)}
    return {path for path in present - taken if path.startswith("part/foreground/") and Path(path).suffix.lower() in SUFFIXES}


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.tuples(st.sampled_from(FOLDERS), NAMES, st.sampled_from(ENDINGS), st.sampled_from(KINDS)), max_size=16))
def test_no_file_keeps_the_others_from_the_catalog(params: Prepare, tmp_path_factory: pytest.TempPathFactory, files: Files) -> None:
    """One pipe or one odd name would keep a thousand good images from being used."""
    root = tmp_path_factory.mktemp("data")
    for number in range(20, 24):
        put(root / "part", "train/good", "n" * number, ".png", "image")
        put(root / "part", "test/crack", "d" * (number + 4), ".png", "image")
        put(root / "part", "ground_truth/crack", "d" * (number + 4), "_mask.png", "mask")
    for file in files:
        put(root / "part", *file)
    prepare(params, ["part"], root, root / "out")
    catalog = read_catalog(root / "out/part/catalog.parquet")
    ours = catalog[catalog["image_path"].str.contains("n{20}|d{24}", na=False)]

    assert len(catalog) == len(find(root, "part", MVTEC))
    assert (ours["reason"] == "").tolist() == [True] * 8
