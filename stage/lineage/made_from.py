"""What a sample was made from, by its own row; no other table is read."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from stage.synthesis.rows import missed_defect, mixed_masks, placing_masks, texture_file

ROLES = {"background": "background", "source": "defect", "mask": "mask"}  # columns of a plan row, and the role of the file that they name
COLUMNS = (*(f"{name}_{part}" for name in ROLES for part in ("path", "sha256")), "mask_kind", "mask_seed", "choices")


class SourceFile(NamedTuple):
    """A file by its path below the data folder and its SHA-256; a drawn mask has its kind and seed as path, and no digest."""

    role: str
    path: str
    sha256: str


def made_from(sample: Mapping[str, Any]) -> list[SourceFile]:
    """Background, photograph of the defect, mask, further masks, those that decided its place, texture, as far as the method uses them, and the missed defect; `sample` has COLUMNS.

    A missed defect decides at least the background, so its photograph and mask are listed even if no pixel of them is used.
    """
    named = [SourceFile(role, sample[f"{name}_path"], sample[f"{name}_sha256"]) for name, role in ROLES.items()]
    found = [one for one in named if one.sha256] + [SourceFile("part of the mask", *mask) for mask in mixed_masks(sample["choices"])]
    found += [SourceFile("place or likeness", *mask) for mask in placing_masks(sample["choices"])]
    if texture := texture_file(sample["choices"]):
        found.append(SourceFile("texture", *texture))
    if missed := missed_defect(sample["choices"]):
        found += [SourceFile("missed defect", *missed[:2]), SourceFile("missed defect", *missed[2:])]
    if not sample["mask_sha256"]:
        kind = "noise" if sample["mask_kind"] == "perlin" else str(sample["mask_kind"])
        found.append(SourceFile("mask", f"{kind} of seed {sample['mask_seed']}" if sample["mask_seed"] else kind, ""))
    return found
