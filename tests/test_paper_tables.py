"""The paper's tables with ours beside them: the figures against the paper's own sums, and our cells against values set by hand."""

import csv
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest
from chromium import CHROMIUM, opened, tour
from published import Page

from stage.report.paper import METRICS, PAPERS_AVERAGE, beside_the_paper, read_paper
from stage.report.paper_pages import write_paper_tables
from stage.segmentation.results import AVERAGE, Results
from stage.segmentation.scores import ALL_TYPES, COLUMNS

PAPER = read_paper()
WRONG = {  # tables' columns whose average is not the mean of its rows in the paper itself; the remarks of the tables name them
    ("IV", "CutPaste"),
    ("IV", "RealNet"),
    ("IV", "DFMGAN"),
    ("VI", "STAGE"),
    ("VII", "DRAEM"),
    ("VII", "DFMGAN"),
    ("VII", "STAGE"),
}


def results(values: dict[tuple[str, str, str], float]) -> Results:
    """Two seeds, a hundredth above and below, of every metric, by category, segmenter and arm; the difference is always 0.1."""
    metrics = [metric.ours for some in METRICS.values() for metric in some if metric.ours]
    scores = [
        (category, segmenter, arm, 0, seed, ALL_TYPES, metric, value + sign, "")
        for (category, segmenter, arm), value in values.items()
        for seed, sign in enumerate((0.01, -0.01))
        for metric in metrics
    ]
    differences = [
        (category, segmenter, 0, arm, metric, 0.1, -0.05, 0.25)
        for category, segmenter, arm in values
        for metric in ("ap", "iou")
        if arm != "real_only"
    ]
    names = ["category", "segmenter", "real_per_type", "arm", "metric", "difference", "low", "high"]
    return Results(pd.DataFrame(scores, columns=list(COLUMNS)), pd.DataFrame(differences, columns=names))


