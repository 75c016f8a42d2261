"""The report on small artefacts that are written in the formats of the other verbs."""

import hashlib
import re
import shlex
import shutil
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from published import ARMS, COLOURS, EDGE, Page, defective_pair, demo_params, publish, write_text

from stage.core.errors import CorruptFileError, Refusal
from stage.core.params import Params
from stage.report import charts
from stage.report.cards import slug, templates
from stage.report.charts import draw_curves, draw_learning_curve
from stage.report.comparison import ArmRow, Difference, metric_text, reach, whisker
from stage.report.gallery import encoded
from stage.report.lineage import NAMED, SamplesMade, read_lineage
from stage.report.pages import soft_seams, write_report
from stage.report.photographs import write_photographs
from stage.report.sheets import Panel, Specimen, contact_sheet, defect_box, stacked
from stage.report.specimens import synthetic_specimens
from stage.report.typical import write_example
from stage.report.worst import FALSE, HIT, MISSED, NORMAL, difference_picture, read_predictions
from stage.segmentation.counts import probability_of
from stage.segmentation.metrics import HALF
from stage.segmentation.verdicts import WHOLE

HOSTILE = ["<script>alert(1)</script>", "../../x", '"><img src=x onerror=alert(1)>', "Riß ✓"]
OWN_IDS = ["samples", "verdict", "made", "enlarged"]  # of a category's page
STYLE = Path(__file__).parents[1] / "stage/report/templates/style.css"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two categories with ordinary names."""
    folder = tmp_path_factory.mktemp("ordinary")
    publish(folder / "data", ["fabric", "washer"], ["hole", "thread"])
    write_report(folder / "data", folder / "report", demo_params(["fabric", "washer"]))
    return folder / "report"


@pytest.fixture(scope="module")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a report reads of one category, each arm of which was trained once, without folds, and on few defects, with a base from a hub; one known group."""
    data = tmp_path_factory.mktemp("other") / "data"
    publish(data, ["fabric"], ["hole"], few=(1, 2))
    scores, catalog = data / "evaluate/scores.parquet", data / "prepare/fabric/catalog.parquet"
    rows = pd.read_parquet(scores).query("seed == 0")
    rows.assign(value=rows.value.mask(rows.metric == "threshold", probability_of(HALF))).to_parquet(scores)
    pd.read_parquet(catalog).assign(group="one").to_parquet(catalog)
    (data / "pretrain/curve.csv").unlink()
    return data


def other_params() -> Params:
    """With the samples of stage alone, galleries of two, and addresses with passwords."""
    params = demo_params(["fabric"], ("stage",))
    changed = {
        "evaluate": {"gallery": 2},
        "base": {"source": "https://me:hunter1@hub/base"},
        "segment": {"weights": {"segformer": "https://me:hunter2@hub/w.safetensors?token=hunter3"}},
    }
    return params.model_copy(update={name: getattr(params, name).model_copy(update=values) for name, values in changed.items()})


@pytest.fixture(scope="module")
def other_report(other_data: Path) -> Path:
    """The report on it."""
    write_report(other_data, other_data.parent / "report", other_params())
    return other_data.parent / "report"


@pytest.fixture(scope="module")
def paste_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on samples of paste alone, with hard edges, and on two networks."""
    root = tmp_path_factory.mktemp("paste")
    publish(root / "data", ["fabric"], ["hole"])
    for name in ("scores", "differences"):
        path = root / "data/evaluate" / f"{name}.parquet"
        pd.concat([pd.read_parquet(path), pd.read_parquet(path).assign(segmenter="bisenetv2")]).to_parquet(path)
    params = demo_params(["fabric"], ("paste",))
    hard = params.paste.model_copy(update={"blends": ("hard",)})
    write_report(root / "data", root / "report", params.model_copy(update={"paste": hard}))
    return root / "report"


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a category and defect types whose names are attacks, or ids of the page itself."""
    folder = tmp_path_factory.mktemp("hostile")
    publish(folder / "data", ["<b>&'"], [*HOSTILE, *OWN_IDS])
    write_report(folder / "data", folder / "report", demo_params(["<b>&'"]))
    return folder / "report"


@pytest.mark.parametrize("which", ["report", "hostile_report"])
def test_every_link_and_picture_exists_inside_the_folder(which: str, request: pytest.FixtureRequest) -> None:
    """Otherwise a page shows broken pictures, or reaches out of its folder or to the network."""
    root: Path = request.getfixturevalue(which)
    texts = {path.resolve(): path.read_text() for path in root.glob("*.html")}
    for path in texts:
        for address in {*Page(path).addresses}:
            file, _, anchor = address.partition("#")
            target = (root / (file or path.name)).resolve()
            assert (
                address == "data:," or address.startswith("data:image/jpeg;base64,") or (target.is_file() and target.is_relative_to(root))
            ), (path.name, address)
            assert not anchor or f'id="{anchor}"' in texts[target], (path.name, address)


