"""The naming rule says what a file is, and cannot be made to leave its folder."""

import pytest

from stage.core.data_params import FolderRule
from stage.core.errors import ConfigError
from stage.datasets.layouts import MVTEC as RULE
from stage.datasets.rules import FileRole, check_rule, compile_rule

TILE = FolderRule(
    normal="MT_Free/Imgs/{name}.jpg",
    test_normal="",
    image="MT_{defect}/Imgs/{name}.jpg",
    mask="MT_{defect}/Imgs/{name}.png",
    groups="groups.csv",
    foreground="",
)


@pytest.mark.parametrize(
    ("rule", "path", "place"),
    [
        (RULE, "part/train/good/0.png", FileRole("normal", "good", "0")),
        (RULE, "part/test/good/0.png", FileRole("test_normal", "good", "0")),
        (RULE, "part/test/big crack/a.b.PNG", FileRole("image", "big crack", "a.b")),
        (RULE, "part/ground_truth/crack/a.b_mask.png", FileRole("mask", "crack", "a.b")),
        (RULE, "part/foreground/0.png", FileRole("foreground", "good", "0")),
        (RULE, "other/train/good/0.png", None),
        (RULE, "part/train/good/deeper/0.png", None),
        (RULE, "part/ground_truth/crack/0.png", FileRole("bare_mask", "crack", "0")),
        (TILE, "MT_Free/Imgs/1.jpg", FileRole("normal", "good", "1")),
        (TILE, "MT_Free/Imgs/1.png", FileRole("mask", "Free", "1")),
        (TILE, "MT_Crack/Imgs/1.JPG", FileRole("image", "Crack", "1")),
        (TILE, "mt_Crack/Imgs/1.jpg", None),
        (TILE, "MT_Crack/Imgs/1xjpg", None),
    ],
)
def test_a_path_has_one_place(rule: FolderRule, path: str, place: FileRole | None) -> None:
    """A defective image would be trained on as normal, or a mask taken for an image."""
    assert compile_rule(rule, "part").place(path) == place


def test_names_are_equal_however_their_accents_are_composed() -> None:
    """A mask drawn on a Mac would not be found beside its image from Linux."""
    ours = compile_rule(RULE, "pi\u00e8ce")

    assert ours.place("pie\u0300ce/test/crack/e\u0301.png") == FileRole("image", "crack", "\u00e9")


def test_a_repeated_placeholder_stands_for_the_same_text() -> None:
    """`{name}/{name}.png` would pair files of different folders."""
    ours = compile_rule(TILE.model_copy(update={"image": "{defect}/{name}/{name}.jpg"}), "tile")

    assert ours.place("crack/7/7.jpg") == FileRole("image", "crack", "7")
    assert ours.place("crack/7/8.jpg") is None


@pytest.mark.parametrize("key", ["normal", "test_normal", "image", "mask", "groups", "foreground"])
@pytest.mark.parametrize("bad", ["../{name}.png", "a/../../{name}.png", "/etc/{name}", "~/{name}.png", "C:/{name}.png", "..\\{name}.png"])
def test_a_pattern_may_not_leave_the_folder(key: str, bad: str) -> None:
    """A parameter file from elsewhere could read any image of the machine."""
    with pytest.raises(ConfigError, match=rf"below the data folder in prepare\.folder\.{key}.*may not"):
        check_rule(TILE.model_copy(update={key: bad}), ["tile"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normal": "ok/**/{name}.png"}, r"`\*\*` has no meaning"),
        ({"normal": "ok/{nome}.png"}, "{nome} is unknown"),
        ({"normal": "ok/*.png"}, "holds no {name}"),
        ({"image": ""}, "it is empty"),
        ({"groups": "{name}.csv"}, "names one file"),
        ({"mask": "masks/{name}.png"}, r"in both .* or in neither.*, found 'MT_\{defect\}.*' and 'masks/\{name\}.png'\. Correct"),
        ({"image": "{category}/{defect}{name}.png"}, r"where the first of \{defect\}\{name\} ends; .*\. Correct it in params.yaml"),
        ({"normal": "ok/{defect}/{name}.png"}, "normal images have no {defect}"),
        ({"test_normal": "test/{defect}/{name}.png"}, "normal images have no {defect}"),
        ({"foreground": "foreground/{defect}_{name}.png"}, "normal images have no {defect}"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(changes: dict[str, str], message: str) -> None:
    """A slip in the rule would show up as hundreds of files set aside, or as wrong pairs."""
    with pytest.raises(ConfigError, match=message):
        check_rule(TILE.model_copy(update=changes), ["tile"])


def test_several_categories_need_a_rule_that_tells_them_apart() -> None:
    """Each category would get the images of all."""
    with pytest.raises(ConfigError, match=r"Expected \{category\} in prepare.folder.normal"):
        check_rule(TILE, ["tile", "bottle"])
    check_rule(TILE, ["tile"])
    check_rule(RULE, ["tile", "bottle"])
