"""Names of the arrays that most wings pass around. The docstrings of functions give shapes and ranges."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # a picture (H, W, 3) or a part of one, 0 … 255
Mask = NDArray[np.uint8]  # (H, W) in {0, 1}; 1: defect, or the object
Values = NDArray[np.float64]  # of any shape
Box = tuple[slice, slice]  # the rows and columns of a part of a picture
Random = np.random.Generator
