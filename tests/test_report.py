"""The report on small artefacts that are written here in the formats of the other verbs."""

import csv
import hashlib
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from datasets import Features, Value
from PIL import Image
from small_factory import origin, publish_rows

from stage.core.errors import CorruptFileError, Refusal
from stage.core.params import Params, load_params
from stage.datasets.pairs import Pair, image_cell, image_features, write_table
from stage.datasets.rules import GOOD
from stage.datasets.table import FEATURES
from stage.report.cards import slug
from stage.report.charts import draw_curves
from stage.report.comparison import Score, macro_average, percent, points, scores, verdict
from stage.report.pages import write_report
from stage.report.sheets import Panel, Specimen, contact_sheet, defect_box, stacked
from stage.synthesis.method import Rendered
from stage.synthesis.quality import judge
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.schema import sample_row

EDGE = 32
REAL_ONLY = {"iou": 0.5, "acc": 0.625, "miou_with_background": 0.74, "auroc": 0.9, "pro": 0.8, "f1": 0.7, "ap": 0.6}
WITH_STAGE = {"iou": 0.75, "acc": 0.875, "miou_with_background": 0.86, "auroc": 0.95, "pro": 0.9, "f1": 0.8, "ap": 0.7}
WITH_PASTE = {"iou": 0.25, "acc": 0.5, "miou_with_background": 0.6, "auroc": 0.8, "pro": 0.7, "f1": 0.6, "ap": 0.5}
ARMS = {"real_only": REAL_ONLY, "real_and_stage": WITH_STAGE, "real_and_paste": WITH_PASTE}
COLOURS = {"stage": (220, 30, 30), "paste": (30, 220, 30)}  # of a method's defects
HOSTILE = ["<script>alert(1)</script>", "../../x", '"><img src=x onerror=alert(1)>', "Riß ✓"]


def normal_image(number: int) -> np.ndarray:
    """A grey ramp, different for every number."""
    ramp = np.linspace(60, 180, EDGE)[None, :, None] + np.array([0, 5 * number, 10])
    return np.broadcast_to(ramp, (EDGE, EDGE, 3)).astype(np.uint8)


def defective_pair(number: int, method: str = "stage") -> tuple[np.ndarray, np.ndarray]:
    """A ramp with a 4 px square in the method's colour, red or green, and the square's mask."""
    image, mask = normal_image(number).copy(), np.zeros((EDGE, EDGE), np.uint8)
    mask[8 + number : 12 + number, 8:12] = 1
    image[mask == 1] = COLOURS[method]
    return image, mask


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def write_csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def catalog_rows(category: str, defects: list[str]) -> list[dict]:
    rows = []
    for defect, split, count in [(GOOD, "train", 4), *((defect, split, 2) for defect in defects for split in ("train", "test"))]:
        for number in range(count):
            image, mask = defective_pair(number) if defect != GOOD else (normal_image(number), np.zeros((EDGE, EDGE), np.uint8))
            names = {"category": category, "defect": defect, "split": split, "image_path": f"{category}/{defect}/{split}-{number}.png"}
            rows.append({**names, "image_sha256": digest(image), "image": image_cell(image), "mask": image_cell(mask)})
    return [*rows, {"category": category, "defect": defects[0], "image_path": "broken.png", "reason": "truncated"}]


def sample_rows(category: str, defect: str, method: str) -> list[dict]:
    """Three samples that are accepted, and a fourth that is too faint."""
    rows = []
    for number in range(4):
        background, (image, mask) = normal_image(number), defective_pair(number, method)
        sample = Pair(np.where(mask[..., None] == 1, background + np.uint8(3), background) if number == 3 else image, mask)
        blank = {name: kind() for name, kind in PlanRow.__annotations__.items()}
        identity = Identity(method, category, defect, number, attempt=0)
        names = {**identity._asdict(), "sample_id": identity.sample_id}
        row = PlanRow(**(blank | names | {"background_sha256": digest(background)}))
        rows.append(sample_row(row, sample, judge(Rendered(sample), background, 8.0), origin()))
    return rows


def write_predictions(path: Path, defects: list[str]) -> None:
    """The arm with stage's samples finds the defect, the real third alone nothing, the one with paste's what is not there."""
    names = ("image", "mask", "real_only", "real_and_stage", "real_and_paste")
    image, mask = defective_pair(0)
    cells = dict(zip(names, map(image_cell, (image, mask, mask * 0, mask, 1 - mask)), strict=True))
    rows = [{"defect": defect, "image_path": "0.png", **cells} for defect in defects]
    texts = {name: Value("string") for name in ("defect", "image_path")}
    write_table(rows, Features(texts | dict.fromkeys(names, image_features()["image"])), path)


