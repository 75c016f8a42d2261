"""Layouts of image folders: the naming rule of each, and how one is recognised."""

import os
from collections.abc import Sequence
from pathlib import Path

from stage.core.data_params import FolderRule, Prepare
from stage.core.errors import DataError
from stage.datasets.rules import check_rule
from stage.datasets.walking import SUFFIXES, is_folder, leads_nowhere

MVTEC = FolderRule(
    normal="{category}/train/good/{name}.*",
    test_normal="{category}/test/good/{name}.*",
    image="{category}/test/{defect}/{name}.*",
    mask="{category}/ground_truth/{defect}/{name}_mask.*",
    groups="{category}/groups.csv",
    foreground="{category}/foreground/{name}.*",
)
"""MVTec AD (Bergmann et al., CVPR 2019), whose layout many other data sets use; `groups` and `foreground` are ours, where a user adds them."""
LOCO = MVTEC.model_copy(update={"mask": "{category}/ground_truth/{defect}/{name}/*.*"})
"""MVTec LOCO AD (Bergmann et al., IJCV 2022): a folder of masks for each image, which are joined."""
BTAD = FolderRule(
    normal="{category}/train/ok/{name}.*",
    test_normal="{category}/test/ok/{name}.*",
    image="{category}/test/ko/{name}.*",
    mask="{category}/ground_truth/ko/{name}.*",
    groups="{category}/groups.csv",
    foreground="{category}/foreground/{name}.*",
)
"""BTAD (Mishra et al., ISIE 2021): one defect type, which the paper calls `damaged`."""
PLAIN = FolderRule(
    normal="{category}/normal/{name}.*",
    test_normal="{category}/test_normal/{name}.*",
    image="{category}/defects/{defect}/images/{name}.*",
    mask="{category}/defects/{defect}/masks/{name}.*",
    groups="{category}/groups.csv",
    foreground="{category}/foreground/{name}.*",
)
"""Our own, for photographs sorted by hand; `prepare.folder` begins with its patterns."""
FOLDERS = {
    "mvtec": ("train/good", "test"),
    "loco": ("train/good", "test"),
    "btad": ("train/ok", "test/ko"),
    "plain": ("normal", "defects"),
}  # in a category's folder, by which its layout is recognised
RULES = {"mvtec": MVTEC, "loco": LOCO, "btad": BTAD, "plain": PLAIN, "demo": MVTEC}


def detect_layout(root: Path) -> tuple[str, list[str]]:
    """The layout (`mvtec`, `loco`, `btad` or `plain`) of `root` and its categories, sorted; `root` may be a category's folder itself.

    Raises DataError if `root` is no folder, or has no known layout or several; the message lists the expected folders.
    """
    check_root(root)
    for layout in FOLDERS:
        if _has(root, layout):
            return layout, [root.resolve().name]
    folders = sorted(path for path in root.iterdir() if is_folder(path))
    found = {layout: names for layout in FOLDERS if (names := [path.name for path in folders if _has(path, layout)])}
    if len(found) != 1:
        raise DataError(_unknown(root, [path.name for path in folders], found))
    return next(iter(found.items()))


def check_root(root: Path) -> None:
    """Raise DataError unless `root` is a folder that may be read."""
    if not is_folder(root) or not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"Expected a folder of images that may be read at {root}, found none. Correct the path or its permissions.")


def _has(folder: Path, layout: str) -> bool:
    return all(is_folder(folder / inner) for inner in FOLDERS[layout]) and (layout == "loco") == _has_mask_folders(folder)


def why_no_category(folder: Path) -> str:
    """Why a folder without a layout cannot be a category."""
    if leads_nowhere(folder):
        return "a link to nothing"
    try:
        for inner in {inner for names in FOLDERS.values() for inner in names}:
            (folder / inner).exists()
    except OSError as error:
        return f"it cannot be read ({error.strerror}): correct the permissions"
    return "not a category's folder"


def _has_mask_folders(category: Path) -> bool:
    beside = [path for path in category.glob("ground_truth/*/*") if not path.name.startswith(".")]
    return any(is_folder(path) for path in beside) and not any(path.suffix.lower() in SUFFIXES for path in beside)


def _unknown(root: Path, names: list[str], found: dict[str, list[str]]) -> str:
    wanted = "; ".join(f"{layout}: <category>/{' and <category>/'.join(inner)}" for layout, inner in FOLDERS.items())
    closed = [name for name in names if why_no_category(root / name).startswith("it cannot be read")]
    held = f"several at once, {found}" if found else f"the folders {names[:8]}" + f", of which {closed[:8]} cannot be read" * bool(closed)
    return (
        f"Expected the folders of one known layout in {root} ({wanted}), found {held}. "
        "Correct the path, or describe the names in params.yaml: set prepare.layout to `folder` and write the patterns of prepare.folder "
        f"(docs/data.md; if params.yaml is the demo's, `cp params/real-cpu.yaml params.yaml` first), then run `stage use-data {root}` or "
        f"`make run DATA={root}` again."
    )


def rule_of(params: Prepare, categories: Sequence[str]) -> FolderRule:
    """The naming rule of the layout in `params`. Raises ConfigError if `prepare.folder` is invalid."""
    if params.layout != "folder":
        return RULES[params.layout]
    check_rule(params.folder, categories)
    return params.folder


def data_root(root: Path, layout: str, category: str) -> Path:
    """The folder that holds the category folders: `root`, or its parent if `root` is the folder of `category` itself."""
    home = root.resolve()
    # A category may be called `test`, as a folder within it is, so it is not enough that the folder exists.
    is_category = layout in FOLDERS and home.name == category and _has(root, layout) and not _has(root / category, layout)
    return home.parent if is_category else root
