"""The configurations of Fig. 6, and what is shown of their results."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from published import catalog_rows, sample_rows, write_text
from rich.console import Console
from small_factory import publish_rows

from stage.ablation.bars import bars_figure, write_bars
from stage.ablation.configurations import CONFIGURATIONS, RESULTS, SPECIMENS, load_configurations, variant, variants, write_specimens
from stage.ablation.pictures import draw_ablation
from stage.ablation.results import MEAN, Bar, Group, ablation_table, read_ablations
from stage.ablation.side_by_side import TILE, side_by_side
from stage.core.errors import ConfigError
from stage.core.params import Params, load_params
from stage.datasets.pairs import write_table
from stage.datasets.table import COLUMNS
from stage.report.sheets import GAP, LABEL_HEIGHT, MARGIN, TITLE_HEIGHT

ROOT = Path(__file__).parents[1]
INTERVALS = ((800, 1000), (300, 400))  # IV-A
# The table of ablations in docs/method.md: adapters, alignment, known region, graded intervals. RePaint is the contrast to Anomaly Inference.
TABLE = {
    "baseline": (False, "binary", "fresh", ()),
    "+ MGA": (True, "binary", "fresh", ()),
    "+ MGA + AIF": (True, "binary", "posterior", ()),
    "+ MGA + AIF + GD": (True, "binary", "posterior", INTERVALS),
    "+ MGA + AIF + EMA": (True, "scheduled", "posterior", ()),
    "STAGE": (True, "scheduled", "posterior", INTERVALS),
    "RePaint": (True, "binary", "fresh_resample", ()),
}


@pytest.fixture
def params() -> Params:
    return beginning_with("noise", 50)


def beginning_with(start: str, steps: int) -> Params:
    """params.yaml's values, but for where the sampler begins, and in how many steps."""
    whole = load_params(ROOT / "params.yaml")
    below = whole.train.timesteps_below if start == "defect" else whole.base.timestep_count
    train = whole.train.model_copy(update={"timesteps_below": below})
    known = "redrawn" if start == "defect" else "posterior"
    synthesize = whole.synthesize.model_copy(update={"start": start, "steps": steps, "known_region": known})
    return whole.model_copy(update={"train": train, "synthesize": synthesize})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "configurations.yaml"


def found(params: Params, path: Path = ROOT / CONFIGURATIONS) -> list[tuple[str, Params]]:
    return [(configuration.label, values) for configuration, values in variants(params, load_configurations(path))]


def test_the_configurations_are_those_of_the_paper_in_its_order(params: Params) -> None:
    """A bar would show something else than its name."""
    switches = {
        label: (values.method.adapters, values.method.alignment, values.synthesize.known_region, values.synthesize.graded_intervals)
        for label, values in found(params)
    }

    assert list(switches.items()) == list(TABLE.items())


def test_nothing_else_differs(params: Params) -> None:
    """The comparison would be one of two things at once."""
    switched = {"adapters", "alignment", "known_region", "graded_intervals", "resamplings"}  # the last acts in RePaint alone

    def rest(values: Params) -> dict:
        sections = values.model_dump(exclude={"name"})
        return {
            name: {k: v for k, v in part.items() if k not in switched} if isinstance(part, dict) else part
            for name, part in sections.items()
        }

    assert all(rest(values) == rest(params) for _, values in found(params))


def test_the_whole_method_is_the_main_run_and_the_others_are_named_apart(params: Params) -> None:
    """STAGE would be made a second time, or a sample would not say which configuration it is of."""
    values = dict(found(params))

    assert values["STAGE"].synthesize == params.synthesize
    assert (values["STAGE"].method, values["STAGE"].train) == (params.method, params.train)
    assert len({one.name for one in values.values()}) == len(TABLE)


def test_every_configuration_begins_with_noise() -> None:
    """Below the timestep of a real defect, what the configurations switch has nothing to do, and all bars would be alike."""
    assert {values.synthesize.start for _, values in found(beginning_with("defect", 5))} == {"noise"}


@pytest.mark.parametrize(("start", "steps", "expected"), [("defect", 5, 15), ("noise", 1000, 1000)])
def test_steps_from_noise_are_those_of_the_main_run_if_it_begins_there(start: str, steps: int, expected: int) -> None:
    """The paper's thousand steps would become fifteen, or the five from a defect would have to lead through all of the noise."""
    assert {values.synthesize.steps for _, values in found(beginning_with(start, steps))} == {expected}


@pytest.mark.parametrize(
    "switched_off",
    [
        {"synthesize": {"graded_intervals": ()}},
        {"method": {"alignment": "binary"}},
    ],
)
def test_configurations_that_come_out_the_same_are_refused(params: Params, switched_off: dict) -> None:
    """Hours would go into two bars that cannot differ, and the difference would be read as an effect."""
    changes = {name: getattr(params, name).model_copy(update=values) for name, values in switched_off.items()}

    with pytest.raises(ConfigError, match=r"found .* to be the same with params.yaml as it is. Switch on there"):
        found(params.model_copy(update=changes))


