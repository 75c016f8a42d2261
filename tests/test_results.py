"""The tables of all categories, against means taken by hand, and the sentences that follow from them."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from stage.core.errors import CorruptFileError, Refusal
from stage.segmentation.counts import probability_of
from stage.segmentation.metrics import HALF
from stage.segmentation.results import AVERAGE, DIFFERENCE_COLUMNS, Results, gather_results, headline, read_results, write_results
from stage.segmentation.scores import ALL_TYPES, COLUMNS
from stage.segmentation.verdicts import results_tables, threshold_note, verdict, worth

ARMS = {"bolt": {"real_only": 0.25, "real_and_paste": 0.5}, "nut": {"real_only": 0.75, "real_and_paste": 0.875}}
DRAWS = {"bolt": [0.125, 0.25, 0.375], "nut": [0.0, 0.125, 0.25]}


def scores(category: str, arms: dict[str, float], few: int = 0) -> pd.DataFrame:
    rows = [
        (category, "segformer", arm, few, seed, defect, metric, value + seed / 8, "digest")
        for arm, value in arms.items()
        for seed in (0, 1)
        for defect in (ALL_TYPES, "dent")
        for metric in ("ap", "iou")
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def differences(draws: list[float], few: int = 0, arm: str = "real_and_paste", against: int | None = None) -> pd.DataFrame:
    rows = [
        ("segformer", few, arm, few if against is None else against, metric, draw, value)
        for metric in ("ap", "iou")
        for draw, value in [(-1, sum(draws) / len(draws)), *enumerate(draws)]
    ]
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two categories, scored with two seeds."""
    for category, arms in ARMS.items():
        folder = tmp_path / "segment" / category
        folder.mkdir(parents=True)
        scores(category, arms).to_parquet(folder / "scores.parquet")
        differences(DRAWS[category]).to_parquet(folder / "differences.parquet")
    return tmp_path


@pytest.fixture
def results(data: Path) -> Results:
    return gather_results(data, ("bolt", "nut"))


