"""params.yaml is checked before anything runs."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from source_tree import ROOT

from stage.core.errors import ConfigError
from stage.core.params import load_params


def changed(tmp_path: Path, section: str, key: str, value: Any) -> Path:
    """params.yaml with one value changed."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content[section][key] = value
    yaml.dump(content, tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("synthesize", "graded_intervals", [[1000, 800]], r"within 0 and 1000, found \[1000, 800\]"),
        ("synthesize", "graded_intervals", [[800, 1001]], r"found \[800, 1001\]"),
        ("synthesize", "steps", 1001, "at most base.timestep_count, found 1001"),
        ("method", "alignment_threshold", 1000, "under base.timestep_count, found 1000"),
        ("segment", "real_share", 1.0, "real and synthetic defects, these shares give 6 and 0"),
        ("segment", "normal_share", 1.0, "these shares give 0 and 0"),
        ("pretrain", "widths", [50, 100], "multiple of 16"),
        ("pretrain", "widths", [], "at least 1 item"),
        ("train", "adapter_widths", [], "at least 1 item"),
        ("base", "prompts", {"normal": "{category}", "defect": "{type}", "isolated": "x"}, "only fields"),
        ("base", "prompts", {"normal": "", "defect": "x", "isolated": "x"}, "not empty"),
        ("synthesize", "perlin", {"exponents": [5, 0], "threshold": 0.5, "max_components": 8}, r"are \[low, high\], found \[5, 0\]"),
        ("synthesize", "attempts", 0, "greater than or equal to 1|greater than 0"),
        ("paste", "scale", [1.1, 0.9], r"paste.scale: .*\[low, high\], found \[1.1, 0.9\]"),
        ("paste", "blends", [], "at least 1 item"),
        ("paste", "blends", ["soft"], r"paste.blends.0: .*'hard', 'outward' or 'poisson'"),
        ("base", "source", "", "at least 1 character"),
        ("train", "learning_rate", "fast", r"train.learning_rate: .* \(found 'fast'\)"),
        ("train", "speed", 1, "train.speed: Extra inputs are not permitted"),
    ],
)
def test_values_that_cannot_work_are_refused_at_once(tmp_path: Path, section: str, key: str, value: Any, message: str) -> None:
    """A night's training would end in a traceback, or a part of the method be off without a word."""
    with pytest.raises(ConfigError, match=message):
        load_params(changed(tmp_path, section, key, value))


@pytest.mark.parametrize(("jump_length", "resamplings"), [(50, 10), (10, 1)])
def test_a_resampling_that_never_goes_back_is_refused(tmp_path: Path, jump_length: int, resamplings: int) -> None:
    """The results would be called RePaint's, and be those of `fresh`."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["synthesize"] |= {"known_region": "fresh_resample", "jump_length": jump_length, "resamplings": resamplings}
    yaml.dump(content, tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match=f"jump_length is under synthesize.steps .*found {jump_length}, 50 and {resamplings}"):
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


def test_a_missing_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    """A traceback of a YAML library would greet who starts in the wrong folder."""
    with pytest.raises(ConfigError, match=r"found none\. Run from the project's root"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="found a syntax error"):
        load_params(tmp_path / "params.yaml")
