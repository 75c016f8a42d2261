"""The texture bank: computed textures that differ, folders as they are, and the data set's own photographs without its test images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_factory import Factory, build
from source_tree import ROOT

from flows.environment import textures as noted
from stage.core.errors import ConfigError, CorruptFileError
from stage.core.params import load_params
from stage.core.synthesis_params import Textures
from stage.datasets.recalled import Recall
from stage.datasets.table import read_catalog
from stage.lineage.withdrawal import add
from stage.synthesis.procedural import PATTERNS, procedural
from stage.synthesis.texture_fit import centre_crop, covering, stretched
from stage.synthesis.texture_folder import check_folder
from stage.synthesis.textures import bank_digest, bank_of

PHOTOGRAPHS = ROOT / "stage/datasets/demo"


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


def bank(source: object) -> Textures:
    return Textures(source=str(source), licence="unknown")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures of other sizes and modes than photographs, and what is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "textures/wood").mkdir(parents=True)
    Image.new("L", (30, 20), 90).save(tmp_path / "textures/grey.png")
    Image.new("RGB", (9, 50), (200, 10, 10)).save(tmp_path / "textures/wood/red.JPG")
    (tmp_path / "textures/notes.txt").write_text("none")
    return tmp_path / "textures"


def test_two_thousand_computed_textures_differ() -> None:
    """A segmenter would know the textures by heart."""
    assert len({procedural(8, 8, seed).tobytes() for seed in range(2000)}) == 2000


@pytest.mark.parametrize("shape", [(256, 256), (30, 70), (1, 1)])
def test_computed_textures_are_of_any_size_and_the_same_again(shape: tuple[int, int]) -> None:
    """A sample could not be made again."""
    for seed in range(12):
        texture = procedural(*shape, seed)

        assert (texture.shape, texture.dtype) == ((*shape, 3), np.uint8)
        assert np.array_equal(texture, procedural(*shape, seed))


def test_every_pattern_fills_its_range() -> None:
    """A texture would be of one colour."""
    for name, pattern in PATTERNS.items():
        values = pattern(64, 64, np.random.default_rng(1))

        assert values.min() >= 0, name
        assert values.max() <= 1, name
        assert values.std() > 0.05, name


def test_a_folder_is_read_with_its_subfolders(folder: Path, factory: Factory) -> None:
    """DTD has a folder for each category, and a user's pictures any extension."""
    textures = bank_of(bank(folder), factory.catalog.parent)
    random = np.random.default_rng(0)
    drawn = {texture.path: textures.picture(texture, 8, 8) for texture in (textures.draw(random) for _ in range(20))}

    assert {path: pixels.shape for path, pixels in drawn.items()} == {"grey.png": (20, 30, 3), "wood/red.JPG": (50, 9, 3)}
    assert drawn["grey.png"][0, 0].tolist() == [90] * 3


def test_a_texture_that_changed_after_planning_is_refused(folder: Path, factory: Factory) -> None:
    """A sample would show another picture than its row names."""
    (folder / "wood/red.JPG").unlink()
    textures = bank_of(bank(folder), factory.catalog.parent)
    texture = textures.draw(np.random.default_rng(0))
    Image.new("L", (30, 20), 91).save(folder / "grey.png")

    with pytest.raises(CorruptFileError, match=r"planned texture .*grey.png, found [0-9a-f]{12}: it has changed since. Run"):
        textures.picture(texture, 8, 8)


def test_what_is_no_folder_of_pictures_is_refused_with_the_ways_out(folder: Path) -> None:
    """A run would end in a traceback after hours of training."""
    for path in folder.rglob("*.*"):
        path.unlink() if path.suffix != ".txt" else None

    with pytest.raises(ConfigError, match=r"procedural, own, others, or a folder of pictures, found '.*textures': no picture in it"):
        check_folder(bank(folder), PHOTOGRAPHS)
    with pytest.raises(ConfigError, match="found 'nowhere': no such folder"):
        check_folder(bank("nowhere"), PHOTOGRAPHS)


def test_a_folder_that_may_hold_evaluation_images_is_refused(folder: Path, tmp_path: Path) -> None:
    """A method would be judged on photographs that it has drawn from, and nobody would know."""
    for photographs in (folder, folder.parent, folder / "wood"):
        with pytest.raises(ConfigError, match=r"Expected textures\.source apart from the photographs, found .* evaluation images"):
            check_folder(bank(folder), photographs)
    check_folder(bank(folder), tmp_path / "photographs")
    check_folder(bank("own"), folder)


def test_files_that_are_no_pictures_are_named_before_the_run(folder: Path) -> None:
    """A night would end at the first row that draws one of them, and the next night at the second."""
    (folder / "grey.png").write_bytes(b"")
    (folder / "wood/text.png").write_text("no picture")

    with pytest.raises(ConfigError, match=r"found 2 that cannot be opened: grey\.png, wood/text\.png\. Remove them"):
        check_folder(bank(folder), PHOTOGRAPHS)