def publish(data: Path, categories: list[str], defects: list[str]) -> None:
    """Everything that the report reads, as the other verbs publish it, of both methods."""
    counts = {"accepted": 4, "train": 2, "test": 2, "set_aside": 0}
    summary = {category: dict.fromkeys(("good", *defects), counts) for category in categories}
    write_text(data / "prepare" / "summary.json", json.dumps(summary))
    write_csv(data / "prepare" / "set_aside.csv", [{"category": categories[0], "path": f"{defects[0]}/7.png", "reason": "truncated"}])
    write_csv(data / "pretrain" / "curve.csv", [{"iteration": i, "loss": 1 / (i + 1)} for i in range(300)])
    for category in categories:
        write_table(catalog_rows(category, defects), FEATURES, data / "prepare" / category / "catalog.parquet")
        for method in COLOURS:
            rows = [row for defect in defects for row in sample_rows(category, defect, method)]
            publish_rows(rows, 5, data / "synthesize" / category / method)
        write_predictions(data / "segment" / category / "predictions.parquet", defects)
        write_text(data / "segment" / category / "metrics.json", json.dumps(ARMS))
        write_csv(data / "train" / category / "curve.csv", [{"iteration": i, "loss": 2.0, "aware": 1.0, "only": 1.0} for i in range(50)])
        arms = [{"iteration": i, "arm": arm, "loss": 1.0} for arm in ARMS for i in range(50)]
        write_csv(data / "segment" / category / "curve.csv", arms)


def demo_params(categories: list[str], methods: tuple[str, ...] = ("stage", "paste")) -> Params:
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    return params.model_copy(update={"categories": tuple(categories), "methods": methods})


