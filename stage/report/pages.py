"""The report's pages: an overview, one page per category and method, and one on how everything was made."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stage.core.durable import replace_folder
from stage.core.params import Params
from stage.datasets.rules import GOOD
from stage.release.reader import read_manifest
from stage.report import artefacts, comparison, provenance
from stage.report.cards import Card, slug, write_cards
from stage.report.charts import Curve, draw_curves
from stage.segmentation.arms import REAL_ONLY, arm_name
from stage.segmentation.results import read_metrics
from stage.synthesis.method import METHODS

PER_DEFECT = 3  # segmented test images shown of each defect type
REJECTED = 4  # rejected samples shown of each defect type
LISTED = 200  # files set aside that are listed by name


@dataclass(frozen=True)
class DefectView:
    """What a category's page says about one defect type."""

    outcome: artefacts.SampleCounts
    anchor: str
    synthetic: list[Card]
    rejected: list[Card]
    real: list[Card]
    segmented: list[Card]


@dataclass(frozen=True)
class CategoryView:
    """What the pages say about one category and the samples of one method."""

    name: str
    category: str
    method: str
    page: str
    tested: int
    scores: dict[str, comparison.Score]
    defects: list[DefectView]
    curves: list[tuple[str, str]]
    manifest: dict[str, Any]


def write_report(data: Path, output: Path, params: Params) -> None:
    """Write the report on what lies under `data` to the folder `output`, which is replaced as a whole or left as it was.

    A Refusal names an artefact that is missing.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        draft = Path(folder) / "draft"
        draft.mkdir()
        _write_pages(data, draft, params)
        replace_folder(draft, output)


def _write_pages(data: Path, root: Path, params: Params) -> None:
    summary = artefacts.image_counts(data)
    gallery = params.evaluate.gallery
    categories = [
        _category(data, root, name, method, summary=summary, gallery=gallery) for name in params.categories for method in params.methods
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(percent=comparison.percent, points=comparison.points)
    shared = {"params": params, "categories": categories, "metrics": comparison.METRICS}
    overview = {
        "summary": summary,
        "set_aside": artefacts.read_csv(data / "prepare" / "set_aside.csv", ["category", "path", "reason"]),
        "listed": LISTED,
        "averages": {method: comparison.macro_average(_scores_of(categories, method)) for method in params.methods},
        "verdicts": {
            method: comparison.verdict([scores["iou"].difference for scores in _scores_of(categories, method)]) for method in params.methods
        },
        "scatter": comparison.SEED_SCATTER,
    }
    _render(environment, "index", root / "index.html", shared | overview)
    for category in categories:
        _render(environment, "category", root / category.page, shared | {"category": category})
    base_curves = _curve(data / "pretrain" / "curve.csv", root, "base", ["loss"])
    made = {"curves_of_base": base_curves, "sections": _sections(params), "provenance": provenance}
    _render(environment, "made", root / "made.html", shared | made)


def _scores_of(categories: list[CategoryView], method: str) -> list[dict[str, comparison.Score]]:
    return [category.scores for category in categories if category.method == method]


def _category(data: Path, root: Path, name: str, method: str, *, summary: list[dict[str, Any]], gallery: int) -> CategoryView:
    folder = Path("pictures") / f"{method}-{slug(name)}"
    (root / folder).mkdir(parents=True, exist_ok=True)
    segmented = artefacts.predictions(data, name, arm_name(method), PER_DEFECT)
    metrics = read_metrics(data / "segment" / name / "metrics.json", [REAL_ONLY, arm_name(method)])
    defects: list[DefectView] = []
    for outcome in artefacts.outcomes(data, name, method):
        anchor = slug(outcome.defect)
        specimens = {
            "synthetic": artefacts.synthetic_specimens(data, name, method, outcome.defect, gallery),
            "rejected": artefacts.synthetic_specimens(data, name, method, outcome.defect, REJECTED, verdict="rejected"),
            "real": artefacts.real_specimens(data, name, outcome.defect, max(1, gallery // 2)),
            "segmented": segmented.get(outcome.defect, []),
        }
        cards = {kind: write_cards(some, root, folder / anchor / kind) for kind, some in specimens.items()}
        defects.append(DefectView(outcome=outcome, anchor=anchor, **cards))
    return CategoryView(
        name=f"{name}, {method}",
        category=name,
        method=method,
        page=f"category-{method}-{slug(name)}.html",
        tested=sum(row["test"] for row in summary if row["category"] == name and row["defect"] != GOOD),
        scores=comparison.scores(metrics, arm_name(method)),
        defects=defects,
        curves=[
            *(
                _curve(data / "train" / name / "curve.csv", root, f"{folder.name}/adapters", ["aware", "only"])
                if _is_trained(method)
                else []
            ),
            *_curve(data / "segment" / name / "curve.csv", root, f"{folder.name}/segmenter", ["loss"]),
        ],
        manifest=read_manifest(data / "synthesize" / name / method),
    )


def _is_trained(method: str) -> bool:
    return METHODS[method].needs_checkpoint


def _curve(source: Path, root: Path, name: str, columns: list[str]) -> list[tuple[str, str]]:
    """Title and address of a curve drawn to pictures/<name>.svg; nothing when the verb published none."""
    if not source.is_file():
        return []
    path = Path("pictures") / f"{name}.svg"
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    draw_curves(root / path, _series(artefacts.read_csv(source, ["iteration", *columns]), columns), label="loss")
    return [(path.stem, path.as_posix())]


def _series(rows: list[dict[str, str]], columns: list[str]) -> dict[str, Curve]:
    """One curve per column, and per arm where there are arms."""
    arms = {row.get("arm"): [] for row in rows}
    for row in rows:
        arms[row.get("arm")].append(row)
    return {
        (arm or column).replace("_", " "): ([float(row["iteration"]) for row in some], [float(row[column]) for row in some])
        for arm, some in arms.items()
        for column in columns
    }


def _sections(params: Params) -> dict[str, dict[str, str]]:
    """The parameters as text, by section and dotted name."""
    values = params.model_dump(mode="json")
    general = {name: value for name, value in values.items() if not isinstance(value, dict)}
    return {"general": _flat(general)} | {name: _flat(part) for name, part in values.items() if name not in general}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: json.dumps(value, ensure_ascii=False)}
    return flat


def _render(environment: Environment, template: str, path: Path, values: dict[str, Any]) -> None:
    path.write_text(environment.get_template(f"{template}.html.jinja").render(values, page=path.name), encoding="utf-8")
