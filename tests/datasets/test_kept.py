"""An interrupted `prepare` goes on where it stopped."""

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.prepare import read
from stage.core.data_params import Prepare
from stage.core.durable import read_sealed, write_sealed
from stage.core.work import SPOOL
from stage.datasets.catalog import EntryReader, prepare
from stage.datasets.entries import Entry, read_entry
from stage.datasets.kept import forget_kept, read_kept

FINISHED = 4  # images, before the interruption
ACCEPTED = 17  # images of the data set


@pytest.fixture
def kept(params: Prepare, mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The kept row of each image that was finished before an interruption, by the image's path."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo(mvtec / "part/test/crack/pipe.png")  # who opened it would wait for ever
    left = list(range(FINISHED))

    def stopping(*given: Any, **named: Any) -> Entry:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return read_kept(*given, **named)

    with pytest.raises(KeyboardInterrupt):
        prepare(params, ["part"], mvtec, tmp_path / "first", reader=stopping)
    return {read_sealed(file)["image_path"]: file for file in SPOOL.glob("prepare/part/*/*.json")}


def catalog_of(params: Prepare, root: Path, reader: EntryReader = read_entry) -> dict[str, dict[str, Any]]:
    """The rows of a whole catalog, by the images' paths."""
    prepare(params, ["part"], root, root.parent / "out", reader=reader)
    return {row["image_path"]: row for row in pq.read_table(root.parent / "out/part/catalog.parquet").to_pylist()}


def test_finished_images_are_not_read_again(params: Prepare, mvtec: Path, kept: dict[str, Path]) -> None:
    """Ctrl-C in the first minutes of a thousand photographs would lose all of them, though the message says that they are kept."""
    image, file = next(iter(kept.items()))
    write_sealed({name: value for name, value in read_sealed(file).items() if name != "seal"} | {"note": "as it was kept"}, file)

    rows = catalog_of(params, mvtec, read_kept)

    assert len(kept) == FINISHED
    assert rows[image]["note"] == "as it was kept"
    assert rows | {image: rows[image] | {"note": ""}} == catalog_of(params, mvtec)


@pytest.mark.usefixtures("kept")
def test_the_flow_keeps_a_row_for_every_accepted_image(params: Prepare, mvtec: Path) -> None:
    """`dvc repro prepare` would keep nothing; or what it kept would stay on the disk for ever."""
    read.fn(params, ("part",), mvtec)
    assert len(list(SPOOL.glob("prepare/part/*/*.json"))) == ACCEPTED

    forget_kept()
    assert not [path for path in SPOOL.rglob("*") if path.is_file()]


def test_a_changed_image_a_changed_parameter_and_a_damaged_row_are_read_anew(params: Prepare, mvtec: Path, kept: dict[str, Path]) -> None:
    """The catalog would show a photograph as it was, or at the size that was asked for before; or half a row of a failing disk."""
    changed, damaged, *_ = kept
    (mvtec / changed).write_bytes((mvtec / "part/train/good/003.png").read_bytes())
    kept[damaged].write_bytes(kept[damaged].read_bytes().replace(b'"image_path"', b'"image_paths"'))
    smaller = params.model_copy(update={"image_size": 8})

    assert catalog_of(params, mvtec, read_kept) == catalog_of(params, mvtec)
    assert catalog_of(smaller, mvtec, read_kept) == catalog_of(smaller, mvtec)
