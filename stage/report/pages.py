"""The report's pages: an overview; for each category its own page, one on its lineage and one on its near-duplicates; one on all methods; and
one on how everything was made.
"""

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment

from stage.core.durable import replace_folder
from stage.core.params import Params
from stage.model.base_pointer import TRAINED_HERE, origin_in_words, start_of
from stage.report import artefacts, comparison, provenance
from stage.report.candidates import pictured
from stage.report.cards import slug, templates
from stage.report.category import CategoryView, draw_losses, view_category
from stage.report.fidelity import HEADS, MASK_HEADS, targets
from stage.report.lineage import trained_elsewhere
from stage.report.same_inputs import shares_mask, shown_methods, write_same_inputs
from stage.report.worst import FALSE, HIT, MISSED, NORMAL
from stage.segmentation.arms import arm_label, compared_arms
from stage.segmentation.bootstrap import RESAMPLES
from stage.segmentation.results import AVERAGE, Results, read_results
from stage.segmentation.verdicts import SHOWN, threshold_note, verdict, with_interval, worth

LISTED = 200  # files set aside that are listed by name


def write_report(data: Path, output: Path, params: Params) -> None:
    """Write the report on the results in `data` to the folder `output`, which is replaced as a whole or left as it was.

    A Refusal names an artefact that is missing.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        draft = Path(folder) / "draft"
        draft.mkdir()
        _write_pages(data, draft, params)
        replace_folder(draft, output)


def _write_pages(data: Path, root: Path, params: Params) -> None:
    results = read_results(data)
    rows = comparison.arm_rows(results)
    categories = [view_category(data, root, name, params, results, rows) for name in params.categories]
    environment = _environment()
    shared = _shared(params, results, categories, rows)
    _render(environment, "index", root / "index.html", shared | _overview(data, params, results))
    for category in categories:
        own = {
            "fidelity_heads": HEADS,
            "mask_heads": MASK_HEADS,
            "targets": targets(),
            "category": category,
            "axes": _axes([row for row in rows if row.category == category.name]),
            "types": comparison.type_rows(results, category.name),
        }
        _render(environment, "category", root / category.page, shared | own)
        others = [(one.name, one.lineage) for one in categories if one is not category]
        elsewhere = {digest: trained_elsewhere(network, others) for digest, network in category.lineage.networks.items()}
        _render(environment, "lineage", root / category.lineage_page, shared | {"category": category, "elsewhere": elsewhere})
        if (found := category.candidates).clusters:
            _render(environment, "duplicates", found.page, shared | {"candidates": found, "rows": pictured(found, data)})
    places = {name: Path("pictures") / slug(name) / "methods" for name in params.categories}
    alike = [write_same_inputs(data, name, params, root=root, folder=place) for name, place in places.items()]
    methods = shown_methods(params)
    own_masks = [name for name in methods if not shares_mask(name, params)]
    _render(environment, "methods", root / "methods.html", shared | {"alike": alike, "methods": methods, "own_masks": own_masks})
    base = draw_losses(data / "pretrain" / "curve.csv", root, Path("pictures/base.svg"), ["loss"])
    origin = origin_in_words({"base": params.base.source} | start_of(data / "pretrain" / TRAINED_HERE))
    made = {
        "base_curve": base,
        "base_origin": origin,
        "sections": provenance.sections(params.model_dump(mode="json")),
        "provenance": provenance,
    }
    _render(environment, "made", root / "made.html", shared | made)


def _shared(params: Params, results: Results, categories: list[CategoryView], rows: list[comparison.ArmRow]) -> dict[str, Any]:
    return {
        "params": params,
        "categories": categories,
        "rows": rows,
        "axes": _axes(rows),
        "segmenters": list(dict.fromkeys(row.segmenter for row in rows)),
        "metrics": comparison.METRICS,
        "of_types": comparison.OF_TYPES,
        "average": AVERAGE,
        "seeds": comparison.seeds(results),
        "draws": RESAMPLES,
        "threshold_note": threshold_note(results),
        "colours": {"hit": HIT, "missed": MISSED, "false": FALSE, "normal": NORMAL},
    }


def _axes(rows: list[comparison.ArmRow]) -> dict[str, float]:
    return {metric: comparison.reach(rows, metric) for metric in SHOWN}


def _overview(data: Path, params: Params, results: Results) -> dict[str, Any]:
    return {
        "seams": soft_seams(params),
        "redraws": "stage" in params.methods and params.synthesize.redraws_surroundings,
        "summary": artefacts.image_counts(data),
        "set_aside": artefacts.read_csv(data / "prepare" / "set_aside.csv", ["category", "path", "reason", "detail"]),
        "listed": LISTED,
        "verdicts": [
            (verdict(results, method), worth(results, AVERAGE, method)) for method in compared_arms(params.methods, params.segment.mixture)
        ],
    }


def soft_seams(params: Params) -> dict[str, int]:
    """How far from the mask a soft seam may reach, px, by method; none for methods that change nothing outside the mask."""
    blending = {"paste": params.paste, "quilt": params.quilt}
    if params.synthesize.start == "defect":  # its samples begin with those of paste, and keep their seam
        blending["stage"] = params.paste
    return {name: blending[name].reach for name in params.methods if name in blending and {*blending[name].blends} != {"hard"}}


def _environment() -> Environment:
    environment = templates()
    filters: dict[str, Any] = {
        "whisker": comparison.whisker,
        "shown": comparison.metric_text,
        "arm": arm_label,
        "slug": slug,
    }
    environment.filters.update(filters | {"with_interval": with_interval})
    script = environment.get_template("report.js").render()
    values: dict[str, Any] = {"script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}
    environment.globals.update(values)  # the browser runs no other script
    return environment


def _render(environment: Environment, template: str, path: Path, values: dict[str, Any]) -> None:
    path.write_text(environment.get_template(f"{template}.html.jinja").render(values, page=path.name), encoding="utf-8")