MEASURED = results(
    {
        ("hazelnut", "segformer", "real_only"): 0.5,
        ("hazelnut", "segformer", "real_and_stage"): 0.6,
        ("hazelnut", "segformer", "real_and_paste"): 0.55,
        ("01", "stdc2", "real_and_stage"): 0.7,
        ("fabric", "segformer", "real_only"): 0.4,
        (AVERAGE, "segformer", "real_only"): 0.45,
    }
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_paper_tables(MEASURED, folder)
    return folder


@pytest.fixture(scope="module")
def rows(written: Path) -> list[dict[str, str]]:
    with (written / "tables.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of(rows: list[dict[str, str]], **values: str) -> list[dict[str, str]]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


@pytest.mark.parametrize("table", PAPER.tables, ids=lambda table: table.number)
def test_the_papers_averages_are_the_means_of_its_rows(table) -> None:
    """A figure with a slip in it would pass for the paper's."""
    for segmenter, figures in table.figures.items():
        assert len(figures) == (3 if table.data == "BTAD" else 16)
        assert {len(values) for values in figures.values()} == {len(table.methods) * len(table.metrics)}
        if PAPERS_AVERAGE not in figures:
            continue
        for method in table.methods:
            found, told = (
                [
                    fmean(table.figure(segmenter, name, method, metric) for name in figures if (name == PAPERS_AVERAGE) is is_average)
                    for metric in table.metrics
                ]
                for is_average in (False, True)
            )
            assert (told != pytest.approx(found, abs=0.011)) == ((table.number, method) in WRONG), (method, found, told)


def test_every_figure_of_the_paper_is_in_the_table(rows: list[dict[str, str]]) -> None:
    """A rival would be missing because we have not built it."""
    count = sum(len(values) for table in PAPER.tables for figures in table.figures.values() for values in figures.values())

    assert sum(row["paper"] != "" for row in rows) == count == 5 * 16 * 14 + 9 * 14
    [row] = of(rows, table="Table III: MVTec AD, BiSeNet V2", category="screw", method="RealNet", metric="Acc")
    assert (row["paper"], row["value"], row["difference"]) == ("23.78", "", "")


def test_ours_stand_beside_the_papers_with_spread_and_interval(rows: list[dict[str, str]]) -> None:
    """Ours would stand beside another category's or another method's, or without saying how sure they are."""
    [row] = of(rows, table="Table II: MVTec AD, SegFormer", category="hazel_nut", method="STAGE", metric="mIoU")
    assert (row["paper"], row["value"], row["spread"], row["seeds"], row["difference"]) == ("88.1", "60.0", "1.4142", "2", "")
    [row] = of(rows, table="Table VII: MVTec AD, SegFormer", category="hazel_nut", method="STAGE", metric="AP")
    assert (row["paper"], row["value"], row["difference"], row["low"], row["high"]) == ("96.76", "60.0", "10.0", "-5.0", "25.0")


def test_the_papers_f1_and_ours_are_never_like_for_like(rows: list[dict[str, str]]) -> None:
    """The paper's F1 is not the best F1; a reader would compare the two."""
    theirs, ours = (of(rows, category="hazel_nut", method="STAGE", metric=name) for name in ("F1 as the paper has it", "best F1"))

    assert [(row["paper"], row["value"]) for row in theirs + ours] == [("87.84", ""), ("", "60.0")]


def test_methods_and_arms_of_our_own_have_rows(rows: list[dict[str, str]]) -> None:
    """Whether samples help at all is the question, and the paper has no row for it."""
    methods = [row["method"] for row in of(rows, table="Table II: MVTec AD, SegFormer", category="hazel_nut", metric="mIoU")]

    assert methods == ["real only", "STAGE", "real and paste", "CutPaste", "DRAEM", "GLASS", "RealNet", "DFMGAN", "AnomalyDiffusion"]


def test_what_has_values_of_ours_comes_first(written: Path) -> None:
    """A reader would look for a handful of lines among six hundred of the paper's."""
    tables = beside_the_paper(MEASURED, PAPER)
    places = [(number, line) for number, table in enumerate(tables) for line in table.lines if line.has_ours]

    assert [table.title.split(":")[0] for table in tables] == [
        "Not in the paper",
        *(f"Table {n}" for n in ("II", "V", "VI", "VII", "III", "IV")),
    ]
    for number, table in enumerate(tables):
        ours = [line for place, line in places if place == number]
        categories = {line[:2] for line in ours}
        theirs = [line for line in table.lines if line[:2] in categories]
        assert theirs == table.lines[: len(theirs)]  # whole categories, before those that we did not measure
        for pair in categories:
            assert [line.has_ours for line in theirs if line[:2] == pair] == sorted(
                (line.has_ours for line in theirs if line[:2] == pair), reverse=True
            )
    assert len(tables[1].lines) == 16 * 7 + 2  # and none is lost


def test_a_segmenter_that_the_paper_does_not_tell_apart_is_named(rows: list[dict[str, str]]) -> None:
    """STDC2 would be compared with a figure that may be STDC1's, without a word."""
    found = of(rows, table="Table V: BTAD, SegFormer, BiSeNet V2, STDC", category="01", method="STAGE", metric="mIoU")

    assert (found[0]["segmenter"], found[0]["paper"], found[0]["value"]) == ("STDC, as stdc2", "64.07", "70.0")


def test_what_the_paper_has_no_table_for_is_there(rows: list[dict[str, str]]) -> None:
    """Results of a category of one's own would vanish."""
    assert {(row["category"], row["method"]) for row in of(rows, table="Not in the paper")} == {
        ("fabric", "real only"),
        (AVERAGE, "real only"),
    }


def test_an_average_stands_beside_the_papers_only_over_the_same_categories(rows: list[dict[str, str]]) -> None:
    """The mean of two easy categories would be compared with that of fifteen."""
    names = [PAPER.categories.get(name, name) for name in PAPER.tables[0].figures["SegFormer"] if name != PAPERS_AVERAGE]
    all_of_them = results({(name, "segformer", "real_and_stage"): 0.5 for name in [*names, AVERAGE]})
    tables = beside_the_paper(all_of_them, PAPER)

    assert not [row for row in of(rows, category=PAPERS_AVERAGE) if row["value"]]
    [line] = [line for line in tables[0].lines if (line.category, line.method) == (PAPERS_AVERAGE, "STAGE")]
    assert line.cells[0].ours is not None
    assert len(tables) == len(PAPER.tables)  # nothing is left over


def test_page_and_markdown_have_the_same_cells(written: Path) -> None:
    """The page would say something else than what is pasted into a paper."""
    page = Page(written / "tables.html")
    lines = [
        line for line in (written / "tables.md").read_text(encoding="utf-8").splitlines() if line.startswith("|") and "---" not in line
    ]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    assert page.tables[""] == rows
    assert ["SegFormer", "hazel_nut", "STAGE", "87.84", "60.0 ± 1.4", "96.76", "60.0 ± 1.4", "+10.0 (−5.0 to +25.0)"] in rows
    assert ["SegFormer", "bottle", "GLASS", "65.36", "", "90.69", "", ""] in rows


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_every_table_fits_a_laptop_s_window(tmp_path: Path) -> None:
    """The differences, which stand last, would be out of sight: here in the widest table, of a network that the paper does not have."""
    arms = ("real_only", "real_and_stage", "real_and_paste", "real_and_perfect")
    write_paper_tables(results({("fabric", "efficientnet_lite0", arm): 0.5 for arm in arms}), tmp_path)
    with opened("about:blank", tmp_path / "profile") as window:
        window.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
        window.go((tmp_path / "tables.html").as_uri())
        cut = window.value("[...document.querySelectorAll('.scroll')].filter(it => it.scrollWidth > it.clientWidth).length")

    assert cut == 0


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_opens_offline_without_a_complaint(written: Path, tmp_path: Path) -> None:
    """The page would be bare, or ask another machine for something."""
    with opened("about:blank", tmp_path / "profile") as window:
        [seen] = tour(window, [written / "tables.html"])

    assert (seen.console, seen.requested) == ([], [])
