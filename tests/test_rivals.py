"""CutPaste, DRAEM, GLASS and `quilt` as methods of the factory: the same rows, pixels and tables as STAGE's and paste's."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_factory import Factory, build

from stage.core.params import Params
from stage.datasets.components import dilated
from stage.datasets.table import read_catalog
from stage.jobs.inputs import inputs_of
from stage.release.publication import publish_jobs
from stage.release.verification import verify
from stage.synthesis.method import METHODS
from stage.synthesis.quality import verdict_on
from stage.synthesis.rows import Identity, PlanRow

RIVALS = ("cutpaste", "draem", "glass", "quilt")
SIDE = 64  # px


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"), SIDE)


def changed(factory: Factory, **sections: dict[str, object]) -> Params:
    return factory.params.model_copy(
        update={name: getattr(factory.params, name).model_copy(update=values) for name, values in sections.items()}
    )


def rows_of(factory: Factory, method: str, count: int, params: Params | None = None) -> list[PlanRow]:
    recipe = factory.recipe(method, params)
    plan = METHODS[method].planner(recipe, read_catalog(factory.catalog), factory.source())
    return [plan(Identity(method, recipe.category, "crack", k, 0)) for k in range(count)]


VARIANTS = [
    ("cutpaste", {"cutpaste": {"variant": "union"}}),
    ("cutpaste", {"cutpaste": {"variant": "masks"}}),
    ("cutpaste", {"cutpaste": {"variant": "masks"}, "synthesize": {"mask_source": "perlin"}}),
    ("draem", {"draem": {"preset": "paper"}}),
    ("draem", {"draem": {"preset": "quality"}}),
    ("draem", {"textures": {"source": "own"}}),
    ("glass", {"glass": {"preset": "paper"}}),
    ("glass", {"glass": {"preset": "quality"}}),
    ("quilt", {"quilt": {"blends": ("hard",)}}),
    ("quilt", {"synthesize": {"mask_source": "perlin"}}),
    ("quilt", {"synthesize": {"placement": "on_part"}}),
    ("quilt", {"synthesize": {"mask_source": "resampled", "placement": "on_part"}}),
    ("cutpaste", {"cutpaste": {"variant": "masks"}, "synthesize": {"mask_source": "scratch"}}),
    ("cutpaste", {"cutpaste": {"variant": "masks"}, "synthesize": {"placement": "on_part"}}),
]


@pytest.mark.parametrize(("method", "sections"), VARIANTS)
def test_fifty_pairs_have_masks_and_change_nothing_around_them(
    factory: Factory, method: str, sections: dict[str, dict[str, object]]
) -> None:
    """Labels would be empty or on nothing that can be seen, or photographs changed where they are labelled as normal."""
    params, source = changed(factory, **sections), factory.source()
    rows = rows_of(factory, method, 50, params)
    samples = METHODS[method].renderer(factory.recipe(method, params), "cpu").render(rows, source)
    accepted = 0
    for row, sample in zip(rows, samples, strict=True):
        background, mask = source.backgrounds[row.background_sha256].image, sample.pair.mask
        around = dilated(mask, sample.reach) == 0

        assert row.mask_area == mask.sum() > 0
        assert sample.pair.image.dtype == np.uint8
        assert np.array_equal(sample.pair.image[around], background[around])
        verdict = verdict_on(sample, background, row.defect, None)
        assert (verdict.verdict == "accepted") == (verdict.contrast >= 8)
        assert verdict.verdict == "accepted" or verdict.reason.startswith("hardly differs: ")
        accepted += verdict.verdict == "accepted"

    assert accepted > 25


@pytest.mark.parametrize("method", RIVALS)
def test_a_sample_does_not_depend_on_others(factory: Factory, method: str) -> None:
    """More samples, another batch or another worker would change those that are there."""
    rows, source = rows_of(factory, method, 6), factory.source()
    plan = METHODS[method].planner(factory.recipe(method), read_catalog(factory.catalog), source)
    render = METHODS[method].renderer(factory.recipe(method), "cpu").render

    assert plan(rows[-1].identity) == rows[-1]
    assert len({(row.mask_digest, row.choices) for row in rows}) > 3
    for row, sample in zip(rows, render(rows, source), strict=True):
        assert np.array_equal(render([row], source)[0].pair.image, sample.pair.image)


@pytest.mark.parametrize("method", RIVALS)
def test_what_is_published_is_right_and_the_same_again(factory: Factory, tmp_path: Path, method: str) -> None:
    """`stage verify` would find fault with every data set, or the same seed make another one."""
    digests = []
    for place in ("one", "two"):
        job = factory.job(tmp_path / place / "spool", method=method)
        factory.fill(job)
        digests.append(publish_jobs([job.folder], tmp_path / place / "out", lease_s=60.0)["digest"])

        assert verify(tmp_path / place / "out") == []
    assert digests[0] == digests[1]


def test_what_hardly_differs_is_planned_again_and_its_reason_kept(factory: Factory, tmp_path: Path) -> None:
    """A segmenter would be trained on labels of nothing, or nobody could say how many were dropped."""
    first = factory.job(tmp_path / "spool", changed(factory, draem={"visible": 40.0}), method="draem", attempts=3)
    jobs = factory.fill_rounds(first)
    publish_jobs([job.folder for job in jobs], tmp_path / "out", lease_s=60.0)
    table = pq.read_table(tmp_path / "out/shards", columns=["verdict", "reason", "contrast", "attempt"]).to_pandas()
    rejected = table.verdict == "rejected"

    assert len(jobs) > 1
    assert table.loc[~rejected, "contrast"].min() >= 40
    assert table.loc[rejected, "reason"].str.fullmatch(r"hardly differs: [\d.]+ of 255 on average, under 40").all()
    assert table.loc[rejected, "attempt"].max() >= 1


def test_no_method_counts_the_parameters_of_another(factory: Factory) -> None:
    """A night's samples would be made again for a number that touches none of them."""
    own = {name: {key.split(".")[0] for key in inputs_of(factory.recipe(name)) if "." in key} - {"synthesize"} for name in RIVALS}

    assert own == {"cutpaste": {"cutpaste"}, "draem": {"draem", "textures"}, "glass": {"glass", "textures"}, "quilt": {"quilt"}}


@pytest.mark.parametrize("method", ["draem", "glass"])
def test_a_row_names_its_texture(factory: Factory, tmp_path: Path, method: str) -> None:
    """Nobody could say which pictures went into a sample, or whose licence it has."""
    params = changed(factory, textures={"source": str(textures(tmp_path)), "licence": "CC-BY-4.0"})
    for row in rows_of(factory, method, 4, params):
        choices = json.loads(row.choices)

        assert choices["texture_path"] in {"a/0.png", "1.png"}
        assert len(choices["texture_sha256"]) == 64
        assert len(set(choices["augmenters"])) == 3
        assert row.licence == "CC0-1.0 AND CC-BY-4.0"


def textures(root: Path) -> Path:
    """A folder of two pictures, one of them in a subfolder."""
    from PIL import Image

    (root / "textures/a").mkdir(parents=True)
    for number, place in enumerate(("a/0.png", "1.png")):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 90, 3), dtype=np.uint8)).save(root / "textures" / place)
    return root / "textures"