def test_pages_run_no_script_but_the_report_s_own_and_name_no_other_host(hostile_report: Path) -> None:
    """Otherwise a defect type's name runs as code in the reader's browser, or the report is not usable offline."""
    own = (STYLE.parent / "report.js").read_text().rstrip("\n")
    for path in hostile_report.glob("*.html"):
        page = Page(path)

        assert page.tags.count("script") == 1
        assert f"<script>{own}</script>" in path.read_text()
        assert "script-src 'sha256-" in path.read_text()
        assert not {"iframe", "object"} & set(page.tags)
        assert not [image for image in page.images if "onerror" in image or image["src"] == "x"]
        assert "http" not in path.read_text().replace("http-equiv", "")


def test_every_id_is_that_of_one_element(hostile_report: Path) -> None:
    """Otherwise a link to a defect type called `made` leads to a table, and the gallery of one called `enlarged` shows no sample."""
    for path in hostile_report.glob("*.html"):
        ids = Page(path).ids
        assert len(ids) == len({*ids}), path.name


def test_commands_can_be_copied_whatever_the_names(hostile_report: Path) -> None:
    """Otherwise the shell reads another category or path than the page means, or runs a part of it."""
    text = Page(next(hostile_report.glob("candidates-*.html"))).text
    down = templates().from_string(
        re.findall(r"<code>(stage lineage down .*?)</code>", (STYLE.parent / "lineage.html.jinja").read_text())[0]
    )
    page = Page(down.render(one={"path": "it's/metal nut.png"}))

    assert shlex.split(text.partition("run stage groups")[2].partition(", which")[0]) == ["<b>&'"]
    assert shlex.split(page.text) == ["stage", "lineage", "down", "it's/metal nut.png"]


def test_no_password_stands_on_a_page(other_report: Path) -> None:
    """Otherwise whoever gets the report can fetch weights that are not theirs."""
    texts = {path.name: path.read_text() for path in other_report.glob("*.html")}

    assert [name for name, text in texts.items() if "hunter" in text] == []
    assert "base model https://...@hub/base." in texts["made.html"]
    assert '"https://...@hub/w.safetensors?token=..."' in Page(texts["made.html"]).text


def test_hostile_names_are_shown_as_they_are(hostile_report: Path) -> None:
    """Otherwise a reader cannot tell which defect type a sheet is about."""
    text = Page(next(hostile_report.glob("category-*.html"))).text

    assert all(name in text for name in [*HOSTILE, "<b>&'"])


def test_file_names_are_of_our_own_making(hostile_report: Path) -> None:
    """Otherwise a defect type called `../../x` writes outside of the report."""
    names = {part for path in hostile_report.rglob("*") for part in path.relative_to(hostile_report).parts}
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")

    assert set("".join(names)) <= allowed
    assert not [name for name in names if name.startswith(".")]
    assert {path.name for path in hostile_report.parent.iterdir()} == {"data", "report"}


def test_the_first_sentences_say_what_each_method_does(report: Path) -> None:
    """Otherwise a reader has to find out from tables, or a method that harms is recommended for what the other one gains."""
    text = Page(report / "index.html").text
    help, harm = (
        text.index(f"Samples of {told}")
        for told in ("stage help: AP, which decides, +25.0 (+13.1 to +36.9)", "paste harm, and real data alone")
    )

    assert text.index("Do synthetic defects help?") < help < harm < text.index("Every arm, by category")


def test_the_headline_has_a_row_per_category_and_arm_with_its_interval(report: Path) -> None:
    """Otherwise the one number that a user came for is wrong, or of another arm: 50.0 and 75.0 make +25.0.

    The two seeds lie a point above and below, which is a standard deviation of 1.4.
    """
    table = Page(report / "index.html").tables["headline"]
    stage, paste = ("+25.0 (+13.1 to +36.9)", "−25.0 (−48.8 to −1.3)")

    assert [row[:2] for row in table[1:4]] == [["fabric", "real only"], ["fabric", "real and stage"], ["fabric", "real and paste"]]
    assert ["washer", "real and stage", "4", "75.0 ± 1.4", stage, "75.0 ± 1.4", stage] in table
    assert ["washer", "real only", "4", "50.0 ± 1.4", "", "50.0 ± 1.4", ""] in table
    assert table[-1] == ["Average", "real and paste", "8", "25.0 ± 1.4", paste, "25.0 ± 1.4", paste]


