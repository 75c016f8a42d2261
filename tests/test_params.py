"""params.yaml is checked before anything runs."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from source_tree import ROOT

from stage.core.errors import ConfigError
from stage.core.params import load_params


def changed(tmp_path: Path, section: str, key: str, value: Any) -> Path:
    """params.yaml with one value changed, as JSON, which is YAML too and quicker to write."""
    content = deepcopy(defaults())
    content[section][key] = value
    text = json.dumps(content).replace("Infinity", ".inf").replace("NaN", ".nan")
    (tmp_path / "params.yaml").write_text(text)
    return tmp_path / "params.yaml"


@cache
def defaults() -> dict[str, Any]:
    return YAML(typ="safe").load(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("synthesize", "graded_intervals", [[1000, 800]], r"within 0 and 1000, found \[1000, 800\]"),
        ("synthesize", "graded_intervals", [[800, 1001]], r"found \[800, 1001\]"),
        ("synthesize", "steps", 21, "at most synthesize.start_at, found 21 and 20"),
        ("pretrain", "low_noise_below", 1001, "at most base.timestep_count, found 1001"),
        ("synthesize", "start_at", 1001, "at most base.timestep_count, found 1001"),
        ("synthesize", "start", "noise", "train.timesteps_below is .* at least the timestep .*; found 50, 1000 and 1000"),
        ("train", "timesteps_below", 19, "found 19, 1000 and 20"),
        ("train", "hidden_share", 0.5, "hides defects above that, found 0.5, 50 and 200"),
        ("method", "alignment_threshold", 1000, "under base.timestep_count, found 1000"),
        ("segment", "normal", 12, "segment.normal is under segment.batch, found 12 and 12"),
        ("segment", "folds", 1, "segment.folds is 0, or 2 and more"),
        ("segment", "models", ["stdc1", "stdc1"], "segment.models differ from each other, found stdc1, stdc1"),
        ("segment", "weights", {"unet": "unet.pth"}, r"segment.weights.unet.*: .*'segformer'"),
        ("segment", "weights", {"segformer": "a.pth#sha256=abc"}, "expected #sha256= and the file's 64 .* found #sha256=abc"),
        ("segment", "weights", {"segformer": "https://a/b.pth#sha512=" + "0" * 64}, "expected #sha256= .* found #sha512="),
        ("pretrain", "widths", [50, 100], "multiple of 16"),
        ("pretrain", "widths", [], "at least 1 item"),
        ("train", "adapter_widths", [], "at least 1 item"),
        ("base", "prompts", {"normal": "{category}", "defect": "{type}", "isolated": "x"}, "only fields"),
        ("base", "prompts", {"normal": "", "defect": "x", "isolated": "x"}, "not empty"),
        ("synthesize", "perlin", {"exponents": [5, 0], "threshold": 0.5, "max_components": 8}, r"are \[low, high\], found \[5, 0\]"),
        ("synthesize", "attempts", 0, "greater than or equal to 1|greater than 0"),
        ("paste", "scale", [5, 50], r"paste.scale.1: Input should be less than or equal to 10"),
        ("paste", "ring", 64, r"paste.ring is under half of prepare.image_size, found 64 and 128"),
        ("execution", "workers", 10_000, r"execution.workers"),
        ("execution", "threads", 2_000, r"execution.threads"),
        ("train", "learning_rate", 10, r"train.learning_rate"),
        ("draem", "opacity", [1.0, 0.2], r"draem.opacity: .*\[low, high\], found \[1.0, 0.2\]"),
        ("draem", "augmenters", 11, r"draem.augmenters: "),
        ("cutpaste", "aspect", [1.5, 3.3], r"cutpaste.aspect.0: "),
        ("quilt", "ring", 64, r"quilt.ring is under half of prepare.image_size, found 64 and 128"),
        ("textures", "source", "", r"textures.source: .*at least 1 character"),
        ("paste", "scale", [1.1, 0.9], r"paste.scale: .*\[low, high\], found \[1.1, 0.9\]"),
        ("paste", "blends", [], "at least 1 item"),
        ("paste", "blends", ["soft"], r"paste.blends.0: .*'hard', 'outward' or 'poisson'"),
        ("base", "source", "", "at least 1 character"),
        ("train", "learning_rate", "fast", r"train.learning_rate: .* \(found 'fast'\)"),
        ("train", "speed", 1, "train.speed: Extra inputs are not permitted"),
        ("base", "prompts", {"normal": "{category:>1000000000}", "defect": "x", "isolated": "x"}, "only fields"),
        ("base", "prompts", {"normal": "{category.__class__}", "defect": "x", "isolated": "x"}, "only fields"),
        ("base", "prompts", {"normal": "{category!r}", "defect": "x", "isolated": "x"}, "only fields"),
        ("base", "prompts", {"normal": "{", "defect": "x", "isolated": "x"}, "only fields"),
        ("prepare", "source", "images\0", "without control characters"),
        ("prepare", "licence", "CC\nBY", "without control characters"),
        (
            "base",
            "image_size",
            60,
            "multiple of 16 px, which is pretrain.patch times 2 for each of pretrain.widths after the first, found 60",
        ),
        ("segment", "crop", 48, "segment.crop: .*multiple of 32"),
        ("segment", "folds", "3", r"segment.folds: .*integer \(found '3'\)"),
        ("segment", "seeds", 2.0, r"segment.seeds: .*integer \(found 2.0\)"),
        ("segment", "mixture", {"paste": "1", "draem": 1}, r"segment.mixture.paste: .*number \(found '1'\)"),
        ("train", "learning_rate", "0.1", r"train.learning_rate: .*number \(found '0.1'\)"),
        ("train", "augment", "on", r"train.augment: .*boolean \(found 'on'\)"),
        ("train", "augment", 1, r"train.augment: .*boolean \(found 1\)"),
        ("pretrain", "widths", ["32"], r"pretrain.widths.0: .*integer \(found '32'\)"),
        ("pretrain", "patch", [4], r"pretrain.patch: .*integer \(found \[4\]\)"),
        ("synthesize", "graded_intervals", [["800", 1000]], r"graded_intervals.0.0: .*integer \(found '800'\)"),
    ],
)
def test_values_that_cannot_work_are_refused_at_once(tmp_path: Path, section: str, key: str, value: Any, message: str) -> None:
    """A night's training would end in a traceback, or a part of the method be off without a word."""
    with pytest.raises(ConfigError, match=message):
        load_params(changed(tmp_path, section, key, value))