def of(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def test_the_average_is_over_categories(results: Results) -> None:
    """The headline number would be wrong: (0.25 + 0.75) / 2 and, with the second seed, an eighth more."""
    found = of(results.scores, category=AVERAGE, arm="real_only", metric="iou")

    assert dict(zip(found.seed, found.value, strict=True)) == {0: 0.5, 1: 0.625}
    assert set(found.defect) == {ALL_TYPES}  # the types of two categories have nothing in common


def test_a_metric_that_one_category_does_not_have_is_averaged_over_the_others(data: Path) -> None:
    """A category without normal test images would end the run after all its training, or take the metric from the rest."""
    more = scores("bolt", ARMS["bolt"]).query("metric == 'ap'").assign(metric="image_ap")
    pd.concat([scores("bolt", ARMS["bolt"]), more]).to_parquet(data / "segment/bolt/scores.parquet")
    found = gather_results(data, ("nut", "bolt")).scores

    assert of(found, category=AVERAGE, arm="real_only", metric="image_ap", seed=0).value.item() == 0.25
    assert of(found, category=AVERAGE, arm="real_only", metric="ap", seed=0).value.item() == 0.5


def test_the_interval_of_the_average_is_of_draws_taken_together(results: Results) -> None:
    """Two categories would look as uncertain as each of them, or as certain as their sum."""
    found = of(results.differences, category=AVERAGE, metric="ap").iloc[0]

    assert found.difference == pytest.approx((0.25 + 0.125) / 2)
    assert (found.low, found.high) == pytest.approx((0.0625 + 0.05 * 0.125, 0.3125 - 0.05 * 0.125))


def test_categories_are_those_asked_for_in_their_order(data: Path) -> None:
    """A category that was dropped from params.yaml would stay in the average."""
    assert list(gather_results(data, ("nut",)).scores.category.unique()) == ["nut", AVERAGE]
    assert list(gather_results(data, ("nut", "bolt")).scores.category.unique()) == ["nut", "bolt", AVERAGE]


@pytest.mark.parametrize("chosen", [{}, {"bolt": "real_only"}])
def test_without_folds_the_headline_has_the_first_method_not_the_best_on_the_test_part(results: Results, chosen: dict[str, str]) -> None:
    """A choice of the test part would pass for a finding, or `dvc metrics diff` compare a night with drawn samples that no factory can make."""
    more = [scores(name, {"real_and_quilt": 0.9, "real_and_perfect": 1.0}) for name in (*ARMS, AVERAGE)]

    assert headline(Results(pd.concat([results.scores, *more]), results.differences), chosen) == {
        "real_only": {"ap": 0.5625, "iou": 0.5625},
        "first": {"arm": "paste", "ap": 0.75, "iou": 0.75},
    }


@pytest.mark.parametrize(
    ("bolt", "nut", "expected"),
    [
        ("real_and_paste", "real_and_paste", {"arm": "paste", "ap": 0.75, "iou": 0.75}),
        ("real_only", "real_only", {"arm": "real_only", "ap": 0.5625, "iou": 0.5625}),
        ("real_only", "real_and_paste", {"arm": "by category", "ap": 0.625, "iou": 0.625}),  # (0.3125 + 0.9375) / 2
    ],
)
def test_with_folds_the_headline_has_what_they_chose(results: Results, bolt: str, nut: str, expected: dict[str, Any]) -> None:
    """The arm with the luckiest test images would be shown, in place of the one that the report recommends."""
    assert headline(results, {"bolt": bolt, "nut": nut}) == {"real_only": {"ap": 0.5625, "iou": 0.5625}, "chosen": expected}


def shown(results: Results) -> list[list[list[str]]]:
    """The rows of each table as a terminal of 100 columns has them."""
    found: list[list[list[str]]] = []
    for table in results_tables(results):
        output = io.StringIO()
        Console(file=output, width=100).print(table)
        lines = [line.strip("│").split("│") for line in output.getvalue().splitlines() if line.startswith("│")]
        found.append([[cell.strip() for cell in line] for line in lines])
    return found


def test_the_table_shows_percent_with_intervals_in_100_columns(results: Results) -> None:
    """A reader would take fractions for percent, or a terminal break the lines."""
    [rows] = shown(results)

    assert rows[0] == ["bolt", "real only", "31.2", "", "31.2", ""]
    assert rows[1] == ["bolt", "real and paste", "56.2", "+25.0 (+13.1 to +36.9)", "56.2", "+25.0 (+13.1 to +36.9)"]
    assert [row[0] for row in rows] == ["bolt", "bolt", "nut", "nut", AVERAGE, AVERAGE]


def test_each_segmenter_has_a_table_that_long_names_do_not_break(data: Path) -> None:
    """Three networks and a method of a long name would be cut off at the edge of the terminal; one category would be shown twice."""
    arms = {"real_only": 0.25, "real_and_anomalydiffusion": 0.5}
    folder = data / "segment" / "bolt"
    names = ("segformer", "efficientnet_lite0")
    drawn = differences([-0.5, -0.3, -0.1], arm="real_and_anomalydiffusion")
    pd.concat([scores("bolt", arms).assign(segmenter=name) for name in names]).to_parquet(folder / "scores.parquet")
    pd.concat([drawn.assign(segmenter=name) for name in names]).to_parquet(folder / "differences.parquet")

    told = "−30.0 (−49.0 to −11.0)"
    rows = [
        ["bolt", "real only", "31.2", "", "31.2", ""],
        ["bolt", "real and", "56.2", told, "56.2", told],
        ["", "anomalydiffusion", "", "", "", ""],
    ]
    assert shown(gather_results(data, ("bolt",))) == [rows, rows]


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        (
            [0.01, 0.02, 0.03],
            "Samples of paste help: AP, which decides, +2.0 (+1.1 to +2.9), IoU +2.0 (+1.1 to +2.9) points against real data alone.",
        ),
        ([-0.03, -0.02, -0.01], "Samples of paste harm, and real data alone is better: AP, which decides, −2.0 (−2.9 to −1.1)"),
        ([-0.02, 0.0, 0.02], "These data cannot tell whether samples of paste help: AP, which decides, 0.0 (−1.9 to +1.9)"),
    ],
)
def test_the_verdict_follows_the_interval(data: Path, draws: list[float], expected: str) -> None:
    """Chance would be sold as help, or harm be kept from the user."""
    for category in ARMS:
        differences(draws).to_parquet(data / "segment" / category / "differences.parquet")

    told = verdict(gather_results(data, ("bolt", "nut")), "paste")

    assert told.startswith(expected)
    assert told.endswith(".")


REAL = {1: 0.4, 2: 0.5, 4: 0.45, 0: 0.75}  # AP of real data alone by real defects per type, 0 for the whole third; a dip at 4


def learning(folder: Path, paste: dict[int, float], width: float = 0.01) -> None:
    """Results of a category whose AP with samples of paste is as given, and whose differences vary by `width` either way."""
    folder.mkdir(parents=True, exist_ok=True)
    both = [scores(folder.name, {"real_only": REAL[few], "real_and_paste": paste[few]}, few) for few in REAL]
    pairs = [(few, against) for few in REAL for against in REAL if few == against or (few and (against > few or not against))]
    drawn = [
        differences([found - width, found, found + width], few, against=against)
        for few, against in pairs
        for found in [paste[few] - REAL[against]]
    ]
    pd.concat(both).to_parquet(folder / "scores.parquet")
    pd.concat(drawn).to_parquet(folder / "differences.parquet")


