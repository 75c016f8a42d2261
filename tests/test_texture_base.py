"""A base that is trained on textures before there are photographs: its windows, its training, and what pretraining takes over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import refused
from miniatures import small_params
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file
from test_pretraining import examples

from stage.core.errors import ConfigError, DataError, Refusal
from stage.core.params import Execution, read_section
from stage.model.base import Base, load_base
from stage.model.pretraining import begun, untrained
from stage.synthesis.texture_base import TextureLoss, check_place, make_texture_base, train_on_textures, untrained_on
from stage.synthesis.texture_windows import TextureBase, TextureWindows, read_pictures

RECIPE = Path(__file__).parents[1] / "bases" / "textures.yaml"
SMALL = {"image_size": 16, "widths": [16], "text_width": 16, "fitted": 64, "iterations": 4, "batch": 4}


def recipe(**changes: object) -> TextureBase:
    """The published one at the smallest scale."""
    published = read_section(RECIPE, TextureBase, what="a recipe", example="none")
    return TextureBase.model_validate(published.model_dump() | SMALL | changes)


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3)).astype(np.uint8) for height, width in ((16, 40), (50, 33))]


def windows(**changes: object) -> TextureWindows:
    return TextureWindows(pictures(), recipe(**changes))


def execution() -> Execution:
    return small_params().execution


def texture_base() -> Base:
    """Untrained."""
    return untrained_on(windows()).freeze()


def weights(base: Base) -> list[torch.Tensor]:
    return [value for part in base.modules() for value in part.state_dict().values()]


def test_windows_have_their_size_and_a_defect_in_the_stated_share() -> None:
    """The base would see half of the textures that it was promised, or no defect."""
    random = np.random.default_rng(1)
    drawn = [windows(defective=0.5).draw(random) for _ in range(200)]

    assert {one.image.shape for one in drawn} == {(16, 16, 3)}
    assert {one.mask.shape for one in drawn} == {(16, 16)}
    assert 0.4 < np.mean([one.mask.any() for one in drawn]) < 0.6


def test_a_defect_is_where_its_mask_is() -> None:
    """The base would learn defects in the wrong place, or none: here every choice but the defect is the same, without jitter of the colours."""
    still = {"brightness": 30.0, "contrast": [1.0, 1.0], "grey": 0.0, "computed": 0.0, "other_texture": 1.0, "defective": 1.0}
    textured = windows(**still)
    one = textured.draw(np.random.default_rng(2))
    flat = TextureWindows([np.full((40, 40, 3), 90, np.uint8)], textured.recipe)
    same = flat.draw(np.random.default_rng(2))

    assert one.mask.any()
    assert not one.mask.all()
    assert len(np.unique(same.image)) == 1  # a flat texture in a flat one is no defect to be seen


def test_grey_windows_have_no_colour() -> None:
    """A base for grey photographs would have seen colour alone."""
    image = windows(grey=1.0).draw(np.random.default_rng(3)).image

    assert (image == image[..., :1]).all()


def test_a_training_is_the_same_twice_and_learns(tmp_path: Path) -> None:
    """Nobody could make the shipped base again."""
    bases = [train_on_textures(windows(), state=tmp_path / f"{k}.safetensors", execution=execution()) for k in range(2)]

    assert all(torch.equal(*pair) for pair in zip(*(weights(base) for base, _ in bases), strict=True))
    assert len(bases[0][1]) == 4


def test_isolated_windows_are_zero_around_the_defect() -> None:
    """The base would not have seen what the anomaly-only branch is shown."""
    all_defects = windows(isolated=1.0, defective=1.0, batch=8)
    latents = TextureLoss(texture_base(), all_defects)._latents(np.random.default_rng(4))

    assert all((row == 0).all(dim=0).any() for row in latents)


def test_pretraining_takes_over_the_weights_and_the_codec(tmp_path: Path) -> None:
    """`pretrain.start` would be recorded, and the textures' base be forgotten."""
    given, _ = train_on_textures(windows(), state=tmp_path / "state.safetensors", execution=execution())
    given.save(tmp_path / "base")
    params = small_params().pretrain.model_copy(update={"patch": recipe().patch, "widths": (16,), "text_width": 16})
    base = begun(untrained(examples(), params, 1000), load_base(tmp_path / "base"), "there")

    assert torch.equal(base.unet.conv_in.weight, given.unet.conv_in.weight)
    assert torch.equal(base.codec.state_dict()["rotation"], given.codec.state_dict()["rotation"])
    assert base.unet.conv_in.weight.requires_grad
    assert base.embed(examples().texts).shape[0] == len(examples().texts)


