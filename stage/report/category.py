"""The report's content on one category, with its pictures written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage.core.params import Params
from stage.datasets.likeness import unlike_types
from stage.datasets.rules import GOOD
from stage.release.fidelity import read_fidelity
from stage.release.reader import read_manifest
from stage.report import artefacts, comparison
from stage.report.candidates import Candidates, candidates_of
from stage.report.cards import Card, slug, write_cards
from stage.report.charts import Series, draw_curves
from stage.report.denoising import Denoising, denoising, denoising_verdict
from stage.report.fidelity import FidelityRow, fidelity_rows, fidelity_verdicts
from stage.report.fidelity_pictures import TypePictures, write_pictures
from stage.report.gallery import Thumbnail, write_gallery
from stage.report.learning import LearningCurve, write_learning_curve
from stage.report.lineage import CategoryLineage, read_lineage
from stage.report.photographs import write_photographs
from stage.report.typical import Example, write_example
from stage.report.whereabouts import Whereabouts, write_whereabouts
from stage.report.worst import read_predictions, worst_specimens
from stage.segmentation.arms import arm_label, compared_arms
from stage.segmentation.choice import CHOICE, Choice
from stage.segmentation.results import Results
from stage.segmentation.verdicts import verdict, worth
from stage.synthesis.method import METHODS

WORST = 8  # test images of each list
FEW = 5  # groups of test images of a type; fewer make intervals that are plainly too narrow (docs/method.md, How sure)


@dataclass(frozen=True)
class MethodResult:
    """What a method made for a category, and an example of each defect type of which a sample was accepted."""

    method: str
    outcomes: list[artefacts.SampleCounts]
    manifest: dict[str, Any]
    examples: dict[str, Example]


@dataclass(frozen=True)
class Fidelity:
    """How similar a category's samples are to real defects: the figures, sentences on them, and each type's pictures."""

    rows: list[FidelityRow]
    verdicts: list[str]
    types: list[TypePictures]


@dataclass(frozen=True)
class CategoryView:
    """One category's page. `tested` counts test images by defect type; `lowest` and `lost` are test images of `shown_arm`, worst first, none in both."""

    name: str
    page: str
    tested: dict[str, int]
    scarce: list[str]
    choice: str
    verdicts: list[str]
    worths: list[str]
    made: list[MethodResult]
    whereabouts: Whereabouts
    fidelity: Fidelity
    shown_arm: str
    lowest: list[Card]
    lost: list[Card]
    gallery: list[Thumbnail]
    lineage_page: str
    lineage: CategoryLineage
    learning: LearningCurve | None
    curves: dict[str, str]
    denoising: list[Denoising]
    candidates: Candidates
    unlike: list[str]

    @property
    def test_images(self) -> int:
        """Test images with a defect."""
        return sum(self.tested.values())

    @property
    def denoised(self) -> str:
        """A sentence on the table of denoising."""
        return denoising_verdict(self.denoising)

    @property
    def defects(self) -> list[str]:
        """The defect types that have anything in the gallery, sorted."""
        return sorted({one.defect for one in self.gallery})

    @property
    def pictured(self) -> dict[str, Thumbnail]:
        """The gallery's pictures by sample id, or by path."""
        return {one.name: one for one in self.gallery}