def test_few_test_images_are_named_beside_the_intervals(report: Path) -> None:
    """An interval over two photographs would be believed like one over fifty."""
    assert "Few test images of " in Page(report / "index.html").text
    assert "the intervals are narrower than they should be" in Page(report / "category-washer.html").text


def test_every_metric_is_explained_beside_its_values(report: Path) -> None:
    """Otherwise a reader takes one IoU for another, or pixels for percent."""
    rows = {row[0]: row[1:] for row in Page(report / "index.html").tables[""] if len(row) == 5}

    assert rows["False pixels per image"][:3] == ["0.5 ± 0.0", "0.8 ± 0.0", "0.2 ± 0.0"]
    assert rows["Threshold"][:3] == ["0.50 ± 0.01", "0.75 ± 0.01", "0.25 ± 0.01"]
    assert rows["AUROC, %"][:3] == ["50.0 ± 1.4", "75.0 ± 1.4", "25.0 ± 1.4"]
    assert rows["Image AP, %"][:3] == ["–", "–", "–"]
    assert all(row[3].endswith((".", "better")) for row in rows.values() if row[3] != "What it is")


def test_a_category_shows_all_arms_by_defect_type(report: Path) -> None:
    """Otherwise a type that a method harms hides behind one that it helps, or chance passes for help."""
    told = "+25.0 (+12.5 to +37.5)"
    table = Page(report / "category-fabric.html").tables["types"]

    assert [row[:2] for row in table[1:]] == [
        [defect, arm] for defect in ("hole", "thread") for arm in ("real only", "real and stage", "real and paste")
    ]
    assert table[2] == ["hole", "real and stage", "2", "75.0", told, "75.0", told, "75.0", "75.0", "75.0"]


def test_an_interval_of_one_seed_is_not_sold_as_more(report: Path, other_report: Path) -> None:
    """Otherwise the chance of a training, which nobody measured, counts as certainty."""
    assert "Each arm was trained once" in Page(other_report / "index.html").text
    assert "Values are means over 2 seeds" in Page(report / "index.html").text


def test_iou_at_one_half_is_marked_as_such(report: Path, other_report: Path) -> None:
    """Differences in calibration would be read as differences in what is found."""
    for page in ("index.html", "category-fabric.html"):
        assert "IoU is at a threshold of one half in every arm" in Page(other_report / page).text
        assert "at a threshold of one half" not in Page(report / page).text


def test_several_networks_stand_apart(paste_report: Path) -> None:
    """Otherwise a second network in `segment.models` ends the run without its report, or two rows of a table cannot be told apart."""
    for page, table in (("index", "headline"), ("category-fabric", "arms"), ("category-fabric", "types")):
        heads, *rows = Page(paste_report / f"{page}.html").tables[table]
        assert [row[heads.index("Network")] for row in rows] == ["segformer"] * 3 + ["bisenetv2"] * 3


def test_a_learning_curve_is_drawn_and_told_where_there_is_one(report: Path, other_report: Path) -> None:
    """Otherwise nobody sees how many photographs the samples save, or a curve is drawn of nothing."""
    drawn = (other_report / "pictures/fabric/learning.svg").read_text()

    assert "whole third" in drawn
    assert "real and paste" in drawn
    for page in ("index.html", "category-fabric.html"):
        assert (
            "With samples of stage, 1 photograph of each defect does as well as all of the third without samples: the difference in AP is +25.0"
            in Page(other_report / page).text
        )
    assert Page(other_report / "category-fabric.html").tables["learning"] == [
        ["Trained on", "1", "2", "whole third"],
        ["real only", "31.0", "41.0", "51.0"],
        ["real and stage", "56.0", "66.0", "76.0"],
        ["real and paste", "6.0", "16.0", "26.0"],
    ]
    assert not list(report.rglob("learning.svg"))
    assert "With samples of" not in Page(report / "index.html").text