def test_a_base_of_another_form_is_refused(tmp_path: Path) -> None:
    """Torch would complain about shapes, hours later or in the middle of a night."""
    given = texture_base()
    params = small_params().pretrain.model_copy(update={"patch": 4, "widths": (32,), "text_width": 16})
    with pytest.raises(ConfigError, match=r"found block_out_channels .*16.*, not .*32.*pretrain.start"):
        begun(untrained(examples(), params, 1000), replace(given), "there")


def test_a_base_that_is_preconditioned_is_not_taken_for_one_that_is_not() -> None:
    """`pretrain.preconditioned: false` would be recorded, and be without effect."""
    params = small_params().pretrain.model_copy(
        update={"patch": recipe().patch, "widths": (16,), "text_width": 16, "preconditioned": False}
    )
    with pytest.raises(ConfigError, match=r"found preconditioned True, not False.*pretrain.start"):
        begun(untrained(examples(), params, 1000), texture_base(), "there")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    """A training on nothing would end in a traceback."""
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    (tmp_path / "SOURCES.csv").write_text("file,licence\n")

    with pytest.raises(DataError, match=r"pictures of at least 16 px below .*, found none"):
        read_pictures(tmp_path, 16)


def test_making_again_finds_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour's work would be done twice."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "textures"
    folder.mkdir()
    for number, picture in enumerate(pictures()):
        Image.fromarray(picture).save(folder / f"{number}.png")
    YAML().dump(recipe().model_dump(mode="json"), tmp_path / "recipe.yaml")
    made = [make_texture_base(folder, tmp_path / "recipe.yaml", execution()) for _ in range(2)]
    for one in made:  # an earlier base is replaced
        check_place(tmp_path / "base")
        one.publish(tmp_path / "base")

    assert made[0] == made[1]
    assert load_base(tmp_path / "base").prediction == "v_prediction"
    assert load_base(tmp_path / "base").unet.dtype == torch.float32
    assert {tensor.dtype for tensor in load_file(next((tmp_path / "base" / "unet").glob("*.safetensors"))).values()} == {torch.float16}
    assert len(list((tmp_path / ".spool" / "make-base").rglob("result.json"))) == 1


@pytest.mark.parametrize("place", ["bases", ".", "bases/../bases", "bases/textures.yaml"])
def test_what_is_no_earlier_base_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The recipes, or the whole project, would be deleted for a base that was an hour in the making."""
    monkeypatch.chdir(tmp_path)
    Path("bases").mkdir()
    Path("bases/textures.yaml").write_text("a recipe")

    assert refused("make-base", "textures", "--output", place).startswith(
        f"Expected an empty place or an earlier base of make-base at {tmp_path}"
    )
    assert Path("bases/textures.yaml").read_text() == "a recipe"


def test_a_file_beside_the_weights_of_an_earlier_base_is_not_lost(tmp_path: Path) -> None:
    """Notes on a base would go with it."""
    for file in ("model_index.json", "curve.csv", "unet/config.json", "unet/notes.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()

    with pytest.raises(Refusal, match=r"found a folder with 1 other entry, such as 'unet/notes\.txt'"):
        check_place(tmp_path)
