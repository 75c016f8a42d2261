"""The whole parameter files in `params/`: they differ from `params.yaml` in values, and say where each is from."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stage.core.params import Params, load_params
from stage.core.settings import use_data
from stage.model.prompts import placeholders, prompts

ROOT = Path(__file__).parents[1]
ORIGINAL = ROOT / "params.yaml"
NAMED = sorted((ROOT / "params").glob("*.yaml"))
SETTINGS = [path for path in NAMED if "name" in yaml.safe_load(path.read_text(encoding="utf-8"))]
BY_NAME = {path.stem: path for path in SETTINGS}


def keys(values: Any, place: str = "") -> list[str]:
    """Every key in its order, as `section.key`."""
    if not isinstance(values, dict) or place == ".segment.weights":
        return [place]
    return [name for key, value in values.items() for name in keys(value, f"{place}.{key}")]


def body(path: Path) -> list[str]:
    """The lines from the first key on; what is above them is about the file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[next(k for k, line in enumerate(lines) if line.startswith("name:")) :]


def parts(line: str) -> tuple[str, str]:
    """Key with value, and comment."""
    value, _, comment = line.partition(" # ")
    return value.strip(), comment.strip()


def settings(name: str) -> Params:
    return load_params(BY_NAME[name])


def test_the_three_named_settings_are_there() -> None:
    """`cp params/... params.yaml`, as the pages give it, would find no such file."""
    assert sorted(BY_NAME) == ["official-code", "paper-btad", "paper-mvtec", "real-cpu", "real-gpu"]


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_the_keys_are_those_of_params_yaml_in_their_order(path: Path) -> None:
    """A value would stay as the demo has it, or `git diff` after the copy would show more than values."""
    ours, theirs = (yaml.safe_load(each.read_text(encoding="utf-8")) for each in (ORIGINAL, path))

    assert keys(theirs) == keys(ours)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_every_value_that_differs_says_where_it_is_from(path: Path) -> None:
    """A number would be called the paper's without a place to look it up; a comment of the demo's would stand beside another value."""
    differing = [(ours, theirs) for ours, theirs in zip(body(ORIGINAL), body(path), strict=True) if parts(ours)[0] != parts(theirs)[0]]
    silent = [theirs for ours, theirs in differing if parts(theirs)[1] in ("", parts(ours)[1])]

    assert len(differing) > (3 if path.stem.startswith("real") else 30)
    assert not silent


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_every_value_that_does_not_differ_is_the_same_line(path: Path) -> None:
    """A corrected comment in params.yaml would leave its wrong copies behind: copy the line."""
    pairs = zip(body(ORIGINAL), body(path), strict=True)

    assert not [(ours, theirs) for ours, theirs in pairs if parts(ours)[0] == parts(theirs)[0] and ours != theirs]


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_the_name_is_the_files(path: Path) -> None:
    """Plan rows, which carry it, would not lead back to the file."""
    assert load_params(path).name == path.stem


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_use_data_works_on_a_named_setting(path: Path, tmp_path: Path) -> None:
    """The paper's numbers on one's own images: the lines of the data, and no other, change."""
    file = tmp_path / "params.yaml"
    file.write_bytes(path.read_bytes())
    use_data(file, tmp_path / "images", "folder", ["bolt"], "CC BY 4.0")

    changed = [line for before, line in zip(body(path), body(file), strict=True) if before != line]
    names = ["name", "categories", "source", "layout", "licence", "channel"]
    is_auto = load_params(path).prepare.foreground.channel == "auto"
    assert [line.partition(":")[0].strip() for line in changed] == (names[:-1] if is_auto else names)
    assert load_params(file).prepare.source == (tmp_path / "images").as_posix()


@pytest.mark.parametrize("name", ["paper-mvtec", "paper-btad"])
def test_the_papers_numbers(name: str) -> None:
    """Results would be called the paper's that are not: Sections III and IV-A, Algorithm 1 and the 15 and 3 categories."""
    paper = settings(name)

    assert (paper.base.source, paper.base.timestep_count, paper.prepare.image_size) == ("CompVis/ldm-text2im-large-256", 1000, 256)
    assert (paper.method.adapters, paper.method.alignment, paper.method.alignment_threshold) == (True, "scheduled", 200)
    assert (paper.method.token_count, paper.method.crop.below) == (8, 0)
    assert (paper.train.iterations, paper.train.batch, paper.train.learning_rate, paper.train.residual) == (80000, 4, 1e-3, False)
    assert (paper.train.train_base, paper.train.augment, paper.train.balance_limit, paper.train.hidden_share) == (False, False, 1, 0)
    assert (paper.synthesize.count, paper.synthesize.steps, paper.synthesize.known_region) == (500, 1000, "fresh")
    assert paper.synthesize.graded_intervals == ((800, 1000), (300, 400))
    assert (paper.synthesize.composition, paper.synthesize.last_step) == ("algorithm_1", "exact")
    assert (paper.synthesize.mask_source, paper.synthesize.placement) == ("real", "as_is")
    assert len(paper.categories) == {"paper-mvtec": 15, "paper-btad": 3}[name]


def test_the_released_codes_numbers() -> None:
    """The contrast to the authors' own code would be one to something else: ddpm.py, its configuration, and its launch script."""
    code = settings("official-code")

    assert (code.method.token_count, code.method.mask_reduction, code.method.alignment_threshold) == (4, "released", 200)
    assert (code.train.batch, code.train.iterations) == (8, 80000)
    assert code.train.learning_rate == pytest.approx(2e-3 * 8 * 1)  # base rate, batch, GPUs: main.py's default
    assert code.synthesize.graded_intervals == ((700 + 1, 800 + 1), (300 + 1, 400 + 1))  # counted from 0 there, from 1 here
    assert (code.synthesize.known_region, code.synthesize.composition) == ("fresh", "released")
    assert (code.synthesize.mask_noise, code.synthesize.last_step) == ("shared", "noisy")
    assert (code.synthesize.batch, code.synthesize.steps, code.synthesize.clamp) == (8, 1000, False)


def test_on_btad_the_learned_tokens_are_the_whole_prompt() -> None:
    """The number of a product would be read to a text encoder, or the tokens, learned for nothing, be left out of the prompt."""
    btad, tokens = settings("paper-btad"), placeholders(0, 8)

    assert btad.categories == ("01", "02", "03")
    assert prompts(btad.base.prompts, "01", tokens) == (tokens, tokens)
    assert prompts(btad.base.prompts, "01", "damaged") == ("damaged", "damaged")  # what the tokens start from
