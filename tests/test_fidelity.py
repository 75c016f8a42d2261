"""The figures on fidelity: each says what its name says, of defects of any size and place, and none is made up where there is nothing."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import refused, run
from published import Page, demo_params, publish
from scipy import ndimage, stats

from stage.core.errors import CorruptFileError
from stage.datasets.pairs import Pair
from stage.release.fidelity import COLUMNS, REAL, MeasuredDefects, compared, measure_fidelity, read_fidelity, write_fidelity
from stage.report.fidelity import HEADS, fidelity_rows, fidelity_table, fidelity_verdicts
from stage.report.pages import write_report
from stage.synthesis.appearance import ALONE, described, described_alone, encoder
from stage.synthesis.fidelity import DISTANCES, MEASURES, measured, shape_of_mask
from stage.synthesis.kernel_distance import between_halves, kernel_distance

SIDE = 64
GROUND = 100  # grey level


def pair(seed: int, bright: float = 60.0, grain: float = 6.0, colour: float = 12.0) -> Pair:
    """A bright blob of its own size and brightness, grainy, on quieter ground."""
    random = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE)) - random.integers(26, 38, 2)[:, None, None]
    mask = (np.hypot(y, x) < random.integers(9, 14)).astype(np.uint8)
    image = GROUND + random.normal(0, 2, (SIDE, SIDE, 3))
    image[mask > 0] += bright + random.normal(0, colour) + random.normal(0, grain, (int(mask.sum()), 1))
    return Pair(image.clip(0, 255).astype(np.uint8), mask)


def examples(pairs: list[Pair], name: str = "") -> MeasuredDefects:
    """Each pair is a part; those of one name and number are one part."""
    return MeasuredDefects.of((one, f"{name}{number}") for number, one in enumerate(pairs))


REALS = [pair(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def real() -> MeasuredDefects:
    return examples(REALS)


def ratios(real: MeasuredDefects, pairs: list[Pair]) -> dict[str, dict]:
    """The rows of some pairs against the real ones by measure, the profile left out."""
    return {row["measure"]: row for row in compared(real, examples(pairs, "other")) if row["distance"] is None}


def value(image: np.ndarray, mask: np.ndarray, measure: str) -> float:
    return float(measured(image.astype(np.uint8), mask.astype(np.uint8))[MEASURES.index(measure)])


def changed(one: Pair, inside: np.ndarray) -> Pair:
    """Other pixels inside the mask."""
    return one._replace(image=np.where(one.mask[..., None] > 0, inside.clip(0, 255).astype(np.uint8), one.image))


def square(top: int, left: int, side: int, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_equal_sets_have_ratio_one_and_no_distance(real: MeasuredDefects) -> None:
    """Every figure would mean something else than it says."""
    found = list(compared(real, real))

    ratios = {row["measure"]: row["ratio"] for row in found if row["measure"] != "kid"}
    same = {"spread_elongation", "spread_parts"}  # squares all: there is no spread to compare
    assert all(np.isnan(ratios.pop(name)) for name in same)
    assert list(ratios.values()) == pytest.approx([1.0] * len(ratios))
    assert found[-1]["value"] == pytest.approx(0, abs=1e-9)
    assert {row["target"] for row in found} == {"", "met"}


def test_fresh_defects_of_the_same_kind_are_near_within_their_error(real: MeasuredDefects) -> None:
    """Samples that are as good as real ones would be told apart, or the error would excuse anything."""
    found = ratios(real, [pair(seed) for seed in range(100, 140)])
    null = between_halves(real.features, real.parts, np.random.default_rng(0))

    assert abs(found["kid"]["value"]) < 3 * found["kid"]["error"]
    assert abs(null.value) < 2 * null.error
    assert all(row["target"] in {"", "met"} for row in found.values())
    other = ratios(real, [pair(seed, bright=-60) for seed in range(100, 140)])
    assert other["kid"]["value"] > 5 * other["kid"]["error"]


def test_blurred_copies_have_less_grain(real: MeasuredDefects) -> None:
    """A method that smooths would look faithful."""
    found = ratios(real, [changed(one, ndimage.gaussian_filter(one.image.astype(float), (1, 1, 0))) for one in REALS])

    assert found["grain"]["ratio"] < 0.5
    assert found["grain"]["target"] == "met"  # no target asks for grain


def test_faded_copies_have_less_contrast(real: MeasuredDefects) -> None:
    """Faint samples, the commonest fault, would pass: half as bright is about half the contrast."""
    found = ratios(real, [changed(one, GROUND + 0.5 * (one.image.astype(float) - GROUND)) for one in REALS])

    for name in ("contrast_edge", "contrast_core"):
        assert found[name]["ratio"] == pytest.approx(0.5, abs=0.05)
        assert found[name]["target"] == "missed"


def test_one_repeated_sample_has_no_spread(real: MeasuredDefects) -> None:
    """A method that makes the same defect again and again would look varied."""
    found = ratios(real, [REALS[0]] * 10)

    assert [found[name]["value"] for name in ("spread_colour", "spread_contrast", "spread_texture")] == pytest.approx([0, 0, 0], abs=1e-9)
    assert found["spread_colour"]["target"] == found["spread_contrast"]["target"] == found["spread_texture"]["target"] == "missed"


def test_noise_inside_raises_grain(real: MeasuredDefects) -> None:
    """The noise that a network leaves would go unseen. The filter gives white noise its own standard deviation, 6 and here 12."""
    found = ratios(real, [pair(seed, grain=12) for seed in range(100, 112)])

    assert found["grain"]["ratio"] == pytest.approx(2, rel=0.1)
    assert found["grain"]["target"] == "missed"


def test_grain_takes_nothing_from_the_mask_s_border() -> None:
    """A bright, smooth defect would count as grainy because it ends somewhere; nor is a slope of its brightness grain."""
    mask = square(20, 20, 12)
    slope = np.where(mask[..., None] > 0, 150 + np.arange(SIDE)[None, :, None] + np.zeros((SIDE, 1, 3)), GROUND)

    assert value(slope, mask, "grain") == pytest.approx(0, abs=1e-6)


def test_contrast_is_the_distance_of_histograms() -> None:
    """A dark line beside a bright one would cancel out. Checked against scipy's distance of the same pixels."""
    image, mask = np.full((SIDE, SIDE, 3), GROUND, np.uint8), square(20, 20, 4)
    image[20:24, 20:22], image[20:24, 22:24] = 60, 140
    image[:, 28:] = 110
    far = ndimage.distance_transform_edt(mask == 0)
    ring = (far > 2) & (far <= 6)

    assert value(image, mask, "contrast_edge") == pytest.approx(
        stats.wasserstein_distance(image[mask > 0, 0].astype(float), image[ring, 0].astype(float))
    )