class Page(HTMLParser):
    """The tags, addresses, text and table rows (by their heading) of a page, as a browser would take them apart."""

    def __init__(self, html: Path | str) -> None:
        super().__init__()
        self.cells: dict[str, list[str]] = {}
        self.row: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(html.read_text(encoding="utf-8") if isinstance(html, Path) else html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        self.images += [dict(attrs)] if tag == "img" else []

        self.row = [] if tag == "tr" else [*self.row, ""] if tag in ("th", "td") else self.row

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self.cells.setdefault(self.row[0].strip(), [cell.strip() for cell in self.row[1:]])

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.row:
            self.row[-1] += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two categories with ordinary names."""
    folder = tmp_path_factory.mktemp("ordinary")
    publish(folder / "data", ["fabric", "washer"], ["hole", "thread"])
    write_report(folder / "data", folder / "report", demo_params(["fabric", "washer"]))
    return folder / "report"


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a category and defect types whose names are attacks."""
    folder = tmp_path_factory.mktemp("hostile")
    publish(folder / "data", ["<b>&'"], HOSTILE)
    write_report(folder / "data", folder / "report", demo_params(["<b>&'"]))
    return folder / "report"


@pytest.mark.parametrize("which", ["report", "hostile_report"])
def test_every_link_and_picture_exists_inside_the_folder(which: str, request: pytest.FixtureRequest) -> None:
    """Otherwise a page shows broken pictures, or reaches out of its folder or to the network."""
    root: Path = request.getfixturevalue(which)
    for path in root.glob("*.html"):
        for address in Page(path).addresses:
            file, _, anchor = address.partition("#")
            target = (root / (file or path.name)).resolve()
            assert address == "data:," or (target.is_file() and target.is_relative_to(root)), (path.name, address)
            assert not anchor or f'id="{anchor}"' in target.read_text(), (path.name, address)


def test_pages_hold_no_script_and_name_no_other_host(hostile_report: Path) -> None:
    """Otherwise a defect type's name runs as code in the reader's browser, or the report is not usable offline."""
    for path in hostile_report.glob("*.html"):
        page = Page(path)

        assert not {"script", "b", "iframe", "object"} & set(page.tags)
        assert not [image for image in page.images if "onerror" in image or image["src"] == "x"]
        assert "http" not in path.read_text().replace("http-equiv", "")


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


@pytest.mark.parametrize(
    ("method", "row"),
    [("stage", ["50.0", "75.0", "+25.0", "62.5", "87.5", "+25.0"]), ("paste", ["50.0", "25.0", "−25.0", "62.5", "50.0", "−12.5"])],
)
def test_headline_shows_every_method_beside_real_data_alone_and_their_difference(report: Path, method: str, row: list[str]) -> None:
    """Otherwise the one number that a user came for is wrong, or of another method: 50.0 and 75.0 make +25.0."""
    cells = Page(report / "index.html").cells

    assert cells[f"fabric, {method}"] == cells[f"washer, {method}"] == ["4", *row]
    assert cells[f"Average over categories, {method}"] == ["8", *row]


def test_the_verdict_is_each_methods_own(report: Path) -> None:
    """Otherwise a method that harms is recommended for what the other one gains."""
    text = Page(report / "index.html").text

    assert "stage: Synthetic samples helped" in text
    assert "paste: Synthetic samples harmed" in text


@pytest.mark.parametrize("method", COLOURS)
def test_a_methods_page_shows_its_own_samples_and_predictions(report: Path, method: str) -> None:
    """Otherwise a reader judges a method by another's pictures: the enlarged defects have its colour, and it finds what it finds."""
    folder = report / "pictures" / f"{method}-fabric" / "hole"
    found = np.asarray(Image.open(folder / "segmented" / "00-3.png").convert("L"))
    defect = np.asarray(Image.open(folder / "synthetic" / "00-3.png"))[4:8, 4:8]

    assert (defect == COLOURS[method]).all()
    assert np.array_equal(found > 0, (defective_pair(0)[1] > 0) == (method == "stage"))
    assert {f"pictures/{method}-fabric"} == {"/".join(str(image["src"]).split("/")[:2]) for image in Page(_page(report, method)).images}


@pytest.mark.parametrize(
    ("methods", "blends", "is_said"),
    [(("stage", "paste"), ("hard", "outward"), True), (("stage", "paste"), ("hard",), False), (("stage",), ("outward",), False)],
)
def test_a_soft_seam_is_not_called_the_photograph(tmp_path: Path, methods: tuple[str, ...], blends: tuple[str, ...], is_said: bool) -> None:
    """Otherwise the report says that a photograph is untouched outside the mask where the seam of a pasted defect is softened."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    params = demo_params(["fabric"], methods)
    write_report(
        tmp_path / "data",
        tmp_path / "report",
        params.model_copy(update={"paste": params.paste.model_copy(update={"blends": blends, "reach": 7})}),
    )
    said = {path.name for path in (tmp_path / "report").glob("*.html") if "farther than 7 px from it" in Page(path).text}

    assert said == ({"index.html", "category-paste-fabric.html"} if is_said else set())


def test_a_method_without_training_has_no_curve_of_one(report: Path) -> None:
    """Otherwise the page says of a method that needs none what another's training did."""
    assert "Mask Guidance Adapters" in Page(_page(report, "stage")).text
    assert "Mask Guidance Adapters" not in Page(_page(report, "paste")).text


def _page(report: Path, method: str) -> Path:
    return report / f"category-{method}-fabric.html"


@pytest.mark.parametrize("method", COLOURS)
def test_galleries_hold_accepted_and_rejected_samples_apart(report: Path, method: str) -> None:
    """Otherwise a faint sample stands among the good ones: 2 types x 3 accepted x 4 pictures, and 2 x 1 x 4 rejected."""
    sources = [image["src"] or "" for image in Page(_page(report, method)).images]

    assert [sum(f"/{kind}/" in source for source in sources) for kind in ("synthetic", "rejected", "real")] == [24, 8, 12]


def test_reasons_are_counted_by_kind(report: Path) -> None:
    """Otherwise the table of a large run has a line for every rejected sample, since each has another contrast."""
    assert "1 × faint" in Page(_page(report, "stage")).text


def test_the_enlarged_picture_is_the_marked_region(report: Path) -> None:
    """Otherwise the frame marks another place than the one shown: sample 0 has its defect in rows and columns 8 to 11."""
    folder = report / "pictures" / "stage-fabric" / "hole" / "synthetic"
    whole, crop = Image.open(folder / "00-2.png"), Image.open(folder / "00-3.png")

    assert crop.tobytes() == whole.crop((4, 4, 16, 16)).tobytes()
    assert "left: 12.5%; top: 12.5%; width: 37.5%; height: 37.5%" in _page(report, "stage").read_text()


def test_the_background_beside_a_sample_is_its_own(report: Path) -> None:
    """Otherwise a reader compares a sample with a photograph it was not made from."""
    folder = report / "pictures" / "stage-fabric" / "hole" / "synthetic"

    assert all(np.array_equal(np.asarray(Image.open(folder / f"{i:02}-0.png")), normal_image(i)) for i in range(3))


def test_a_report_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """Otherwise a failed run leaves half a report, or removes the last good one."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    output = tmp_path / "report"
    write_text(output / "index.html", "the last good one")
    metrics = tmp_path / "data" / "segment" / "fabric" / "metrics.json"
    text = metrics.read_text()
    metrics.unlink()

    with pytest.raises(Refusal, match=r"Expected metrics by arm .*metrics.json, found no such file. Run `dvc repro"):
        write_report(tmp_path / "data", output, demo_params(["fabric"]))
    assert (output / "index.html").read_text() == "the last good one"
    assert not list(tmp_path.glob(".report-*"))

    write_text(metrics, text[:-5])
    with pytest.raises(Refusal, match=r"Expected metrics by arm as JSON in .*metrics.json, found "):
        write_report(tmp_path / "data", output, demo_params(["fabric"]))
    write_text(metrics, text)
    write_report(tmp_path / "data", output, demo_params(["fabric"]))
    assert "the last good one" not in (output / "index.html").read_text()


def test_the_same_artefacts_give_the_same_report(tmp_path: Path) -> None:
    """Otherwise a night without change publishes a new version."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    for name in ("a", "b"):
        write_report(tmp_path / "data", tmp_path / name, demo_params(["fabric"]))
    contents = [{path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("a", "b")]

    assert contents[0] == contents[1]


def test_a_base_from_a_hub_has_no_curve(tmp_path: Path) -> None:
    """Otherwise a run with the paper's pretrained base ends without its report."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    (tmp_path / "data" / "pretrain" / "curve.csv").unlink()
    write_report(tmp_path / "data", tmp_path / "report", demo_params(["fabric"]))

    assert "Base model, trained" not in (tmp_path / "report" / "made.html").read_text()


def test_a_run_without_networks_has_its_report(tmp_path: Path) -> None:
    """Otherwise samples that need no training can only be looked at after one."""
    publish(tmp_path / "data", ["fabric"], ["hole"])
    for verb in ("pretrain", "train"):
        shutil.rmtree(tmp_path / "data" / verb)
    write_report(tmp_path / "data", tmp_path / "report", demo_params(["fabric"], ("paste",)))

    assert {path.name for path in (tmp_path / "report").glob("*.html")} == {"index.html", "made.html", "category-paste-fabric.html"}


def test_made_page_names_digests_versions_and_every_parameter(report: Path) -> None:
    """Otherwise nobody can tell what a report was made from."""
    text = Page(report / "made.html").text
    shards = sorted((report.parent / "data" / "synthesize" / "washer").glob("*/shards/*.parquet"))

    assert len(shards) == 4
    assert all(hashlib.sha256(shard.read_bytes()).hexdigest() in text for shard in shards)
    assert all(word in text for word in ("Python", "torch", "prefect", "git revision", "CC0-1.0"))
    assert all(name in text for section in demo_params(["fabric"]).model_dump().values() if isinstance(section, dict) for name in section)


@pytest.mark.parametrize(
    ("differences", "start"),
    [
        ([0.02, -0.01], "No clear difference"),
        ([0.2, 0.3], "Synthetic samples helped"),
        ([-0.2, -0.3], "Synthetic samples harmed"),
        ([None], "No IoU"),
    ],
)
def test_verdict_claims_no_more_than_two_runs_can_show(differences: list[float | None], start: str) -> None:
    """Otherwise chance is sold as a gain, or a real loss is hidden."""
    assert verdict(differences).startswith(start)


def test_macro_average_leaves_out_what_is_not_defined() -> None:
    """Otherwise a category without normal test images drags the average to nothing: (0.2 + 0.6) / 2 = 0.4."""
    categories = [
        {"iou": Score(0.2, 0.4), "image_ap": Score(None, None)},
        {"iou": Score(0.6, 0.4), "image_ap": Score(0.5, 0.75)},
    ]
    average = macro_average(
        [dict.fromkeys(scores({"real_only": {}, "real_and_stage": {}}, "real_and_stage"), Score(None, None)) | some for some in categories]
    )

    assert average["iou"] == pytest.approx((0.4, 0.4))
    assert average["image_ap"] == (0.5, 0.75)
    assert average["auroc"] == (None, None)


def test_numbers_read_as_percent_and_signed_points() -> None:
    """Otherwise a loss looks like a gain, or nothing looks like something."""
    assert [percent(0.1234), percent(None)] == ["12.3", "–"]
    assert [points(0.05), points(-0.05), points(-0.0001), points(None)] == ["+5.0", "−5.0", "0.0", "–"]


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


def test_every_curve_is_drawn(tmp_path: Path) -> None:
    """The curve of a method would be missing where there are more methods than colours."""
    names = [f"curve {number}" for number in range(8)]
    draw_curves(tmp_path / "curve.svg", {name: ([0, 1], [1.0, 0.5]) for name in names}, label="loss")

    drawn = (tmp_path / "curve.svg").read_text()
    assert all(name in drawn for name in names)
