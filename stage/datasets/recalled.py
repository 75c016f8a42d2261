"""What was withdrawn: photographs, masks, textures and samples by name, in `recalled.yaml`, which git tracks and `stage recall` extends.

A recalled photograph keeps its place in every pool that photographs are drawn from. Only a sample that draws it draws again, so a recall changes only the samples that were made from it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from stage.core.durable import write_whole
from stage.core.errors import ConfigError, CorruptFileError
from stage.core.paths import WITHDRAWALS
from stage.core.section import OneLine, Section, Text
from stage.core.wording import counted
from stage.core.yaml_files import read_yaml

BESIDE = "recalled.json"  # what a category's planners must know, beside its catalog; absent if nothing is recalled


class Recall(Section):
    """A withdrawal. `path`: below the data folder or that of the textures, or a sample's id; `sha256`: of the file, or of a sample's pixels.

    The fields after `date` are a photograph's or mask's catalog entry, which keeps its place in the split when its file is gone. `places`: by
    `place_key`, the place of a normal photograph among those most like a defect's.
    """

    kind: Literal["image", "mask", "texture", "sample"]
    path: Annotated[Text, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    reason: Annotated[str, Field(min_length=1, max_length=1_000), OneLine]
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    category: Text = ""
    defect: Text = ""
    source_split: Literal["", "train", "test"] = ""
    group: Text = ""
    image_path: Text = ""
    image_sha256: Text = ""
    mask_path: Text = ""
    mask_sha256: Text = ""
    prepared_area: Annotated[int, Field(ge=0)] = 0
    places: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict[str, int])


class Withdrawn(NamedTuple):
    """What planners of a category must know of the recalls: digests and paths of textures, ids of samples, and `places` of photographs."""

    digests: frozenset[str] = frozenset()
    textures: frozenset[str] = frozenset()
    samples: frozenset[str] = frozenset()
    places: Mapping[str, frozenset[int]] = {}


RECALLS = TypeAdapter(list[Recall])


def place_key(image_sha256: str, turned: int) -> str:
    """Names a defect's photograph after `turned` of `windows.turn`."""
    return f"{image_sha256[:16]}/{turned}"


def read_recalls(path: Path = WITHDRAWALS) -> list[Recall]:
    """All withdrawals; none where there is no file. Raises ConfigError for one that cannot be read."""
    if not path.exists():
        return []
    try:
        return RECALLS.validate_python(read_yaml(path, "a list of withdrawals") or [])
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        raise ConfigError(
            f"Expected withdrawals as `stage recall` writes them in {path}, found {counted(error.error_count(), 'problem')}: {told}. "
            f"`git checkout {path}` brings back the last committed one."
        ) from None


def recalled_path(recalls: Sequence[Recall], path: str, sha256: str | None) -> bool:
    """Whether the photograph at a path, with these bytes, is recalled; a corrected one under the same name is not."""
    return any(one.kind == "image" and one.path == path and one.sha256 == sha256 for one in recalls)


def write_withdrawn(recalls: Sequence[Recall], category: str, folder: Path) -> None:
    """Write what planners must know beside the category's catalog; no file if nothing is recalled."""
    places: dict[str, set[int]] = {}
    for one in recalls:
        for key, place in one.places.items() if one.category == category else ():
            places.setdefault(key, set()).add(place)
    textures = [one for one in recalls if one.kind == "texture"]
    told = {
        "digests": sorted({one.sha256 for one in textures}),
        "textures": sorted({one.path for one in textures}),
        "samples": sorted({one.path for one in recalls if one.kind == "sample" and one.category == category}),
        "places": {key: sorted(some) for key, some in sorted(places.items())},
    }
    if any(told.values()):
        write_whole(json.dumps(told, indent=2) + "\n", folder / BESIDE)
    else:
        (folder / BESIDE).unlink(missing_ok=True)


def read_withdrawn(folder: Path) -> Withdrawn:
    """What `write_withdrawn` wrote beside the catalog of a category; raises CorruptFileError."""
    try:
        told = json.loads((folder / BESIDE).read_text(encoding="utf-8"))
        digests, textures, samples = (frozenset[str](told[name]) for name in ("digests", "textures", "samples"))
        return Withdrawn(digests, textures, samples, {key: frozenset(some) for key, some in told["places"].items()})
    except FileNotFoundError:
        return Withdrawn()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"Expected {folder / BESIDE} as `prepare` wrote it, found {error!r}. Run `dvc repro prepare`.") from None
