"""A contact sheet of a method's first samples, made now and not kept, to show what a long run would give."""

from pathlib import Path

from PIL import Image

from stage.core.params import Params
from stage.datasets.examples import CATALOG
from stage.datasets.table import read_catalog
from stage.model.base_pointer import needs_base
from stage.report.sheets import Panel, Specimen, contact_sheet, enlargement, stacked
from stage.synthesis.method import METHODS, Rendered
from stage.synthesis.plan import defects_of, first_round
from stage.synthesis.recipe import Recipe, networks_of, recipe_of
from stage.synthesis.source import Source, read_source

TILE = 160  # px


def preview(method: str, category: str, params: Params, data: Path, count: int) -> Image.Image:
    """The first `count` samples of every defect type, as `dvc repro` would plan and render them; nothing is judged.

    Raises ConfigError for a method without its training, and CorruptFileError for a category that is not prepared.
    """
    recipe = _recipe(method, category, params, data)
    catalog, source = read_catalog(recipe.catalog / CATALOG), read_source(recipe.catalog)
    plan, renderer = METHODS[method].planner(recipe, catalog, source), METHODS[method].renderer(recipe, recipe.device)
    sheets: list[Image.Image] = []
    for defect in sorted(defects_of(catalog)):
        batches = first_round(method, category, [defect], recipe.synthesize.model_copy(update={"count": count}))
        rows = [plan(one) for batch in batches for one in batch]
        some = [rows[start : start + recipe.synthesize.batch] for start in range(0, len(rows), recipe.synthesize.batch)]
        made = [sample for batch in some for sample in renderer.render(batch, source)]
        pairs = zip(rows[:count], made[:count], strict=True)
        specimens = [_specimen(sample, source, row.background_sha256) for row, sample in pairs]
        sheets.append(contact_sheet(specimens, title=f"{category}, {defect}, by {method}", tile=TILE))
    return stacked(sheets)


def _recipe(method: str, category: str, params: Params, data: Path) -> Recipe:
    first = "" if needs_base(params.methods) else f"Add {method} to methods in params.yaml, for only then something is trained. "
    networks = networks_of(method, pretrained=data / "pretrain", checkpoint=data / "train" / category, first=first)
    return recipe_of(method, category, params, catalog=data / "prepare" / category, **networks)


def _specimen(sample: Rendered, source: Source, background: str) -> Specimen:
    image, mask = Image.fromarray(sample.pair.image), Image.fromarray(sample.pair.mask * 255)
    photograph = Image.fromarray(source.backgrounds[background].image)
    return Specimen("", (Panel("photograph", photograph), *enlargement("sample", image, mask)))