def view_category(data: Path, root: Path, name: str, params: Params, results: Results, rows: list[comparison.ArmRow]) -> CategoryView:
    """Write the category's pictures under `root / pictures`, and return the content of its page; `rows` are the arms of all categories."""
    folder = Path("pictures") / slug(name)
    (root / folder).mkdir(parents=True, exist_ok=True)
    tested = {row["defect"]: row["test"] for row in artefacts.image_counts(data) if row["category"] == name and row["defect"] != GOOD}
    made = [_made(data, name, method, root, folder / "examples") for method in params.methods]
    defects = sorted({*tested, *(outcome.defect for one in made for outcome in one.outcomes)})
    sampled = compared_arms(params.methods, params.segment.mixture)
    arm = comparison.best_arm(rows, name, sampled)
    seen = read_predictions(data, name, comparison.thresholds(rows, name))
    worst = seen.lowest(arm, WORST)
    lowest, lost = (
        write_cards(worst_specimens(seen, indices, arm), root, folder / kind)
        for kind, indices in (("lowest", worst), ("lost", seen.most_lost(arm, WORST, besides=worst)))
    )
    gallery = write_gallery(data, name, params.methods, defects, root=root, folder=folder / "samples", count=params.evaluate.gallery)
    photographs = write_photographs(data, name, root=root, folder=folder / "photographs")
    return CategoryView(
        name=name,
        page=f"category-{slug(name)}.html",
        tested=tested,
        scarce=artefacts.scarce_types(data, name, FEW),
        choice=choice.advice if (choice := Choice.read(data / "segment" / name / CHOICE)) else "",
        verdicts=[verdict(results, method, name) for method in sampled],
        worths=[text for method in sampled if (text := worth(results, name, method))],
        made=made,
        whereabouts=write_whereabouts(data, name, params.methods, root=root, folder=folder / "whereabouts"),
        fidelity=_fidelity(data, name, params.methods, root, folder / "fidelity"),
        shown_arm=arm,
        lowest=lowest,
        lost=lost,
        gallery=gallery,
        lineage_page=f"lineage-{slug(name)}.html",
        lineage=read_lineage(data, name, params.methods, photographs, {one.name for one in gallery}),
        learning=write_learning_curve(results, name, root, folder),
        curves=_curves(data, name, params.methods, root, folder),
        denoising=denoising(data, name),
        candidates=candidates_of(params.prepare, name, data, root / f"candidates-{slug(name)}.html"),
        unlike=unlike_types(data / "prepare" / name, name),
    )


def draw_losses(source: Path, root: Path, path: Path, columns: list[str]) -> str:
    """Draw the curves of a CSV to `root / path` and return their address; empty if the verb published none."""
    if not source.is_file():
        return ""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    draw_curves(root / path, _series(artefacts.read_csv(source, ["iteration", *columns]), columns), label="loss")
    return path.as_posix()


def _made(data: Path, category: str, method: str, root: Path, folder: Path) -> MethodResult:
    manifest, outcomes = read_manifest(data / "synthesize" / category / method), artefacts.outcomes(data, category, method)
    places = {one.defect: folder / f"{method}-{slug(one.defect)}.webp" for one in outcomes}
    drawn = {defect: write_example(data, category, method, defect, root=root, path=path) for defect, path in places.items()}
    return MethodResult(method, outcomes, manifest, {defect: one for defect, one in drawn.items() if one})


def _fidelity(data: Path, category: str, methods: tuple[str, ...], root: Path, folder: Path) -> Fidelity:
    table = read_fidelity(data)
    rows = fidelity_rows(table, category)
    return Fidelity(rows, fidelity_verdicts(rows), write_pictures(data, table, category, methods, root=root, folder=folder))


def _curves(data: Path, category: str, methods: tuple[str, ...], root: Path, folder: Path) -> dict[str, str]:
    sources: dict[str, tuple[Path, list[str]]] = {}
    if any(METHODS[method].needs_checkpoint for method in methods):
        sources["adapters"] = (data / "train" / category / "curve.csv", ["aware", "only"])
    sources["segmenter"] = (data / "segment" / category / "curve.csv", ["loss"])
    drawn = {name: draw_losses(source, root, folder / f"{name}.svg", columns) for name, (source, columns) in sources.items()}
    return {name: address for name, address in drawn.items() if address}


def _series(rows: list[dict[str, str]], columns: list[str]) -> Series:
    """One curve per column, and per arm where there are arms."""
    arms: dict[str | None, list[dict[str, str]]] = {}
    for row in rows:
        arms.setdefault(row.get("arm"), []).append(row)
    return {
        arm_label(arm or column): ([float(row["iteration"]) for row in some], [float(row[column]) for row in some])
        for arm, some in arms.items()
        for column in columns
    }