def test_an_ablation_without_the_method_is_refused(params: Params) -> None:
    """The main run's results, from which the ablation takes its last bar, would be missing after an hour."""
    with pytest.raises(ConfigError, match=r"Expected `stage` among methods in params.yaml for the ablation of its parts, found paste"):
        found(params.model_copy(update={"methods": ("paste",)}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("method.alignement: binary", "found 'method.alignement' in .*configurations.yaml. Correct the key"),
        ("alignment: binary", "found 'alignment'"),
        ("method.alignment.low: 1", "found 'method.alignment.low'"),
        ("segment.width: 8", "below method, synthesize, train in params.yaml, found 'segment.width'"),
        ("base.source: elsewhere", "found 'base.source'"),
        ("method.alignment: half", "found method.alignment: .*'scheduled' or 'binary' in the overrides of 'one'"),
        ("synthesize.start_at: 5000", "found .*synthesize.start_at is at most base.timestep_count"),
        ("synthesize.graded_intervals: [[900, 1200]]", "found .*within 0 and 1000"),
    ],
)
def test_an_override_that_cannot_be_is_refused_by_name(params: Params, file: Path, overrides: str, message: str) -> None:
    """A misspelt switch would leave the configuration as it is, and its bar would lie."""
    file.write_text(f"- name: one\n  label: One\n  overrides:\n    {overrides}\n")
    [configuration] = load_configurations(file)

    with pytest.raises(ConfigError, match=message):
        variant(params, configuration)


def test_a_nested_value_is_overridden(params: Params, file: Path) -> None:
    """Crops could not be compared."""
    file.write_text("- {name: one, label: One, overrides: {method.crop.below: 24, train.iterations: 3}}\n")
    changed = variant(params, load_configurations(file)[0])

    assert (changed.method.crop.below, changed.train.iterations) == (24, 3)
    assert changed.method.crop.defect_share == params.method.crop.defect_share


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Expected the configurations to compare at .*, found none"),
        ("- name: [", "found a syntax error: .* in line [12]"),
        ("- {name: one, label: One}", "overrides"),
        (b"- {name: one, label: \xff, overrides: {}}", r"in UTF-8 in .*configurations.yaml, found a syntax error: .*\. Correct it there"),
        ("[]", r"Expected at least one configuration in .*, found an empty list\. Add one there"),
        (
            "- {name: one, label: A, overrides: {}}\n- {name: two, label: A, overrides: {train.batch: 4}}",
            "label once in .*, found A repeated",
        ),
        ("- {name: ../one, label: One, overrides: {}}", "should match pattern"),
        ("- {name: one, label: One, overrides: {}}\n- {name: one, label: Two, overrides: {train.batch: 4}}", "found one repeated"),
    ],
)
def test_a_file_of_configurations_that_cannot_be_read_is_refused(file: Path, text: str | bytes | None, message: str) -> None:
    """The message would be a traceback, a name would become a path, or two bars could not be told apart."""
    if text:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ConfigError, match=message):
        load_configurations(file)