def test_the_profile_is_the_difference_at_each_distance() -> None:
    """A soft seam, or a label too wide, would show at the wrong place: here brightness is 10 per px of depth, and the seam 5 at 1 px."""
    mask = square(20, 20, 14)
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(1 - mask)
    image = np.repeat((GROUND + 10 * np.ceil(inside) + 5 * (np.ceil(outside) == 1))[..., None], 3, axis=2)

    assert measured(image.astype(np.uint8), mask)[len(MEASURES) :] == pytest.approx([60, 50, 40, 30, 20, 10, 5, 0, 0, 0, 0, 0])


def test_other_defects_are_no_surroundings() -> None:
    """Two defects side by side would each look faint beside the other."""
    mask = square(20, 10, 8) | square(20, 22, 8)
    image = np.where(mask[..., None] > 0, 200, np.full((SIDE, SIDE, 3), GROUND))

    assert value(image, mask, "contrast_edge") == value(image, mask, "contrast_core") == 100


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (square(30, 30, 8), (64 / SIDE**2, 1, 1)),
        (square(30, 30, 1), (1 / SIDE**2, 1, 1)),
        (square(30, 30, 8) * (np.indices((SIDE, SIDE))[0] == 31), (8 / SIDE**2, 8, 1)),  # a line of 8 px is 8 times as long as wide
        (square(0, 0, 2) | square(2, 2, 6) | square(40, 40, 3), (49 / SIDE**2, None, 2)),  # at a corner: one part
    ],
)
def test_statistics_of_masks_by_hand(mask: np.ndarray, expected: tuple[float, float | None, int]) -> None:
    """Masks would be compared by something else than the table says."""
    found = shape_of_mask(mask.astype(np.uint8))

    assert all(one == pytest.approx(other) for one, other in zip(found, expected, strict=True) if other is not None)


