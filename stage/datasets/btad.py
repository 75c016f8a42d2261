"""The folder layout of BTAD (Mishra et al., ISIE 2021): one defect type, which the paper calls `damaged`."""

from stage.params import FolderRule

RULE = FolderRule(
    normal="{category}/train/ok/{name}.*",
    test_normal="{category}/test/ok/{name}.*",
    image="{category}/test/ko/{name}.*",
    mask="{category}/ground_truth/ko/{name}.*",
    groups="{category}/groups.csv",
    foreground="{category}/foreground/{name}.*",
)
"""`groups.csv` and `foreground` are not BTAD's: they are read where a user has added them."""

FOLDERS = ("train/ok", "test/ko")
"""What a category's folder holds, by which the layout is recognised."""
