"""How much of each real defect of the training part is found by a segmenter trained without it: `errors.json`, an input of `synthesize`.

`segment` writes a file for each category; `stage use-errors` or the night joins them in the project's file, which git tracks.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from stage.core.durable import write_whole
from stage.core.errors import ConfigError, CorruptFileError
from stage.core.section import Section, Share, Text

FILE = Path("errors.json")  # the project's; a category's own has this name in data/segment/<category>
NOTED = Path("environment/found")  # below data: each category's part of the project's file, for DVC to compare
MISSED_BELOW = 0.5  # share of a defect's pixels


class FoundDefect(Section):
    """A real defect of the training part: its photograph, and the share of its pixels that are marked as defect by a segmenter that did not see it."""

    defect: Text
    image_path: Text
    mask_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    found: Share

    @property
    def is_missed(self) -> bool:
        """Whether less than half of it is found."""
        return self.found < MISSED_BELOW


_CATEGORY = TypeAdapter(list[FoundDefect])
_PROJECT = TypeAdapter(dict[str, list[FoundDefect]])


def write_found(found: Iterable[FoundDefect], path: Path) -> None:
    """Write the found defects of a category."""
    write_whole(json.dumps([one.model_dump() for one in found], indent=1) + "\n", path)


def read_found(path: Path) -> list[FoundDefect]:
    """The found defects of a category; none if there is no file. Raises CorruptFileError."""
    try:
        return _CATEGORY.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise CorruptFileError(f"Expected found defects in {path}, found {error}. Run `dvc checkout --force`, or `dvc repro`.") from None


def read_noted(data: Path, category: str) -> list[FoundDefect]:
    """The found defects that `environment` noted for a category's plans. Raises CorruptFileError."""
    return read_found(data / NOTED / f"{category}.json")


def read_errors(path: Path = FILE) -> dict[str, list[FoundDefect]]:
    """The found defects of all categories in the project's file; none if there is no file. Raises ConfigError."""
    try:
        return _PROJECT.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"Expected found defects in {path}, as `stage use-errors` writes them, found {error}. Run `git checkout {path}`."
        ) from None


def has_new(data: Path, categories: Sequence[str]) -> bool:
    """Whether the last `segment` judged real defects of any of these categories. Raises CorruptFileError."""
    return any(_judged(data, category) for category in categories)


def use_errors(data: Path, categories: Sequence[str], path: Path = FILE) -> Mapping[str, list[FoundDefect]]:
    """Write the results of the last `segment` to the project's file, and return its content; a category without results keeps its old ones."""
    now = {category: _judged(data, category) for category in categories}
    errors = {**read_errors(path), **{category: found for category, found in now.items() if found}}
    wanted = {category: errors[category] for category in sorted(errors) if category in categories}
    if wanted != read_errors(path):
        told = {category: [one.model_dump() for one in found] for category, found in wanted.items()}
        write_whole(json.dumps(told, indent=1) + "\n", path)
    return wanted


def _judged(data: Path, category: str) -> list[FoundDefect]:
    return read_found(data / "segment" / category / FILE.name)