def test_whole_numbers_and_lists_of_lists_are_taken_where_they_fit(tmp_path: Path) -> None:
    """A user would have to write 1.0 for 1, or the digest of the parameters tell 1 from 1.0 and make every sample again."""
    whole = load_params(changed(tmp_path, "train", "balance_limit", 60)).train.balance_limit
    intervals = load_params(changed(tmp_path, "synthesize", "graded_intervals", [[300, 400], [800, 1000]])).synthesize.graded_intervals

    assert (whole, type(whole)) == (60.0, float)
    assert intervals == ((300, 400), (800, 1000))


@pytest.mark.parametrize(("jump_length", "resamplings"), [(50, 10), (10, 1)])
def test_a_resampling_that_never_goes_back_is_refused(tmp_path: Path, jump_length: int, resamplings: int) -> None:
    """The results would be called RePaint's, and be those of `fresh`."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["synthesize"] |= {"known_region": "fresh_resample", "jump_length": jump_length, "resamplings": resamplings}
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match=f"jump_length is under synthesize.steps .*found {jump_length}, 3 and {resamplings}"):
        load_params(tmp_path / "params.yaml")


def test_redrawn_surroundings_need_a_photograph_to_begin_with(tmp_path: Path) -> None:
    """Whole windows would be drawn from noise, and their surroundings be no photograph's."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["synthesize"]["start"], content["train"]["timesteps_below"] = "noise", 1000
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match=r"synthesize.known_region is `redrawn` with start: defect alone"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("categories", ["fabric", "fabric"]),
        ("categories", ["fabric", "Fabric"]),
        ("categories", ["r\u00e4der", "ra\u0308der"]),
        ("methods", ["paste", "paste"]),
    ],
)
def test_a_name_given_twice_is_refused(tmp_path: Path, key: str, names: list[str]) -> None:
    """DVC would say that two stages have one name, and not where; or a Mac's disk have one folder for two categories."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content[key] = names
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match=f"{key} differ, found {', '.join(names)}"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "name",
    ["fabric.", "fabric ", "fa\tbric", ".fabric", "con", "Aux.1", "com1 .x", "f" * 201, "a/b", "..", "Summary.json", "set_aside.csv"],
)
def test_a_name_that_no_folder_may_have_everywhere_is_refused(tmp_path: Path, name: str) -> None:
    """A data set could not be copied to another system, or two categories would be one folder there."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["categories"] = [name]
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match=r"categories.0: "):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("methods", [[], ["copy"]])
def test_methods_that_are_not_there_are_refused(tmp_path: Path, methods: list[str]) -> None:
    """A run would make nothing, or end in a traceback after the base is trained."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["methods"] = methods
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match="methods"):
        load_params(tmp_path / "params.yaml")


def test_unknown_and_missing_keys_are_named_together(tmp_path: Path) -> None:
    """A user would correct a file one error at a time."""
    (tmp_path / "params.yaml").write_text("name: x\nsped: 1\n")

    with pytest.raises(ConfigError) as refusal:
        load_params(tmp_path / "params.yaml")

    assert all(name in str(refusal.value) for name in ("sped", "seed", "synthesize"))


NUMBERS = [
    *(("prepare", key) for key in ("image_size", "max_megapixels")),
    *(("base", key) for key in ("image_size", "timestep_count")),
    *(("pretrain", key) for key in ("iterations", "batch", "learning_rate", "patch", "text_width", "balance_limit", "low_noise_below")),
    *(("method", key) for key in ("alignment_threshold", "token_count")),
    *(("train", key) for key in ("iterations", "batch", "learning_rate", "balance_limit", "timesteps_below", "accumulate")),
    *(
        ("synthesize", key)
        for key in ("count", "attempts", "batch", "shard_rows", "start_at", "steps", "jump_length", "resamplings", "neighbours")
    ),
    *(("paste", key) for key in ("reach", "ring")),
    *(("cutpaste", key) for key in ("jitter", "visible")),
    *(("draem", key) for key in ("augmenters", "visible")),
    *(("glass", key) for key in ("augmenters", "smallest", "visible")),
    *(("quilt", key) for key in ("patch", "candidates", "tolerance", "rim", "reach", "ring", "visible")),
    *(("segment", key) for key in ("seeds", "folds", "crop", "window", "iterations", "batch", "normal", "synthetic", "learning_rate")),
    ("evaluate", "gallery"),
    *(("execution", key) for key in ("threads", "save_every_s", "workers", "trainings", "max_failures", "lease_s", "stuck_s")),
]


@pytest.mark.parametrize(("section", "key"), NUMBERS)
@pytest.mark.parametrize("value", [10**12, float("inf"), float("nan"), -1, True])
def test_every_number_has_its_limits(tmp_path: Path, section: str, key: str, value: float) -> None:
    """A digit too many, or a limit switched off by `.inf`, would fill the memory, or end in an overflow in the middle of a night."""
    with pytest.raises(ConfigError, match=rf"  {section}(\.{key}[\w.-]*)?: "):
        load_params(changed(tmp_path, section, key, value))


def test_the_list_of_numbers_is_whole() -> None:
    """A new number would have no limit, and nobody would notice."""
    sections = YAML(typ="safe").load(ROOT / "params.yaml")
    numbers = {
        (name, key)
        for name, section in sections.items()
        if isinstance(section, dict)
        for key, value in section.items()
        if type(value) in (int, float)
    }
    shares = {
        "defect_share",
        "low_noise",
        "weight_average",
        "hidden_share",
        "shift",
        "rotation",
        "aimed",
        "warmup",
        "encoder_rate",
        "overlap",
        "on_object",
        "opacity_mean",
        "missed_share",
        "opacity_deviation",
    }

    assert {(name, key) for name, key in numbers if key not in shares | {"mask_threshold"}} == {*NUMBERS}


@pytest.mark.parametrize("key", ["opening", "closing"])
def test_a_disk_as_large_as_the_image_is_refused(tmp_path: Path, key: str) -> None:
    """Every foreground would be empty or whole."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["prepare"]["foreground"][key] = 64
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match=rf"foreground.{key} is a radius .* found 64 and 128"):
        load_params(tmp_path / "params.yaml")


