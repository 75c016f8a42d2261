"""The leak guard on a category's own catalog: what is tested may not be trained on, under whatever name or encoding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stage.core.data_params import Prepare
from stage.core.errors import CorruptFileError, DataError
from stage.datasets.catalog import prepare
from stage.datasets.leaks import Leak, Use, check_catalogs, leaks, training_images
from stage.datasets.table import read_catalog

TRAINED, TESTED = "part/test/crack/000.png", "part/test/crack/006.png"


def prepared(params: Prepare, root: Path, output: Path, *categories: str) -> Path:
    prepare(params, categories or ("part",), root, output)
    return output


def set_cell(folder: Path, image: str, **values: str) -> None:
    """Change the row of an image in a catalog, as no split would."""
    path = folder / "part/catalog.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    next(row for row in rows if row["image_path"] == image).update(values)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def test_a_right_split_passes(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """No run would ever end."""
    check_catalogs(prepared(params, mvtec, tmp_path / "out"), ["part"], share_base=True)


def test_a_file_that_was_encoded_again_is_set_aside(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A test image saved as another format is a training image: other bytes, equal pixels."""
    with Image.open(mvtec / "part/test/good/000.png") as picture:
        picture.save(mvtec / "part/train/good/copy.bmp")
    folder = prepared(params, mvtec, tmp_path / "out")
    rows = read_catalog(folder / "part/catalog.parquet").set_index("image_path")

    assert rows.loc["part/train/good/copy.bmp", "reason"] == "the same pixels as another file, which is kept"
    assert rows.loc["part/test/good/000.png", "split"] == "test"


def test_equal_pixels_on_both_sides_are_refused(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """The split is the one place where this could go wrong, so the guard may not trust it."""
    with Image.open(mvtec / TESTED) as picture:
        picture.save(mvtec / "part/test/crack/copy.bmp")
        Image.open(mvtec / "part/ground_truth/crack/006_mask.png").save(mvtec / "part/ground_truth/crack/copy_mask.png")
    folder = prepared(params, mvtec, tmp_path / "out")
    set_cell(folder, "part/test/crack/copy.bmp", status="accepted", split="train")

    with pytest.raises(
        DataError, match=rf"found 1:\n  {TESTED} is tested, and part/test/crack/copy.bmp \(the same pixels\) is a training image"
    ):
        check_catalogs(folder, ["part"], share_base=False)


def test_a_group_on_both_sides_is_refused(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """The part that is tested would be known from another photograph."""
    folder = prepared(params, mvtec, tmp_path / "out")
    for image in (TRAINED, TESTED):
        set_cell(folder, image, group="plate 7")

    with pytest.raises(DataError, match=rf"{TESTED} is tested, and {TRAINED} \(the same group, plate 7\) is a training image"):
        check_catalogs(folder, ["part"], share_base=False)


def test_only_a_shared_base_looks_into_other_categories(params: Prepare, mvtec: Path, draw: Callable[..., Path], tmp_path: Path) -> None:
    """A base from scratch learns from all categories; without one, equal photographs of two categories harm nothing."""
    for path in sorted((mvtec / "part").rglob("*.png")):
        draw(f"other/{path.relative_to(mvtec / 'part').as_posix()}", is_mask="ground_truth" in path.parts)
    with Image.open(mvtec / TESTED) as picture:
        picture.save(mvtec / "other/train/good/copy.bmp")
    folder = prepared(params, mvtec, tmp_path / "out", "part", "other")

    check_catalogs(folder, ["part", "other"], share_base=False)
    with pytest.raises(DataError, match=r"evaluation image of part, .*\n.*other/train/good/copy.bmp \(the same pixels\)"):
        check_catalogs(folder, ["part", "other"], share_base=True)


def test_a_group_that_was_confirmed_later_counts(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """Samples made before the groups file was written would show the tested part."""
    (mvtec / "part/groups.csv").write_text("file,group\ntrain/good/000.png,A\ntest/good/000.png,A\n")
    catalog = read_catalog(prepared(params, mvtec, tmp_path / "out") / "part/catalog.parquet")
    before = Use("part/train/good/000.png", "", "", "part/train/good/000.png", "the background of 2 samples")

    assert [(leak.evaluated, leak.by) for leak in leaks(catalog, [before])] == [("part/test/good/000.png", "the same group, A")]


def test_no_more_than_a_handful_is_named(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A wrong table would scroll everything else away."""
    folder = prepared(params, mvtec, tmp_path / "out")
    for image in read_catalog(folder / "part/catalog.parquet")["image_path"]:
        set_cell(folder, image, group="one")

    with pytest.raises(DataError, match="found 7:") as refused:
        check_catalogs(folder, ["part"], share_base=False)
    assert str(refused.value).count(" is tested, and ") == 5
    assert "\n  and 2 more\n" in str(refused.value)


def test_a_catalog_without_digests_is_refused(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """The guard would find nothing in it, and say so."""
    folder = prepared(params, mvtec, tmp_path / "out")
    path = folder / "part/catalog.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["image_digest"]), path)

    with pytest.raises(CorruptFileError, match="older catalog"):
        check_catalogs(folder, ["part"], share_base=False)


def test_images_that_are_set_aside_are_no_evaluation(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A group whose test image could not be read would forbid its training images."""
    catalog = read_catalog(prepared(params, mvtec, tmp_path / "out") / "part/catalog.parquet")
    gone = catalog.assign(status=np.where(catalog["image_path"] == TESTED, "set_aside", catalog["status"]))
    use = Use("elsewhere.png", str(catalog.set_index("image_path")["image_sha256"][TESTED]), "", "", "a training image")

    assert isinstance(gone, pd.DataFrame)
    assert [leak.evaluated for leak in leaks(catalog, [use])] == [TESTED]
    assert leaks(gone, [use]) == []


def rows(*given: str) -> pd.DataFrame:
    """A catalog of rows `path group digest side`; without a side, the row is set aside."""
    named = [dict(zip(("image_path", "group", "image_digest", "split"), row.split(), strict=False)) for row in given]
    told = [{"split": "", **row, "status": "accepted" if "split" in row else "set_aside", "mask_path": None} for row in named]
    return pd.DataFrame(told).assign(image_sha256=lambda table: table["image_path"])


@pytest.mark.parametrize(("kept", "other"), [("test", "train"), ("train", "test")])
def test_the_group_of_a_copy_that_is_set_aside_counts(kept: str, other: str) -> None:
    """The photograph of a part would be tested, and the part trained on, since its copy in the groups file was not kept."""
    catalog = rows(f"a_1 P a {other}", f"z00 z00 same {kept}", "z_2 P same")
    evaluated, used = ("z00", "a_1") if kept == "test" else ("a_1", "z00")

    assert leaks(catalog, training_images(catalog)) == [Leak(evaluated, used, "the same group, P", "a training image")]


def test_every_group_of_a_digest_counts() -> None:
    """A background whose copies were all set aside since would be looked for in the first one's group alone."""
    catalog = rows("a Q same", "b P same", "c P c test")

    assert [leak.by for leak in leaks(catalog, [Use("gone", "", "same", "gone", "a background")])] == ["the same group, P"]