def test_a_damaged_picture_is_named_when_it_is_planned(folder: Path, factory: Factory) -> None:
    """A batch would fail for ever, in the middle of a night."""
    (folder / "wood/red.JPG").unlink()
    (folder / "grey.png").write_bytes(b"\x89PNG nothing")

    with pytest.raises(ConfigError, match=r"Expected a picture at .*grey.png, found: .* Remove it"):
        bank_of(bank(folder), factory.catalog.parent).draw(np.random.default_rng(0))


def test_own_textures_come_from_normal_training_photographs(factory: Factory) -> None:
    """Test images would be in the training data."""
    catalog = read_catalog(factory.catalog).set_index("image_sha256")
    textures, random = bank_of(bank("own"), factory.catalog.parent), np.random.default_rng(0)
    for _ in range(20):
        texture = textures.draw(random)
        row = catalog.loc[texture.sha256]

        assert (row.split, row.defect, row.image_path) == ("train", "good", texture.path)
        assert np.array_equal(textures.picture(texture, 8, 8), textures.picture(texture, 8, 8))


def test_others_need_another_category(factory: Factory) -> None:
    """The category's own photographs would be taken for others'."""
    with pytest.raises(ConfigError, match=r"Expected other categories for `textures\.source: others`, found part alone"):
        bank_of(bank("others"), factory.catalog.parent)


def test_others_come_from_the_other_categories(factory: Factory, tmp_path: Path) -> None:
    """A bolt would get textures of bolts."""
    for name in ("part", "nut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / factory.catalog.name).write_bytes(factory.catalog.read_bytes())
    textures = bank_of(bank("others"), tmp_path / "part")
    texture = textures.draw(np.random.default_rng(0))

    assert textures.picture(texture, 8, 8).shape == (16, 16, 3)
    assert bank_digest(bank("others"), tmp_path / "part") != bank_digest(bank("own"), tmp_path / "part")


def test_the_digest_of_a_bank_changes_with_its_files_alone(folder: Path, factory: Factory) -> None:
    """Samples would be made again for nothing, or keep textures that are gone."""
    before = bank_digest(bank(folder), factory.catalog.parent)
    moved = folder.rename(folder.with_name("elsewhere"))

    assert bank_digest(bank(moved), factory.catalog.parent) == before
    Image.new("L", (30, 20), 91).save(moved / "grey.png")
    assert bank_digest(bank(moved), factory.catalog.parent) != before
    assert bank_digest(bank("procedural"), factory.catalog.parent) == ""


def test_the_graph_notices_what_a_bank_holds_and_nothing_else(folder: Path) -> None:
    """`dvc repro` would keep samples of textures that are gone, or make those of other methods again."""
    params = load_params(ROOT / "params.yaml")
    chosen = params.model_copy(update={"textures": bank(folder)})
    before = noted(chosen, "draem", "photographs")

    assert noted(chosen, "paste", "photographs") == noted(params, "draem", "photographs") == ""
    others = params.model_copy(update={"textures": bank("others")})
    changed = {
        noted(others, "glass", "photographs"),
        noted(others, "glass", "other photographs"),
        noted(others.model_copy(update={"categories": ("washer",)}), "glass", "photographs"),
        noted(others.model_copy(update={"prepare": others.prepare.model_copy(update={"image_size": 64})}), "glass", "photographs"),
    }
    assert len(changed) == 4
    assert noted(chosen, "draem", "photographs") == before
    Image.new("L", (30, 20), 91).save(folder / "grey.png")
    assert noted(chosen, "draem", "photographs") != before


def test_the_graph_notices_a_photograph_that_no_category_may_take_textures_from(folder: Path) -> None:
    """A sample of one category would keep the pixels of another's photograph after its recall: it changes no file that the sample's stage reads."""
    params = load_params(ROOT / "params.yaml")
    banks = {name: params.model_copy(update={"textures": bank(name)}) for name in ("others", "own")}
    before = {name: noted(one, "draem", "photographs") for name, one in banks.items()}
    recalled = Recall(kind="image", path="washer/train/good/007.png", sha256="7" * 64, reason="a scratch", date="2026-11-30")
    add([recalled], folder.parent / "recalled.yaml")

    assert {name for name, one in banks.items() if noted(one, "draem", "photographs") != before[name]} == {"others"}


def test_pictures_are_stretched_or_cover() -> None:
    """DRAEM resizes a texture whatever its aspect; GLASS keeps it, and crops."""
    wide = np.zeros((20, 60, 3), np.uint8)

    assert stretched(wide, 30, 30).shape == (30, 30, 3)
    assert covering(wide, 30, 30).shape == (30, 90, 3)
    assert centre_crop(covering(wide, 30, 40), 30, 40).shape == (30, 40, 3)


def test_a_strip_does_not_fill_the_memory() -> None:
    """A picture of 1 x 20,000 px, which no limit of megapixels stops, would become one of gigabytes."""
    strip = np.zeros((1, 20_000, 3), np.uint8)

    assert covering(strip, 256, 256).shape == (256, 1024, 3)
    assert covering(strip.transpose(1, 0, 2), 256, 512).shape == (4096, 512, 3)
