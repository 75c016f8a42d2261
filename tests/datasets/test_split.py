"""The split: floor(n/3) of each defect type in sorted order, and nothing on both sides."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage.datasets.entries import Entry
from stage.datasets.split import divide


def entry(path: str, defect: str = "crack", *, side: str = "test", group: str = "", digest: str = "", reason: str = "") -> Entry:
    return Entry("part", defect, side, path, None, group or path, "CC0-1.0", image_sha256=digest or path, reason=reason)


def sides(entries: list[Entry]) -> dict[str, str]:
    return {each.path: each.split for each in divide(entries)}


NORMAL = entry("good/0", "good", side="train")


@pytest.mark.parametrize(("count", "trained"), [(3, 1), (4, 1), (5, 1), (6, 2), (20, 6), (21, 7), (22, 7)])
def test_first_third_of_each_type_trains(count: int, trained: int) -> None:
    """Results could not be compared with the paper's protocol."""
    images = [entry(f"crack/{number:03}") for number in range(count)]
    split = sides([*reversed(images), NORMAL])

    assert [split[image.path] for image in images] == ["train"] * trained + ["test"] * (count - trained)


def test_normal_images_keep_the_side_of_their_source() -> None:
    """Normal test images would be backgrounds of synthetic ones."""
    split = sides([NORMAL, entry("test/good/0", "good"), *(entry(f"crack/{number}") for number in range(3))])

    assert (split["good/0"], split["test/good/0"]) == ("train", "test")


def test_set_aside_images_do_not_count() -> None:
    """The third would be taken of images that do not exist."""
    bad = [entry(f"crack/{number}", reason="broken") for number in range(3)]
    split = divide([NORMAL, *bad, *(entry(f"crack/{number}") for number in range(3, 7))])

    assert Counter(each.split for each in split if each.defect == "crack") == {"": 3, "train": 1, "test": 3}
    assert [each.reason for each in split if each.path in {"crack/0", "crack/1", "crack/2"}] == ["broken"] * 3


@pytest.mark.parametrize("count", [1, 2])
def test_a_type_of_fewer_than_three_is_set_aside_as_a_whole(count: int) -> None:
    """A type would be trained on and never tested, or the other way round."""
    few = [entry(f"few/{number}", "few") for number in range(count)]
    split = divide([NORMAL, *few, *(entry(f"crack/{number}") for number in range(3))])

    assert {each.reason for each in split if each.defect == "few"} == {
        f"its defect type few has {count} usable images, and a split takes 3"
    }
    assert {each.split for each in split if each.defect == "few"} == {""}


def test_second_of_two_equal_files_is_set_aside() -> None:
    """The same photograph would be trained on and tested on."""
    split = divide([NORMAL, *(entry(f"crack/{number}") for number in range(4)), entry("crack/9", digest="crack/0")])
    found = {each.path: each for each in split}

    assert found["crack/9"].reason == "the same bytes as another file, which is kept"
    assert found["crack/9"].detail == "crack/0"
    assert [found[path].group for path in ("crack/0", "crack/9")] == ["crack/0", "crack/9"]
    assert Counter(each.split for each in split if each.defect == "crack") == {"train": 1, "test": 3, "": 1}


def test_equal_files_set_aside_before_do_not_displace_a_good_one() -> None:
    """A file without a mask would take its usable twin with it."""
    split = divide(
        [NORMAL, entry("crack/0", digest="x", reason="has no mask"), entry("crack/1", digest="x"), entry("crack/2"), entry("crack/3")]
    )

    assert {each.path: each.reason for each in split}["crack/1"] == ""