@pytest.mark.parametrize("method", COLOURS)
def test_samples_stand_under_their_own_method(report: Path, method: str) -> None:
    """Otherwise a reader judges a method by another's pictures: the enlarged defects have its colour."""
    picture = Image.open(report / "pictures/fabric/samples/hole" / f"{method}-accepted" / "00000.webp").convert("RGB")

    assert picture.getpixel((2 * (EDGE + 6) + EDGE // 2, EDGE // 2)) == COLOURS[method]


def test_a_soft_seam_is_not_called_the_photograph(report: Path, paste_report: Path) -> None:
    """Otherwise the report says that a photograph is untouched outside the mask where the seam of a pasted defect is softened."""
    soft, hard = (
        " ".join(Page(root / "index.html").text.partition("its exact mask; ")[2].partition("pixel.")[0].split())
        for root in (report, paste_report)
    )

    reached = "and farther than 2 px from it where a seam of stage or paste is soft,"
    assert soft == f"outside the mask, {reached} it is the normal image, pixel for"
    assert hard == "outside the mask it is the normal image, pixel for"


@pytest.mark.parametrize(
    ("methods", "start", "blends", "expected"),
    [
        (("stage", "quilt", "draem"), "defect", ("hard", "outward"), {"stage": 3, "quilt": 5}),
        (("stage", "paste"), "noise", ("poisson",), {"paste": 3}),
        (("stage", "paste", "quilt"), "defect", ("hard", "hard"), {}),
        (("cutpaste", "draem", "glass"), "defect", ("outward",), {}),
    ],
)
def test_methods_that_blend_outward_are_known(
    methods: tuple[str, ...], start: str, blends: tuple[str, ...], expected: dict[str, int]
) -> None:
    """A sample of stage that began with a pasted defect, or one of quilt, would be called untouched around its mask."""
    changed = {"synthesize": {"start": start}, "paste": {"blends": blends, "reach": 3}, "quilt": {"blends": blends, "reach": 5}}
    params = demo_params(["fabric"], methods)
    params = params.model_copy(update={name: getattr(params, name).model_copy(update=values) for name, values in changed.items()})

    assert soft_seams(params) == expected


def test_the_gallery_tells_real_accepted_and_rejected_apart(report: Path) -> None:
    """Otherwise a rejected sample stands among the good ones: of 2 types and 2 methods 3 accepted and 1 rejected each, and 2 real defects."""
    kinds = [source.split("/")[4] for image in Page(report / "category-fabric.html").images if "/samples/" in (source := str(image["src"]))]

    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "paste-accepted": 6,
        "paste-rejected": 2,
        "real": 4,
        "stage-accepted": 6,
        "stage-rejected": 2,
    }


def test_a_gallery_is_as_long_as_it_is_asked_to_be(other_report: Path) -> None:
    """Otherwise `evaluate.gallery` does nothing, or a short one leaves the rejected samples out."""
    counts = {folder.name: len(list(folder.iterdir())) for folder in (other_report / "pictures/fabric/samples/hole").iterdir()}

    assert counts == {"real": 1, "stage-accepted": 2, "stage-rejected": 1}


def test_a_thumbnail_of_a_large_photograph_is_a_few_kilobytes() -> None:
    """Otherwise a page of thousands of photographs is gigabytes."""
    noise = np.random.default_rng(0).normal(128, 20, (256, 256, 3)).clip(0, 255).astype(np.uint8)
    panels = [Panel("synthetic", Image.fromarray(noise))] * 4

    assert len(encoded(panels)) < 8_000


def test_the_worst_test_images_come_first(report: Path) -> None:
    """Otherwise a reader looks for the errors of a segmenter among its successes: paste's marks all but the defect, stage's exactly that."""
    seen = read_predictions(report.parent / "data", "fabric", dict.fromkeys(ARMS, 0.5))

    assert {arm: ious.tolist() for arm, ious in seen.ious.items()} == {
        "real_only": [0.0, 0.0],
        "real_and_stage": [1.0, 1.0],
        "real_and_paste": [0.0, 0.0],
    }
    assert seen.lowest("real_only", 1) == [0]
    assert seen.most_lost("real_and_stage", 2) == []
    assert seen._replace(ious={"real_only": np.array([0.5, 0.9, 0.2]), "b": np.array([0.4, 0.1, 0.3])}).most_lost("b", 3) == [1, 0]
    losses = {"real_only": np.array([0.5, 0.9, 0.2]), "b": np.array([0.3, 0.1, 0.1])}
    assert seen._replace(ious=losses).most_lost("b", 2, besides=[1]) == [0, 2]
    assert seen._replace(ious={"b": np.array([0.5, 0.1, 0.3])}).lowest("b", 2) == [1, 2]


def test_test_images_are_judged_at_the_threshold_of_the_tables(report: Path) -> None:
    """The pictures would show everything as missed where the tables count it as found."""
    seen = read_predictions(report.parent / "data", "fabric", dict.fromkeys(ARMS, 0.0))  # every pixel is marked

    assert {arm: ious.tolist() for arm, ious in seen.ious.items()} == dict.fromkeys(ARMS, [16 / EDGE**2] * 2)


def test_a_difference_picture_tells_hits_misses_and_false_alarms_apart(report: Path) -> None:
    """Otherwise a missed defect looks like a false alarm."""
    truth, marked = np.array([[1, 1, 0, 0]], np.uint8), np.array([[1, 0, 1, 0]], np.uint8)
    missed = np.asarray(Image.open(report / "pictures/fabric/lowest/00-3.png"))

    assert np.asarray(difference_picture(truth, marked)).tolist() == [[list(HIT), list(MISSED), list(FALSE), list(NORMAL)]]
    assert ((missed == MISSED).all(axis=2) == (defective_pair(0)[1] == 1)).all()  # the real third alone finds nothing


def test_a_method_without_training_has_no_curve_of_one(report: Path, paste_report: Path) -> None:
    """Otherwise the page says of a method that needs none what another's training did."""
    assert "Mask Guidance Adapters" in Page(report / "category-fabric.html").text
    assert "Mask Guidance Adapters" not in Page(paste_report / "category-fabric.html").text


def test_a_photograph_names_its_samples_and_a_network_counts_its_own(report: Path) -> None:
    """Nobody could tell what has to go with a photograph: each background has a sample of both types by both methods, a mask those of stage."""
    text = re.sub(r"\s+", " ", Page(report / "lineage-fabric.html").text)
    sections = {name: text.partition(f" {name} ")[2][:600] for name in ("fabric/good/train-0.png", "fabric/hole/train-0.png")}

    assert "Background of 4 samples: 2 by stage, 2 by paste" in sections["fabric/good/train-0.png"]
    assert "Mask of 4 samples" in sections["fabric/hole/train-0.png"]
    assert "8 samples of fabric" in text
    assert "No sample was made from it" in text.partition("fabric/hole/train-1.png")[2][:600]


def test_a_source_that_the_catalog_has_no_more_leads_to_no_photograph(tmp_path: Path) -> None:
    """A corrected file under the same name would stand for the one that a sample was made from."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    path = tmp_path / "data/prepare/fabric/catalog.parquet"
    catalog = pd.read_parquet(path)
    changed = catalog.image_path == "fabric/good/train-0.png"
    catalog.assign(image_sha256=catalog.image_sha256.mask(changed, "f" * 64)).to_parquet(path)
    photographs = write_photographs(tmp_path / "data", "fabric", root=tmp_path, folder=Path("pictures"))
    names = [f"stage/fabric/hole/{number:06d}/0" for number in (0, 1)]
    found = read_lineage(tmp_path / "data", "fabric", ["stage"], photographs, names)

    assert [found.samples[name].origins[0].photograph for name in names] == [None, photographs[1]]


def test_a_photograph_s_section_stays_small() -> None:
    """One mask of a million samples would be a page of megabytes."""
    use = SamplesMade()
    for number in range(1000):
        use.add("paste", f"paste/fabric/hole/{number:06d}/0", has_picture=number < 10)

    assert (use.by_method.total(), len(use.pictured), len(use.named), use.unnamed) == (1000, 10, NAMED, 990 - NAMED)


def test_reasons_are_counted_by_kind(report: Path) -> None:
    """Otherwise the table of a large run has a line for every rejected sample, since each has another margin."""
    assert ["hole", "stage", "4", "3", "1", "90", "1 × looks normal"] in Page(report / "category-fabric.html").tables["made"]


def test_the_verdict_s_two_shares_the_labels_and_the_copies_stand_beside_each_other(report: Path) -> None:
    """Otherwise nobody sees whether the verdict knows what nothing looks like, or that a method copies: pasted defects here, not drawn ones."""
    rows = Page(report / "category-fabric.html").tables["verdict"]

    assert ["hole", "stage", "4.0", "95.0", "90.0", "25.0", "20.0", "0.0"] in rows
    assert ["hole", "paste", "4.0", "95.0", "90.0", "25.0", "20.0", "100.0"] in rows


def test_a_report_is_not_replaced_by_half_of_one(tmp_path: Path) -> None:
    """Otherwise a failed run leaves half a report, or removes the last good one."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    output = tmp_path / "report"
    write_text(output / "index.html", "the last good one")
    summary = tmp_path / "data" / "prepare" / "summary.json"
    summary.unlink()

    with pytest.raises(Refusal, match=r"Expected counts of the real images at .*summary.json, found no such file. Run `dvc repro prepare`"):
        write_report(tmp_path / "data", output, demo_params(["fabric"]))
    assert (output / "index.html").read_text() == "the last good one"
    assert not list(tmp_path.glob(".report-*"))


def test_the_same_artefacts_give_the_same_report_in_place_of_an_earlier_one(other_data: Path, other_report: Path, tmp_path: Path) -> None:
    """Otherwise a night without change publishes a new version, or pages of an earlier report stand among those of this one."""
    again = tmp_path / "report"
    for name in ("index.html", "category-gone.html"):
        write_text(again / name, "an earlier one")
    write_report(other_data, again, other_params())
    contents = [{path.relative_to(root): path.read_bytes() for path in root.rglob("*.*")} for root in (other_report, again)]

    assert contents[0] == contents[1]


def test_a_base_from_a_hub_has_no_curve(report: Path, other_report: Path) -> None:
    """Otherwise a run with the paper's pretrained base ends without its report."""
    assert "Base model, trained" in (report / "made.html").read_text()
    assert "Base model, trained" not in (other_report / "made.html").read_text()


def test_near_duplicates_stand_in_the_report_with_their_pictures(report: Path, tmp_path: Path) -> None:
    """A part that is trained on and tested on would be a sentence that went by in the terminal."""
    overview, shown = Page(report / "index.html"), Page(report / "candidates-fabric.html")
    pictures = [image["src"] or "" for image in shown.images]

    assert "fabric: 12 photographs look like near-duplicates" in overview.text
    assert "If these show one part, the results of fabric are too good" in overview.text
    assert "candidates-fabric.html" in overview.addresses
    assert len(pictures) == 12
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in pictures)