def result(category: str, scores: dict[str, float | None]) -> str:
    """What `ablate` publishes of a category: IoU as given, Acc a tenth above, AP another tenth."""
    configurations = [
        {
            "name": name.lower(),
            "label": name,
            "samples": {"accepted": 3 if iou else 0, "count": 4},
            "metrics": {"iou_half": iou, "acc_half": iou + 0.1, "ap": iou + 0.2} if iou else None,
        }
        for name, iou in scores.items()
    ]
    real_only = {"iou_half": 0.4, "acc_half": 0.5, "ap": 0.6}
    return json.dumps({"category": category, "real_only": real_only, "configurations": configurations})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Results of two categories; A was judged in one of them only."""
    write_text(tmp_path / "ablate" / "fabric" / RESULTS, result("fabric", {"A": None, "B": 0.25}))
    write_text(tmp_path / "ablate" / "washer" / RESULTS, result("washer", {"A": 0.5, "B": 0.75}))
    return tmp_path


def test_the_mean_is_over_all_categories_or_there_is_none(data: Path) -> None:
    """A configuration that made nothing of the hardest category would look best on average."""
    mean = read_ablations(data, ["fabric", "washer"])[-1]

    assert (mean.category, mean.bars[0].metrics, mean.bars[0].accepted) == (MEAN, None, 3)
    assert mean.bars[1].metrics == pytest.approx({"iou_half": 0.5, "acc_half": 0.6, "ap": 0.7})


def test_one_category_has_no_mean(data: Path) -> None:
    """The same bars would stand there twice."""
    assert [group.category for group in read_ablations(data, ["washer"])] == ["washer"]


def test_a_category_that_is_missing_or_has_other_configurations_is_refused(data: Path) -> None:
    """Bars of different runs would stand side by side."""
    write_text(data / "ablate" / "other" / RESULTS, result("other", {"A": 0.5}))

    with pytest.raises(ValueError, match=r"found none\. Run `make ablation`"):
        read_ablations(data, ["fabric", "bottle"])
    with pytest.raises(ValueError, match="same configurations in every category"):
        read_ablations(data, ["fabric", "other"])


WHOLE = json.loads(result("washer", {"A": 0.5}))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        result("washer", {"A": 0.5}).encode()[:-9],
        result("washer", {}).encode(),
        json.dumps(WHOLE | {"real_only": {"iou_half": 0.4}}).encode(),
        json.dumps(WHOLE | {"configurations": [{"name": "a", "metrics": {"iou_half": 0.5, "acc_half": 0.5, "ap": 0.5}}]}).encode(),
        json.dumps(
            WHOLE | {"configurations": [WHOLE["configurations"][0] | {"metrics": {"iou_half": None, "acc_half": 0.5, "ap": 0.5}}]}
        ).encode(),
    ],
)
def test_damaged_or_older_results_are_refused(data: Path, text: bytes) -> None:
    """The command would end in a traceback."""
    (data / "ablate" / "washer" / RESULTS).write_bytes(text)

    with pytest.raises(ValueError, match=r"^Expected .* in .*washer/ablations\.json, found .*\. Run `make ablation`\.$"):
        read_ablations(data, ["washer"])


def test_the_table_has_every_number(data: Path) -> None:
    """Who cannot see the bars would miss what they say."""
    console = Console(width=120)
    with console.capture() as capture:
        console.print(ablation_table(read_ablations(data, ["fabric", "washer"])))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capture.get().splitlines() if "│" in line]

    assert ["fabric", "A", "-", "-", "-", "0 of 4"] in rows
    assert ["washer", "B", "75.0", "85.0", "95.0", "3 of 4"] in rows
    assert [MEAN, "real only", "40.0", "50.0", "60.0", ""] in rows


def test_bars_are_as_high_as_the_numbers(data: Path) -> None:
    """The picture would say something else than the table."""
    iou, acc, _ = bars_figure(read_ablations(data, ["fabric", "washer"])).axes
    heights = [[round(bar.get_height(), 6) for bar in bars] for bars in iou.containers]
    lines = [line.get_ydata()[0] for line in acc.lines]

    assert heights == [[0, 50, 0], [25, 75, 50]]  # per configuration: fabric, washer, mean
    assert [text.get_text() for text in iou.texts] == ["none", "none"]
    assert lines == [50, 50, 50]


def test_the_svg_carries_its_numbers_as_text_and_names_from_data_as_they_are(tmp_path: Path) -> None:
    """A screen reader would find nothing, or a category's name would be read as a formula or as markup."""
    metrics = {"iou_half": 0.123, "acc_half": 0.456, "ap": 0.789}
    write_bars([tmp_path / "bars.svg"], [Group("<b>$x^2$ & co", metrics, [Bar("a", "A", 1, 1, metrics)])])
    text = " ".join(ElementTree.parse(tmp_path / "bars.svg").getroot().itertext())

    assert "<b>$x^2$ & co, A: IoU 12.3, Acc 45.6, AP 78.9" in text
    assert text.count("<b>$x^2$ & co") == 3  # in the description twice, at the axis once


def publish_samples(data: Path, names: list[str]) -> None:
    """Four samples of fabric under every configuration, the fourth of them rejected."""
    write_table(catalog_rows("fabric", ["hole"]), COLUMNS, data / "prepare" / "fabric" / "catalog.parquet")
    for name in names:
        publish_rows(sample_rows("fabric", "hole", "stage"), 3, data / name)
    write_specimens({name: data / name for name in names}, data / "ablate" / "fabric" / SPECIMENS)


def test_the_same_plan_rows_stand_side_by_side_and_rejected_ones_are_framed(data: Path) -> None:
    """Different defects would be compared, or a sample that was thrown away would be taken for one that was used."""
    publish_samples(data, ["a", "b"])
    [group] = read_ablations(data, ["fabric"])
    sheet = side_by_side(data, group)

    def tile(row: int, column: int) -> Image.Image:
        x, y = MARGIN + column * (TILE + GAP), MARGIN + TITLE_HEIGHT + LABEL_HEIGHT + row * (TILE + GAP)
        return sheet.crop((x, y, x + TILE, y + TILE))

    is_red = [[tile(row, column).getpixel((0, 0)) == (229, 72, 77) for column in range(4)] for row in range(4)]

    assert sheet.width == 2 * MARGIN + 4 * (TILE + GAP) - GAP  # background, mask, A, B
    assert all(tile(row, 2).tobytes() == tile(row, 3).tobytes() for row in range(4))
    assert is_red == [[False] * 4] * 3 + [[False, False, True, True]]


def test_everything_is_drawn_into_one_folder(data: Path) -> None:
    """The command would end without the picture that it names."""
    publish_samples(data, ["a", "b"])
    written = draw_ablation(data, read_ablations(data, ["fabric"]), data / "drawn")

    assert [path.name for path in written] == ["bars.svg", "bars.png", "bars.csv", "samples-fabric.png"]
    assert all(path.is_file() for path in written)
