"""Record what decides results besides parameters: the code's statements, packages, given weights, images, recalls, and missed defects.

Not a Prefect flow: it runs first in every `dvc repro` and takes seconds. Its output changes only when what it records changes.
It also refuses, before any work, a project whose results DVC could not keep.
"""

import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from stage.core.code_digest import code_digests
from stage.core.digests import digest_of
from stage.core.durable import write_whole
from stage.core.errors import ConfigError, MachineError, Refusal
from stage.core.params import Params, load_params
from stage.core.redaction import for_terminal
from stage.core.segment_params import place_and_digest
from stage.core.work import PACKAGES
from stage.datasets.found import NOTED, read_errors, write_found
from stage.datasets.inventory import inventory
from stage.datasets.recalled import read_recalls
from stage.model.files import base_digest, base_files
from stage.synthesis.method import METHODS

DATA = Path("data")
OUTPUT = DATA / "environment"
MEMORY = Path(".spool/images.json")  # digests of the images, so that no file is read twice
# The entry points of each DVC stage. A synthesis method is imported by name, which no digest follows, so its entry points are listed.
CODE = {
    **{name: (f"flows.{name}:{name}",) for name in ("prepare", "pretrain", "train", "segment")},
    # The report draws with the methods that need no training.
    "evaluate": (
        "flows.evaluate:evaluate",
        *(f"{one.module}:{part}" for one in METHODS.values() if not one.needs_checkpoint for part in ("planner", "renderer")),
    ),
    **{f"synthesize-{name}": ("flows.synthesize:synthesize", *method.planning, *method.rendering) for name, method in METHODS.items()},
    "ablate": ("flows.ablate:ablate", *METHODS["stage"].planning, *METHODS["stage"].rendering),
}


def packages() -> dict[str, str]:
    """The installed version of every package that results depend on."""
    return {name: version(name) for name in PACKAGES}


def base_times(source: str) -> dict[str, list[int]]:
    """Size and time of change of every file that is read of a base given as a folder; empty for a base from a hub or from scratch.

    Also empty for a folder that is not a base: `pretrain` says what is wrong with it.
    """
    folder = Path(source)
    try:
        files = sorted(base_files(folder)) if source.strip() and folder.is_dir() else []
    except ConfigError:
        files = []
    return {path.relative_to(folder).as_posix(): _times(path) for path in files}


def start_digest(start: str) -> str:
    """The digest of the base that pretraining begins with; empty if there is none, as in `base_times`.

    Not times of change, since it may lie in the repository, and every clone would train again what another has published. It is small.
    """
    try:
        return base_digest(Path(start)) if Path(start).is_dir() else ""
    except ConfigError:
        return ""


def weights_times(weights: Iterable[str]) -> dict[str, list[int]]:
    """Size and time of change of every file among `segment.weights`; URLs need none, since another file has another address."""
    return {name: _times(Path(name)) for name, _ in map(place_and_digest, weights) if Path(name).is_file()}


def _times(path: Path) -> list[int]:
    return [path.stat().st_size, path.stat().st_mtime_ns]


def images(params: Params) -> str:
    """The digest of every file in the folder of images; empty for the demo, which code draws."""
    return "" if params.prepare.layout == "demo" else inventory(Path(params.prepare.source), MEMORY)


def textures(params: Params, method: str, photographs: str) -> str:
    """What decides a texture bank's pixels besides the category's own photographs: the digests of a folder's files, or of all photographs.

    Empty for a method that draws no textures, and for textures that are computed or cut from the category's own photographs.
    """
    source = params.textures.source
    if "textures" not in METHODS[method].parameters or source in ("procedural", "own"):
        return ""
    if source == "others":  # prepared photographs follow from the images, the recalled ones among them, the parameters and the code
        gone = sorted([one.path, one.sha256] for one in read_recalls() if one.kind == "image")
        return digest_of([photographs, gone, params.categories, params.prepare.model_dump(mode="json"), *code_digests(*CODE["prepare"])])
    from stage.synthesis.texture_folder import MEMORY as MEMORY_OF_TEXTURES  # here, because it loads pandas and OpenCV

    return inventory(Path(source), MEMORY_OF_TEXTURES)


def recalled() -> str:
    """The withdrawals as JSON, independent of the layout of `recalled.yaml`."""
    return json.dumps([one.model_dump(mode="json") for one in read_recalls()], indent=2) + "\n"


def note_found(params: Params) -> None:
    """Write what segmenters found and missed, a file per category, for later plans."""
    errors = read_errors() if params.synthesize.missed_share else {}
    for category in params.categories:
        write_found(errors.get(category, ()), DATA / NOTED / f"{category}.json")


def check_places() -> None:
    """Raise MachineError if results would leave the project through a link, which DVC refuses once they are made."""
    places = [DATA, *DATA.glob("*"), *DATA.glob("*/*")]
    if links := [place for place in places if place.is_symlink() and not place.is_file()]:
        raise MachineError(
            f"Expected folders of the project for results, found that {links[0]} is a link to {links[0].readlink()}: DVC keeps nothing that "
            f"lies elsewhere. Run `rm {links[0]}`; to have the space of another disk, move the whole project there, or DVC's copies by "
            "`dvc cache dir <folder>`, or `.spool`, which may be a link."
        )


def note() -> None:
    """Write packages, base and weights as JSON, the digests of images and textures, recalls and missed defects, and for each DVC stage the name and digest of each definition in its code."""
    params = load_params()
    if any("textures" in METHODS[method].parameters for method in params.methods):
        from stage.synthesis.texture_folder import check_folder  # here, because it loads pandas and OpenCV

        check_folder(params.textures, Path(params.prepare.source))
    write_whole(json.dumps(packages(), indent=2) + "\n", OUTPUT / "packages.json")
    write_whole(
        json.dumps({"source": base_times(params.base.source), "start": start_digest(params.pretrain.start)}, indent=2) + "\n",
        OUTPUT / "base.json",
    )
    write_whole(json.dumps(weights_times(params.segment.weights.values()), indent=2) + "\n", OUTPUT / "weights.json")
    write_whole(photographs := images(params), OUTPUT / "images.txt")
    write_whole(recalled(), OUTPUT / "recalled.json")
    note_found(params)
    for name in METHODS:
        write_whole(textures(params, name, photographs) or "none\n", OUTPUT / "textures" / f"{name}.txt")
    for name, functions in CODE.items():
        write_whole("\n".join(code_digests(*functions)) + "\n", OUTPUT / "code" / f"{name}.txt")


def main() -> None:
    """Note everything, or end with one message."""
    try:
        check_places()
        note()
    except Refusal as error:
        sys.exit(for_terminal(str(error)))


if __name__ == "__main__":
    main()