def test_photographs_of_one_known_group_are_no_candidates(other_report: Path) -> None:
    """A person would be asked again what the groups file says."""
    assert "No photographs look like near-duplicates beyond the groups" in Page(other_report / "index.html").text
    assert not (other_report / "candidates-fabric.html").exists()


def test_a_run_without_networks_has_its_report(tmp_path: Path) -> None:
    """Otherwise samples that need no training can only be looked at after one."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    for verb in ("pretrain", "train"):
        shutil.rmtree(tmp_path / "data" / verb)
    write_report(tmp_path / "data", tmp_path / "report", demo_params(["fabric"], ("paste",)))

    assert {path.name for path in (tmp_path / "report").glob("*.html")} == {
        "index.html",
        "made.html",
        "category-fabric.html",
        "lineage-fabric.html",
        "candidates-fabric.html",
        "methods.html",
    }


def test_made_page_names_digests_versions_and_every_parameter(report: Path) -> None:
    """Otherwise nobody can tell what a report was made from."""
    text = Page(report / "made.html").text
    shards = sorted((report.parent / "data" / "synthesize" / "washer").glob("*/shards/*.parquet"))

    assert len(shards) == 4
    assert all(hashlib.sha256(shard.read_bytes()).hexdigest() in text for shard in shards)
    assert all(word in text for word in ("Python", "torch", "prefect", "git revision", "CC0-1.0"))
    assert all(name in text for section in demo_params(["fabric"]).model_dump().values() if isinstance(section, dict) for name in section)


def test_the_axis_of_intervals_is_that_of_the_methods() -> None:
    """The intervals of methods would be dots beside those of drawn samples, or what is cut would look whole."""
    wide, near = Difference(0.5, 0.4, 0.6), Difference(0.02, -0.01, 0.05)
    rows = [
        ArmRow("a", "", arm, {}, {"ap": one}, {})
        for arm, one in (("real_and_perfect", wide), ("only_stage", wide), ("real_and_stage", near))
    ]

    assert reach(rows, "ap") == 0.05
    assert reach(rows[:2], "ap") == 0.6
    assert reach(rows, "iou") == reach([], "ap") == 1
    assert whisker(near, 0.05) == (pytest.approx(-20), 100, pytest.approx(40), False, False)
    assert whisker(wide, 0.05) == (100, 100, 100, False, True)
    assert whisker(Difference(0.0, -0.1, 0.01), 0.05) == (-100, pytest.approx(20), 0, True, False)


def test_an_example_is_of_middling_contrast_and_large_enough_to_be_seen(report: Path) -> None:
    """The overview would show the weakest or the strongest defect of each method, a few pixels wide.

    The defect is 4 px wide, so that 32 px are shown around it; here that is the whole photograph.
    """
    home = report.parent / "data/synthesize/fabric/stage/shards"
    made = pd.concat(map(pd.read_parquet, home.iterdir())).query("defect == 'hole' and verdict == 'accepted'").sort_values("contrast")
    found = write_example(report.parent / "data", "fabric", "stage", "hole", root=report.parent, path=Path("example.webp"))
    assert found is not None
    picture = np.asarray(Image.open(report.parent / "example.webp").convert("RGB"))
    before, sample, mask = (picture[:, start : start + EDGE] for start in range(EDGE + 6, 4 * (EDGE + 6), EDGE + 6))

    assert found.sample_id == made.sample_id.iloc[1]
    assert ((sample == COLOURS["stage"]).all(axis=2) == (mask == 255).all(axis=2)).all()
    assert (mask == 255).all(axis=2).sum() == 16
    assert not (before == COLOURS["stage"]).all(axis=2).any()


def test_a_few_of_many_samples_are_chosen_in_little_memory(tmp_path: Path) -> None:
    """The report of a million samples would hold a row of each: 10,000 rows are over 4 MB. In the middle, many have the same contrast."""
    data, many = tmp_path / "data", 10_000
    publish(data, ["fabric"], ["hole"])
    [path] = (data / "synthesize/fabric/stage/shards").iterdir()
    numbers = np.random.default_rng(0).permutation(many)
    ids, contrasts = [f"stage/fabric/hole/{number:06d}/0" for number in numbers], (numbers % 997 // 5).astype(float)
    table = pq.read_table(path).take(pa.array(np.zeros(many, int)))
    for name, values in {"ordinal": numbers, "sample_id": ids, "contrast": contrasts}.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    pq.write_table(table, path, row_group_size=16)
    del table
    tracemalloc.start()
    first = {one.name for one in synthetic_specimens(data, "fabric", "stage", "hole", 4)}
    example = write_example(data, "fabric", "stage", "hole", root=tmp_path, path=Path("example.webp"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert first == {f"stage/fabric/hole/{number:06d}/0" for number in range(4)}
    assert example is not None
    assert (example.contrast, example.sample_id) == sorted(zip(contrasts, ids, strict=True))[many // 2]
    assert peak < 2_000_000


def test_numbers_read_as_percent() -> None:
    """Otherwise a loss looks like a gain, or nothing looks like something."""
    assert [
        metric_text(0.1234, "ap"),
        metric_text(None, "ap"),
        metric_text(0.1234, "threshold"),
        metric_text(12.34, "false_alarm_pixels"),
        metric_text(0.1234, "ap", 0.0567),
    ] == [
        "12.3",
        "–",
        "0.12",
        "12.3",
        "12.3 ± 5.7",
    ]


@pytest.mark.parametrize("name", [*HOSTILE, "..", ".", "", "a b", "con/../", "x" * 300])
def test_slugs_are_safe_and_distinct(name: str) -> None:
    """Otherwise two defect types share a folder, or one leaves it."""
    assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert 0 < len(slug(name)) <= 60
    assert slug(name) != slug(name + " ")


def test_no_slug_is_another_one_s() -> None:
    """A page or picture would be written over another's, where a name is what the product makes of another name; or where case does not count."""
    names = [*HOSTILE, "", "_", "a", "A", "a b", "a_b", "裂", "裂 ", "x" * 41, "x" * 42]
    names += [slug(name) for name in names]
    assert len({slug(name).lower() for name in names}) == len({*names})