@pytest.mark.parametrize(
    ("paste", "width", "expected"),
    [
        (
            {1: 0.55, 2: 0.7, 4: 0.8, 0: 0.9},
            0.02,
            "With samples of paste, 1 photograph of each defect does as well as 4 without samples: the difference in AP is +10.0 (+8.1 to +11.9) points.",
        ),
        (  # more than 4 did, but 2 did more than that
            {1: 0.47, 2: 0.49, 4: 0.8, 0: 0.9},
            0.02,
            "With samples of paste, 4 photographs of each defect do as well as all of the third without samples: the difference in AP is "
            "+5.0 (+3.1 to +6.9) points.",
        ),
        (  # the curves do not cross
            {1: 0.3, 2: 0.4, 4: 0.4, 0: 0.7},
            0.01,
            "With samples of paste, no number of real defects does as well as a larger number without samples.",
        ),
        (  # they rise apart, yet never by a whole step
            {1: 0.45, 2: 0.49, 4: 0.6, 0: 0.9},
            0.01,
            "With samples of paste, no number of real defects does as well as a larger number without samples.",
        ),
        (
            {1: 0.55, 2: 0.7, 4: 0.8, 0: 0.9},
            0.5,
            "These data cannot tell how many real defects samples of paste are worth: with 1 photograph of each defect and samples "
            "the difference in AP to 4 without them is +10.0 (−37.5 to +57.5) points, but to 1 without them it is +15.0 (−32.5 to +62.5).",
        ),
    ],
)
def test_samples_are_worth_so_many_photographs(tmp_path: Path, paste: dict[int, float], width: float, expected: str) -> None:
    """A user would be told that samples save photographs where chance or a dip of the curve made it look so."""
    learning(tmp_path / "segment" / "bolt", paste, width)
    found = gather_results(tmp_path, ("bolt",))

    assert worth(found, "bolt", "paste") == worth(found, AVERAGE, "paste") == expected


def test_the_average_curve_has_only_what_all_categories_have(tmp_path: Path) -> None:
    """The curve would fall or rise where a category with fewer defects leaves it, and the sentence follow that."""
    high = {1: 0.85, 2: 0.9, 4: 0.95, 0: 0.98}
    for name in ("bolt", "nut"):
        learning(tmp_path / "segment" / name, high)
    for table in ("scores", "differences"):
        path = tmp_path / "segment/nut" / f"{table}.parquet"
        rows = pd.read_parquet(path)
        rows[(rows.real_per_type < 4) & (rows.get("against", rows.real_per_type) < 4)].to_parquet(path)
    found = gather_results(tmp_path, ("bolt", "nut"))

    for table in (found.scores, found.differences):
        assert sorted(of(table, category=AVERAGE).real_per_type.unique()) == [0, 1, 2]
        assert sorted(of(table, category="bolt").real_per_type.unique()) == [0, 1, 2, 4]
    assert sorted(of(found.differences, category=AVERAGE).against.unique()) == [0, 1, 2]


def test_without_a_learning_curve_nothing_is_said(results: Results) -> None:
    """A sentence would be made of nothing."""
    assert worth(results, "bolt", "paste") == ""


@pytest.mark.parametrize(
    ("nut", "told"), [(0.2, "IoU of bolt is at a threshold of one half"), (probability_of(HALF), "IoU is at a"), (None, "")]
)
def test_iou_at_one_half_is_not_taken_for_a_chosen_threshold(results: Results, nut: float | None, told: str) -> None:
    """A gain in IoU would be credited to samples that only make a segmenter surer of itself."""
    levels = {"bolt": probability_of(HALF) if nut else 0.3, "nut": nut or 0.2, AVERAGE: 0.3}
    rows = [scores(name, {"real_only": 0}).assign(metric="threshold", value=level) for name, level in levels.items()]
    note = threshold_note(Results(pd.concat([results.scores, *rows]), results.differences))

    assert note.startswith(told)
    assert bool(note) == bool(told)


def test_results_that_are_not_there_or_damaged_are_named(tmp_path: Path) -> None:
    """`stage results` before the first run, or on a half copied file, would end in a traceback."""
    with pytest.raises(Refusal, match=r"evaluate/scores\.parquet, found none\. Run `dvc repro`"):
        read_results(tmp_path)
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate/scores.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(CorruptFileError, match=r"Expected a Parquet table in .*evaluate/scores\.parquet, found "):
        read_results(tmp_path)
    pd.DataFrame({"category": ["bolt"]}).to_parquet(tmp_path / "evaluate/scores.parquet")
    with pytest.raises(
        CorruptFileError, match=r"Expected the columns category, segmenter, .* found none called segmenter, .* Run `dvc repro`"
    ):
        read_results(tmp_path)


def test_published_results_are_read_back(tmp_path: Path, results: Results) -> None:
    """`stage results` would show other numbers than the report, or a spreadsheet others than both."""
    (tmp_path / "evaluate").mkdir()
    write_results(results, tmp_path / "evaluate")
    found = read_results(tmp_path)

    pd.testing.assert_frame_equal(found.scores, results.scores)
    pd.testing.assert_frame_equal(found.differences, results.differences)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "evaluate/scores.csv", keep_default_na=False), results.scores, check_dtype=False)
    assert json.loads(json.dumps(headline(results, {})))["real_only"]["ap"] == 0.5625