@pytest.mark.parametrize(
    ("mask", "edge", "core", "grain"),
    [
        (square(30, 30, 1), 80.0, math.nan, math.nan),  # one pixel
        (square(0, 0, 1), 80.0, math.nan, math.nan),  # in the corner
        (square(30, 30, 4), 80.0, math.nan, 0.0),  # no pixel deeper than 2 px
        (square(0, 0, 10), 80.0, 80.0, 0.0),  # touches the image's edge, which is no border
        (np.ones((SIDE, SIDE), np.uint8), math.nan, math.nan, 0.0),  # leaves no surroundings
        (np.zeros((SIDE, SIDE), np.uint8), math.nan, math.nan, math.nan),
    ],
)
def test_defects_of_any_size_and_place_are_measured(mask: np.ndarray, edge: float, core: float, grain: float) -> None:
    """A pinhole or a defect at the margin would end `evaluate`, or get a figure from pixels that do not exist; grey images are images too."""
    image = np.where(mask[..., None] > 0, 180, np.full((SIDE, SIDE, 3), GROUND))

    assert [value(image, mask, name) for name in ("contrast_edge", "contrast_core", "grain")] == pytest.approx(
        [edge, core, grain], nan_ok=True
    )


def test_one_real_defect_is_reported_and_not_judged() -> None:
    """A verdict on a type would rest on one photograph; its spread and chance are unknown, not zero."""
    alone = examples(REALS[:1])
    own = {row["measure"]: row for row in compared(alone, alone, np.random.default_rng(0))}
    found = ratios(alone, REALS[1:4])

    assert math.isnan(own["spread_colour"]["value"])
    assert math.isnan(own["kid"]["value"])
    assert found["contrast_edge"]["count"] == 3
    assert found["contrast_edge"]["ratio"] > 0
    assert {row["target"] for row in found.values()} == {""}


def test_no_accepted_samples_are_nothing_known(real: MeasuredDefects) -> None:
    """A type of which the verdict rejected everything would end the run, or meet its targets."""
    found = ratios(real, [])

    assert {row["count"] for row in found.values()} == {0}
    assert all(math.isnan(row["value"]) for row in found.values())
    assert {row["target"] for row in found.values()} == {"", "unknown"}


def test_copies_of_real_defects_gain_no_distance(real: MeasuredDefects) -> None:
    """Near-copies would look nearer than other real defects are, because each meets its own original."""
    alike = kernel_distance(real.features, real.features, real.parts, [f"other{part}" for part in real.parts])
    known = kernel_distance(real.features, real.features, real.parts, real.parts)

    assert alike.value < -0.001
    assert known.value == pytest.approx(0, abs=1e-9)