@pytest.mark.parametrize(
    ("rectangle", "box"),
    [
        ((8, 8, 12, 12), (4, 4, 16, 16)),
        ((0, 0, 3, 3), (0, 0, 12, 12)),
        ((20, 22, 32, 32), (13, 13, 32, 32)),
        ((0, 0, 0, 0), (0, 0, 32, 32)),
    ],
)
def test_defect_box_holds_the_defect_inside_the_image(rectangle: tuple[int, ...], box: tuple[int, ...]) -> None:
    """Otherwise the enlarged defect is cut, or shows black from outside the image."""
    mask = Image.new("L", (EDGE, EDGE))
    mask.paste(255, rectangle)

    assert defect_box(mask) == box


def test_contact_sheet_places_every_picture_under_its_label() -> None:
    """Otherwise the README's picture is not what its columns say: each tile is one colour, found at its place."""
    colours = [("red", "blue"), ("lime", "yellow"), ("cyan", "magenta")]
    specimens = [
        Specimen("", tuple(Panel(label, Image.new("RGB", (8, 8), colour)) for label, colour in zip(("a", "b"), pair, strict=True)))
        for pair in colours
    ]
    sheet = contact_sheet(specimens, per_row=2, tile=24)
    row_height = 24 + 6
    corners = [(16 + c * (54 + 28), 16 + 28 + r * row_height) for r, c in ((0, 0), (0, 1), (1, 0))]
    found = [(sheet.getpixel((x + 12, y + 12)), sheet.getpixel((x + 30 + 12, y + 12))) for x, y in corners]

    assert found == [tuple(Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in pair) for pair in colours]
    assert stacked([sheet, sheet]).size == (sheet.width, 2 * sheet.height)


