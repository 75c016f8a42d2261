"""The page with all methods side by side: the same photograph and mask for all that are given one, and nothing else changed."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_factory import CATEGORY, Factory, build

from stage.core.params import Params
from stage.release.publication import publish_jobs
from stage.release.reader import shard_paths
from stage.report.artefacts import stream_rows
from stage.report.same_inputs import ROWS, SameInputs, first_method, shares_mask, shown_methods, write_same_inputs

METHODS = ("paste", "draem", "quilt", "stage", "cutpaste", "glass")
SIDE = 64


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    """With published samples of four methods."""
    built = build(tmp_path_factory.mktemp("factory"), SIDE)
    for method in ("stage", "quilt", "paste", "draem"):
        job = built.job(built.data.parent / "spool", method=method)
        built.fill(job)
        publish_jobs([job.folder], built.data / "synthesize" / CATEGORY / method, lease_s=60.0)
    return built


def asked(factory: Factory, methods: tuple[str, ...], variant: str = "union") -> Params:
    cutpaste = factory.params.cutpaste.model_copy(update={"variant": variant})
    return factory.params.model_copy(update={"methods": methods, "cutpaste": cutpaste})


def written(factory: Factory, root: Path, params: Params) -> SameInputs:
    return write_same_inputs(factory.data, CATEGORY, params, root=root, folder=Path("methods"))


def pixels(root: Path, address: str) -> np.ndarray:
    return np.asarray(Image.open(root / address).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("methods", "first"),
    [(METHODS, "stage"), (("quilt", "cutpaste", "paste"), "quilt"), (("paste",), "paste"), (("draem",), "draem")],
)
def test_every_method_has_the_same_photograph_and_those_that_fill_masks_the_same_mask(
    factory: Factory, tmp_path: Path, methods: tuple[str, ...], first: str
) -> None:
    """Methods would be compared on different photographs, and the mask beside a picture would not be its own."""
    params = asked(factory, methods, variant="masks")
    found = written(factory, tmp_path, params)

    assert found.first == first
    assert [row.defect for row in found.rows] == ["crack"] * ROWS + ["spot"] * ROWS
    for row in found.rows:
        photograph, mask = pixels(tmp_path, row.photograph), pixels(tmp_path, row.mask)
        assert set(np.unique(mask)) == {0, 255}
        assert tuple(row.cells) == shown_methods(params)
        for method, cell in row.cells.items():
            changed = (pixels(tmp_path, cell.picture) != photograph).any(axis=2)
            own = pixels(tmp_path, cell.own_mask) if cell.own_mask else mask
            assert bool(cell.own_mask) != shares_mask(method, params)
            assert changed.any()
            near = np.lib.stride_tricks.sliding_window_view(np.pad(own[..., 0] > 0, 3), (7, 7)).any((2, 3))  # of a soft seam
            assert not (changed & ~near).any()


def test_the_method_that_needs_training_is_shown_as_published_and_nothing_is_trained(factory: Factory, tmp_path: Path) -> None:
    """Evaluation would need a generator's networks, or show samples that nobody gets."""
    assert first_method(asked(factory, METHODS)) == "stage"
    assert first_method(asked(factory, ("draem", "cutpaste"))) == "draem"
    assert first_method(asked(factory, ("draem", "cutpaste"), variant="masks")) == "cutpaste"
    one, two = (written(factory, tmp_path / name, asked(factory, METHODS)) for name in ("one", "two"))

    assert one == two
    addresses = [cell.picture for row in one.rows for cell in row.cells.values()]
    assert all((tmp_path / "one" / each).read_bytes() == (tmp_path / "two" / each).read_bytes() for each in addresses)


def test_methods_that_nobody_chose_are_shown_too_but_no_untrained_one_and_no_foreign_file(factory: Factory) -> None:
    """A user could not see what another method would give before choosing it; or a report would fail for a folder that no method reads."""
    params = asked(factory, ("draem", "paste"))
    elsewhere = params.model_copy(update={"methods": ("paste",), "textures": params.textures.model_copy(update={"source": "/nowhere"})})

    assert shown_methods(params) == ("draem", "paste", "cutpaste", "glass", "quilt")
    assert shown_methods(elsewhere) == ("paste", "cutpaste", "quilt")


@pytest.mark.parametrize("column", ["background_sha256", "mask_sha256"])
def test_a_sample_whose_image_was_withdrawn_since_is_a_named_gap(factory: Factory, tmp_path: Path, column: str) -> None:
    """The whole report would end in a KeyError, until the samples are made again."""
    params, folder = asked(factory, ("quilt", "paste")), factory.data / "synthesize" / CATEGORY / "quilt"
    first = next(stream_rows(shard_paths(folder), ["sample_id", column], pc.field("verdict") == "accepted"))
    data = tmp_path / "data"
    shutil.copytree(factory.data, data)
    catalog = data / "prepare" / CATEGORY / "catalog.parquet"
    digest = "image_sha256" if column == "background_sha256" else column
    pq.write_table(pq.read_table(catalog).filter((pc.field(digest) != first[column]) | pc.field(digest).is_null()), catalog)

    found = write_same_inputs(data, CATEGORY, params, root=tmp_path / "page", folder=Path("methods"))

    what = "photograph" if column == "background_sha256" else "mask"
    assert f"{first['sample_id']}, whose {what} is no longer a training image" in found.gaps
    assert len(found.rows) + len(found.gaps) == 2 * ROWS
