"""The folder layout of MVTec AD (Bergmann et al., CVPR 2019), which many other data sets use; the demo too."""

from stage.params import FolderRule

RULE = FolderRule(
    normal="{category}/train/good/{name}.*",
    test_normal="{category}/test/good/{name}.*",
    image="{category}/test/{defect}/{name}.*",
    mask="{category}/ground_truth/{defect}/{name}_mask.*",
    groups="{category}/groups.csv",
    foreground="{category}/foreground/{name}.*",
)
"""`groups.csv` and `foreground` are not MVTec's: they are read where a user has added them."""

FOLDERS = ("train/good", "test")
"""What a category's folder holds, by which the layout is recognised."""