def test_titles_have_the_letters_of_the_users_language() -> None:
    """Every `ä` of a category or defect type would be the box of a missing glyph, and so look like every `ß`."""
    specimens = [Specimen("", (Panel("", Image.new("RGB", (24, 24))),))]
    titles = [contact_sheet(specimens, title=letter, tile=96).tobytes() for letter in "äöüßéµ×\uffff"]

    assert len({*titles}) == len(titles)


def test_contact_sheet_of_nothing_is_refused() -> None:
    """Otherwise a README shows an empty picture."""
    with pytest.raises(ValueError, match="Expected at least one specimen"):
        contact_sheet([])


def test_corrupt_shards_are_named(tmp_path: Path) -> None:
    """Otherwise a damaged file ends the run with a traceback that names no file."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    [shard] = (tmp_path / "data" / "synthesize" / "fabric" / "stage" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:100])

    with pytest.raises(CorruptFileError, match=r"Expected Parquet .*hole-.*-00000.parquet.* Delete them and run `dvc repro`"):
        write_report(tmp_path / "data", tmp_path / "report", demo_params(["fabric"]))


def test_curves_with_gaps_and_of_few_iterations_are_drawn(tmp_path: Path) -> None:
    """Otherwise a micro run, or one loss that was not finite, ends without its report."""
    draw_curves(tmp_path / "curve.svg", {"a": ([0, 1, 2], [1.0, float("nan"), 2.0]), "b": ([0], [1.0])}, label="loss")

    assert ElementTree.parse(tmp_path / "curve.svg").getroot().tag.endswith("svg")


def test_every_curve_is_drawn_in_a_way_of_its_own(tmp_path: Path) -> None:
    """The curve of a method would be missing, or look like another's, where there are more methods than colours."""
    names = [f"curve {number}" for number in range(14)]
    draw_curves(tmp_path / "curve.svg", {name: ([0, 1], [1.0, 0.5]) for name in names}, label="loss")
    draw_learning_curve(tmp_path / "learning.svg", pd.DataFrame({name: [0.4, 0.6] for name in names}, index=[2, WHOLE]))

    for path in tmp_path.iterdir():
        drawn = path.read_text()
        strokes = {style for style in re.findall(r"stroke[^\"]*", drawn) if any(colour in style for colour in charts.COLOURS)}
        lines = {style for style in strokes if "stroke-width: 1.6" in style}
        assert all(name in drawn for name in names)
        assert len(lines) == 14, lines