def test_a_size_that_only_a_base_from_scratch_cannot_take_is_left_to_the_given_one(tmp_path: Path) -> None:
    """A given base would be measured by networks that are never built."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["base"] |= {"source": "someone/base", "image_size": 60}
    yaml.dump(content, tmp_path / "params.yaml")

    assert load_params(tmp_path / "params.yaml").base.image_size == 60


def test_a_long_category_is_refused(tmp_path: Path) -> None:
    """No folder can have the name: the run would end in an error of the system's."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["categories"] = ["ü" * 101]
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match="at most 200 bytes"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", 'found duplicate key "seed" .* in line 2'),
        ("prepare:\n  a: 1\n  a: 1\n", 'found duplicate key "a" .* in line 3'),
        ("a: [", "found a syntax error"),
        ("a: " + "[" * 5000, "found a syntax error"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: " + "1" * 5000, "found a syntax error"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: \x07", "control characters"),
        ("a: \ud800".encode("utf-8", "surrogatepass"), "'utf-8' codec"),
        (b"\xff\xfe", "'utf-8' codec"),
        ("", "the file: "),
        ("- 1", "the file: "),
        ("categories: [01]", r"categories\.0: .* string, so put it in quotes \(found 1\)"),
    ],
)
def test_a_file_that_is_no_parameter_file_is_one_message(tmp_path: Path, text: str | bytes, message: str) -> None:
    """A key that stands twice after a merge would have one of its values in silence, or a traceback of a YAML library would appear."""
    (tmp_path / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ConfigError, match=message) as refusal:
        load_params(tmp_path / "params.yaml")
    assert "suppress" not in str(refusal.value)
    assert "at least 1 item" not in str(refusal.value)  # of a list whose items are named already


def test_a_wrong_value_of_any_size_is_told_in_short(tmp_path: Path) -> None:
    """Nine lists of nine lists of nine would be printed with every one of their billion words."""
    lists = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 10))
    (tmp_path / "params.yaml").write_text(f"k0: &k0 lol\n{lists}seed: *k9\n")

    with pytest.raises(ConfigError) as refusal:
        load_params(tmp_path / "params.yaml")
    assert len(str(refusal.value)) < 20_000


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """A traceback of a YAML library would greet who starts in the wrong folder."""
    with pytest.raises(ConfigError, match=r"found none\. Run from the project's root"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(ConfigError, match="found: Is a directory"):
        load_params(tmp_path / "params.yaml")
