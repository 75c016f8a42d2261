"""What `prepare` refuses because no training could work with it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from miniatures import LENGTH, write_latent_diffusion, write_stable_diffusion
from small_hub import COMMIT, NAME

from stage.core.errors import ConfigError
from stage.core.model_params import BaseModelSource
from stage.core.params import load_params
from stage.model.base import load_base
from stage.model.outline import outline_base
from stage.model.preflight import check_base, learned_prompts, most_tokens, spoken_prompts
from stage.model.prompts import TEXT_LENGTH, token_ids
from stage.model.tokens import tokenizer_of

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.yaml")
TYPES = {"bottle": ["broken_large", "crack"]}
SERIAL = "bolt_M12x1.75-8.8_ISO4017_zinc-plated"
NAMES = ["bottle", SERIAL, "Prüfling", "İğne", "陶瓷 片", "a" * 40, "a-b.c", "x_1", "ß", "ﬁ", "E\u0301", "ª²", "_", "don't", "mixedCase"]


def base(source: str, **changes: object) -> BaseModelSource:
    return PARAMS.base.model_copy(update={"source": source, "image_size": 16, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_no_prompt_has_more_tokens_than_are_counted(name: str) -> None:
    """A name would pass `prepare`, and end the training of the base that it was to be drawn on."""
    types = {name: [name, "crack"]}
    spoken = spoken_prompts(PARAMS.base, types)
    tokenizer = tokenizer_of(spoken, 1000)

    for text in spoken:
        assert len(tokenizer(text).input_ids) <= most_tokens(text)


@pytest.mark.parametrize(("category", "defect"), [(SERIAL, "crack"), ("bolt", SERIAL + SERIAL), ("陶1" * 9, "crack")])
def test_names_longer_than_a_base_from_scratch_reads_are_refused(category: str, defect: str) -> None:
    """A serial number would end `train`, or `pretrain`, in a traceback after hours. Each digit is a token."""
    with pytest.raises(ConfigError, match=rf"at most {TEXT_LENGTH} tokens, .*found \d+ in .*rename the category or defect type"):
        check_base(PARAMS.base, 8, {category: [defect]})


def test_names_at_the_limit_are_taken() -> None:
    """A name that fits would be refused: 32 tokens less two ends, eight learned ones and `isolated` are 21."""
    check_base(PARAMS.base, 8, {"1" * 21: ["crack"]})
    with pytest.raises(ConfigError, match="found 33"):
        check_base(PARAMS.base, 8, {"1" * 22: ["crack"]})
    with pytest.raises(ConfigError, match="found 33"):
        check_base(PARAMS.base, 9, {"1" * 21: ["crack"]})


def test_the_prompts_are_those_of_the_training() -> None:
    """Other texts would be measured than those that are trained on."""
    assert spoken_prompts(PARAMS.base, {"bottle": ["broken_large"]}) == ["bottle", "bottle broken large", "isolated bottle broken large"]
    assert learned_prompts(PARAMS.base, "nut", 1, 2) == ["nut <defect-0-0> <defect-0-1>", "isolated nut <defect-0-0> <defect-0-1>"]


def test_prompts_of_different_lengths_are_one_message() -> None:
    """The tokenizer would be told to truncate, in the words of its programmers."""
    tokenizer = tokenizer_of(["one two three"], 4)

    assert token_ids(tokenizer, ["one two"], 4) == [[0, *tokenizer("one two").input_ids[1:-1], 1]]
    with pytest.raises(ConfigError, match="at most 4 tokens, the base's limit, found 5 in 'one two three'"):
        token_ids(tokenizer, ["one", "one two three"], 4)


def test_ordinary_names_need_no_networks() -> None:
    """`prepare` would take ten seconds longer, to import what it does not use."""
    code = (
        "import sys; from stage.core.params import load_params; from stage.model.preflight import check_base\n"
        "check_base(load_params().base, 8, {'fabric': ['stain'], 'washer': ['broken_large']}); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("write", [write_stable_diffusion, write_latent_diffusion])
def test_a_given_base_is_measured_without_its_weights(tmp_path: Path, write) -> None:
    """Its size, timesteps or words would be refused by `train`, or a base that fits be refused by `prepare`."""
    write(tmp_path)
    loaded, outlined = load_base(tmp_path), outline_base(tmp_path)
    timesteps = loaded.schedule.timestep_count

    assert (outlined.multiple, outlined.channels) == (loaded.multiple, loaded.channels)
    check_base(base(str(tmp_path), timestep_count=timesteps), 4, TYPES)
    for changes, tokens, types, message in (
        ({"image_size": loaded.multiple + 1}, 4, TYPES, "multiple of the base's"),
        ({"timestep_count": timesteps + 1}, 4, TYPES, f"Expected a base of {timesteps + 1} timesteps"),
        ({}, 100, TYPES, r"Expected prompts of at most \d+ tokens"),
        ({}, 4, {"9-" * 50: ["crack"]}, r"Expected prompts of at most \d+ tokens"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_base(base(str(tmp_path), **{"timestep_count": timesteps, **changes}), tokens, types)


def test_a_base_in_the_hubs_cache_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched for an earlier run would be looked at only when the images have been read."""
    place = tmp_path / f"models--{NAME.replace('/', '--')}"
    write_stable_diffusion(place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(ConfigError, match=rf"at most {LENGTH} tokens"):
        check_base(base(NAME), 100, TYPES)


@pytest.mark.parametrize("source", ["./no such folder", "/no/such/folder", "a/b/c", "base "])
def test_a_source_that_is_neither_folder_nor_hub_id_is_refused(source: str) -> None:
    """A mistyped folder would be found out after all images have been read."""
    with pytest.raises(ConfigError, match=r"Expected base\.source to be a folder"):
        check_base(base(source), 8, TYPES)


def test_a_base_that_is_still_on_its_hub_is_left_to_pretrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` would need a network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    check_base(base("someone/elsewhere"), 8, TYPES)


def test_damaged_settings_of_a_base_are_one_message(tmp_path: Path) -> None:
    """A traceback of a library would end `prepare`."""
    write_stable_diffusion(tmp_path)
    settings = json.loads((tmp_path / "unet" / "config.json").read_text())
    (tmp_path / "unet" / "config.json").write_text(json.dumps({**settings, "down_block_types": ["Nonsense"]}))

    with pytest.raises(ConfigError, match=r"Expected the settings of a UNet2DConditionModel in .*unet, found"):
        check_base(base(str(tmp_path)), 4, TYPES)