def test_a_learning_curve_of_arms_with_and_without_few_defects_is_drawn(tmp_path: Path) -> None:
    """Otherwise an arm that has only the whole third, as `real_augmented`, ends the run without its report."""
    curve = pd.DataFrame({"real_only": [0.4, 0.6], "real_augmented": [np.nan, 0.7]}, index=[2, WHOLE])
    draw_learning_curve(tmp_path / "curve.svg", curve)

    assert "real augmented" in (tmp_path / "curve.svg").read_text()
    ElementTree.parse(tmp_path / "curve.svg")


def schemes() -> list[dict[str, str]]:
    """The colours of the page by name: light, then dark."""
    return [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)
    ]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, 1.4.3: the ratio of relative luminances."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    """Otherwise a reader with weak eyes, or in the sun, cannot read notes and headings."""
    colours = schemes()[scheme]
    pairs = [(text, ground) for text in ("ink", "muted", "accent", "alert") for ground in ("paper", "raised", "tint")]

    assert {pair for pair in pairs if contrast(*(colours[name] for name in pair)) < 4.5} == set()
    assert contrast(charts.TEXT[("light", "dark")[scheme]], colours["paper"]) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_lines_frames_and_curves_are_visible(scheme: int) -> None:
    """Otherwise a curve, or what has the focus, is lost on the page: WCAG 2.2, 1.4.11, at least 3."""
    colours = schemes()[scheme]

    assert [colour for colour in (*charts.COLOURS, colours["accent"], colours["mark"]) if contrast(colour, colours["paper"]) < 3] == []


def test_contrast_is_measured_as_wcag_does() -> None:
    """The two tests above would pass on any palette: black on white has 21, and #777777 on white 4.48."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