@pytest.mark.parametrize("reason", ["", "its mask cannot be read"])
def test_a_copy_that_is_set_aside_says_which_part_the_kept_one_shows(reason: str) -> None:
    """A part would be trained on and tested on, because the copy that is kept is not in the groups file."""
    listed = [entry("crack/a_1", group="P"), entry("crack/z_2", group="P", digest="same", reason=reason)]
    split = divide([NORMAL, *listed, entry("crack/z00", digest="same"), *(entry(f"crack/m{number}") for number in range(4))])
    found = {each.path: each for each in split}

    assert found["crack/z_2"].reason
    assert (found["crack/z00"].group, found["crack/z00"].split) == ("P", found["crack/a_1"].split)
    assert sorted(each.path for each in split if each.split == "train" and each.defect != "good") == ["crack/a_1", "crack/z00"]


def test_equal_pictures_that_are_all_set_aside_join_no_groups() -> None:
    """Black frames of a broken camera would make one part of all."""
    black = [entry(f"crack/{number}", group=f"g{number}", digest="black", reason="one colour") for number in range(4)]
    split = divide([NORMAL, *black, *(entry(f"crack/{number + 4}", group=f"g{number}") for number in range(4))])

    assert [each.group for each in split if each.split and each.defect == "crack"] == ["g0", "g1", "g2", "g3"]


def test_groups_go_whole_and_skip_what_does_not_fit() -> None:
    """By hand: of nine, three may train. a (2) fits, b (2) would make four, c (1) makes three, d comes too late."""
    groups = "aabbcdddd"
    split = sides([NORMAL, *(entry(f"crack/{number}", group=group) for number, group in enumerate(groups))])

    assert [split[f"crack/{number}"] for number in range(9)] == ["train", "train", "test", "test", "train", *["test"] * 4]


def test_a_type_of_one_large_group_is_set_aside() -> None:
    """A type would silently have no training image at all."""
    split = divide(
        [NORMAL, *(entry(f"one/{number}", "one", group="g") for number in range(5)), *(entry(f"crack/{number}") for number in range(3))]
    )

    assert {each.reason for each in split if each.defect == "one"} == {
        "no group of its defect type one fits into a third of its 5 images, so none could be trained on"
    }


def test_a_normal_image_of_a_tested_group_is_set_aside() -> None:
    """The background of a synthetic sample would be the part that the test shows."""
    normal = entry("good/1", "good", side="train", group="g")
    split = divide([NORMAL, normal, *(entry(f"crack/{number}") for number in range(5)), entry("crack/5", group="g")])
    found = {each.path: each for each in split}

    assert found["crack/5"].split == "test"
    assert found["good/1"].reason == "normal, but its group is in the test, so it may not be a training image"
    assert found["good/1"].detail == "group g"


def test_a_group_with_a_normal_test_image_is_tested() -> None:
    """The part of a normal test image would have been trained on."""
    split = sides(
        [
            NORMAL,
            entry("test/good/0", "good", group="g"),
            entry("crack/0", group="g"),
            *(entry(f"crack/{number}") for number in range(1, 6)),
        ]
    )

    assert [split[f"crack/{number}"] for number in range(4)] == ["test", "train", "train", "test"]


images = st.lists(
    st.tuples(st.sampled_from(["crack", "spot", "good-train", "good-test"]), st.integers(0, 12)).map(lambda pair: (pair[0], str(pair[1]))),
    max_size=40,
)


@given(images)
def test_no_group_straddles_and_no_third_is_exceeded(kinds: list[tuple[str, str]]) -> None:
    """Whatever the groups, the evaluation would not be of unseen parts."""
    split = divide(
        [
            entry(f"{number:03}", kind.split("-")[0], side="train" if kind.endswith("train") else "test", group=f"g{group}")
            for number, (kind, group) in enumerate(kinds)
        ]
    )
    by_group: dict[str, set[str]] = defaultdict(set)
    for each in split:
        if each.split:
            by_group[each.group].add(each.split)

    assert all(len(found) == 1 for found in by_group.values())
    for defect in ("crack", "spot"):
        accepted = [each.split for each in split if each.defect == defect and not each.reason]
        assert not accepted or 1 <= accepted.count("train") <= len(accepted) // 3
    assert all(bool(each.split) != bool(each.reason) for each in split)
    assert [each.path for each in split] == sorted(each.path for each in split)