def test_the_jackknife_knows_how_far_estimates_scatter() -> None:
    """An error too small would call chance a difference: 100 pairs of sets of equal origin, in 8 features."""
    random = np.random.default_rng(5)
    names = [[f"{side}{k}" for k in range(20)] for side in "ab"]
    found = [kernel_distance(*random.normal(size=(2, 20, 8)), *names) for _ in range(100)]
    values, errors = np.array(found).T

    assert abs(values.mean()) < 3 * values.std() / 10
    assert errors.mean() == pytest.approx(values.std(), rel=0.4)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real training defects of each type, so none is judged, and three accepted samples of each method."""
    folder = tmp_path_factory.mktemp("project")
    publish(folder / "data", ["fabric"], ["hole", "a<b>" * 12])
    return folder


def test_the_table_has_only_training_defects_and_accepted_samples(project: Path) -> None:
    """Test images would decide what is shown as a good method, or rejected samples would count."""
    table = measure_fidelity(project / "data", ["fabric"], ["stage", "paste"], 0)

    assert list(table.columns) == list(COLUMNS)
    assert {name: set(rows["count"]) for name, rows in table[table.measure == "contrast_edge"].groupby("made_by")} == {
        REAL: {2},
        "stage": {3},
        "paste": {3},
    }
    profile = table[table.measure == "profile"]
    assert profile.groupby(["defect", "made_by"]).distance.apply(tuple).map(lambda found: found == DISTANCES).all()
    pd.testing.assert_frame_equal(table, measure_fidelity(project / "data", ["fabric"], ["stage", "paste"], 0))


def test_the_report_says_what_is_not_judged_and_shows_each_origin(project: Path) -> None:
    """A reader would take two real examples for enough, or see pictures of one method alone."""
    write_report(project / "data", project / "report", demo_params(["fabric"]))
    page = Page(project / "report/category-fabric.html")
    rows = page.tables["fidelity-table"]

    assert [row[:3] for row in rows if row[0] == "hole"] == [["hole", "real", "2"], ["hole", "stage", "3"], ["hole", "paste", "3"]]
    assert "Not judged, with fewer than 5 real examples:" in page.text
    assert [row[:3] for row in page.tables["mask-table"]] == [row[:3] for row in rows]
    assert all(" ± " in cell for row in page.tables["mask-table"][1:] for cell in row[3:])
    pictures = {Path(str(image["src"])).name for image in page.images if "/fidelity/hole/" in str(image["src"])}
    assert pictures == {"profile.svg", *(f"{name}{end}.webp" for name in ("real", "stage", "paste") for end in ("", "-outlined"))}


def judged(**missed: float) -> pd.DataFrame:
    """A table of a type with six real examples; the ratios are 1 but for these."""
    measures = ("contrast_edge", "contrast_core", "texture", "grain", "spread_colour", "spread_contrast", "spread_texture")
    masks = ("area", "elongation", "parts", "spread_area", "spread_elongation", "spread_parts", "kid")
    rows = [
        ("fabric", "hole", made_by, measure, None, 6, 10.0, 0.1, ratio, "missed" if made_by != REAL and measure in missed else "")
        for made_by in (REAL, "paste")
        for measure in (*measures, *masks)
        for ratio in [missed.get(measure, 1.0) if made_by != REAL else 1.0]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_a_missed_target_is_named_with_its_figure() -> None:
    """A reader would have to find out from the table, or not at all, what a method is to do better."""
    [told] = fidelity_verdicts(fidelity_rows(judged(contrast_core=0.61, grain=1.42), "fabric"))

    assert told == (
        "Samples of paste miss targets on 1 of 1 types. "
        "hole: contrast in the core 0.61 of real (at least 0.8); grain 1.42 of real (at most 1.3)."
    )
    assert fidelity_verdicts(fidelity_rows(judged(), "fabric")) == ["Samples of paste miss no target, on 1 type."]
    none = judged(grain=1.42)
    none.loc[none.made_by == "paste", ["count", "value", "ratio"]] = (0, math.nan, math.nan)
    assert fidelity_verdicts(fidelity_rows(none, "fabric")) == ["Of paste there are no accepted samples of hole."]
    assert fidelity_table("fabric", fidelity_rows(judged(grain=1.42), "fabric")).row_count == 2


def test_the_verb_shows_what_evaluate_wrote_and_what_is_published_now(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who improves a method would have to train segmenters to learn whether its samples became better."""
    monkeypatch.chdir(project)
    params = (
        (Path(__file__).parents[1] / "params.yaml")
        .read_text()
        .replace("[fabric, washer]", "[fabric]")
        .replace("[stage, paste, draem]", "[stage, paste]")
    )
    (project / "params.yaml").write_text(params)
    output = run("fidelity", "fabric").stdout

    assert output == run("fidelity", "--measure").stdout
    legend = output[output.index("n: examples.") :]
    assert all(head in legend.lower() for head, _ in HEADS.values())
    assert all(len(line) <= 100 for line in output.splitlines())
    assert '"made_by": "paste"' in run("fidelity", "--json").output
    assert "found nut" in refused("fidelity", "nut")


def test_a_table_of_another_version_is_named(tmp_path: Path) -> None:
    """A run of last month would end in a traceback, or show old figures under new names."""
    (tmp_path / "evaluate").mkdir()
    write_fidelity(judged().drop(columns="ratio"), tmp_path / "evaluate")

    with pytest.raises(CorruptFileError, match=r"none called ratio: an earlier version wrote it\. Run `dvc repro`"):
        read_fidelity(tmp_path)


def test_features_of_a_defect_alone_are_as_many_as_they_say(real: MeasuredDefects) -> None:
    """Sets without an example could not stand beside others."""
    assert real.features.shape == (12, ALONE)
    assert examples([]).features.shape == (0, ALONE)


def test_a_mask_of_dust_is_described_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of three thousand specks would take gigabytes."""
    mask, random = np.zeros((64, 64), np.uint8), np.random.default_rng(0)
    mask[:63:8, :63:8] = 1
    image, background = random.integers(0, 256, (2, 64, 64, 3), np.uint8)
    windows: list[int] = []
    hook = encoder().stem.register_forward_pre_hook(lambda _, given: windows.append(len(given[0])))

    found = described(image, background, mask)
    described_alone(image, mask)
    hook.remove()

    assert windows == [64, 64, 1]
    monkeypatch.setattr("stage.synthesis.appearance.AT_ONCE", 64)
    np.testing.assert_allclose(found, described(image, background, mask), rtol=1e-4, atol=1e-5)
