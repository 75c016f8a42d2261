"""How well a base denoises real defects, compared with no denoising and a classical denoiser: a limit for every sampler. Not in the paper.

Images are (N, s, s, 3) uint8 in the windows that the base is shown, masks (N, s, s) uint8 in {0, 1}, 1 = defect; n defects.
Errors are root mean squares inside the masks, of 255.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stage.core.arrays import Values
from stage.core.digests import derived_seed
from stage.core.model_params import Crop, Prompts
from stage.datasets.examples import DefectImages
from stage.datasets.windows import cut, window
from stage.model.base import Base, pixels_to_tensor
from stage.model.diffusion import predict_x_0, q_sample
from stage.model.prompts import prompts

TIMESTEPS = (50, 100, 150, 300)  # of 1000; where texture is decided
MOST = 24  # defects of a category, spread over all
AT_ONCE = 8  # of them through the codec, of which Stable Diffusion's takes gigabytes for each; the U-Net would round otherwise
STRENGTHS = (0.5, 0.7, 0.9, 1.2)  # of the filter, relative to the error of the noisy image; the best one counts
FILTER = {"patch_size": 5, "patch_distance": 7, "fast_mode": True, "channel_axis": -1}
COLUMNS = ("timestep", "defects", "noise", "base", "classical")


@torch.no_grad()
def denoising_errors(base: Base, data: DefectImages, crop: Crop, templates: Prompts, *, image_size: int, seed: int) -> pd.DataFrame:
    """A row of COLUMNS for every timestep of TIMESTEPS: the errors of x_t, of the base's estimate of x_0, and of non-local means.

    The classical denoiser gets the noisy image as pixels and its best strength of STRENGTHS for all defects, which is unknown in use.
    """
    rows = np.unique(np.linspace(0, len(data.masks) - 1, MOST).astype(int))
    places = [window(data.masks[k], crop, image_size) for k in rows]
    images, masks = (
        np.stack([cut(pictures[k], place, image_size) for k, place in zip(rows, places, strict=True)])
        for pictures in (data.images, data.masks)
    )
    condition = base.embed([prompts(templates, data.category, data.defects[k])[0] for k in rows])
    latents = _in_parts(base.encode, pixels_to_tensor(images).to(base.unet.device))
    times = [t for t in TIMESTEPS if t < base.schedule.timestep_count]
    errors = [_errors(base, latents, images, masks, condition, t, derived_seed(seed, "denoising", t)) for t in times]
    return pd.DataFrame([(t, len(rows), *found) for t, found in zip(times, errors, strict=True)], columns=list(COLUMNS))


def _errors(
    base: Base, latents: Tensor, images: NDArray[np.uint8], masks: NDArray[np.uint8], condition: Tensor, t: int, seed: int
) -> tuple[float, float, float]:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents.device)
    x_t = q_sample(latents, t, noise, base.schedule)
    estimate = predict_x_0(x_t, base.predict_noise(x_t, t, condition), t, base.schedule)
    noisy = _pixels(base, x_t / base.schedule.alpha_bar(t) ** 0.5)
    of_noise = _error(noisy, images, masks)
    filtered = min(_error(_filtered(noisy, strength * of_noise), images, masks) for strength in STRENGTHS)
    return of_noise, _error(_pixels(base, estimate), images, masks), filtered


def _in_parts(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    return torch.cat([*map(network, inputs.split(AT_ONCE))])


def _pixels(base: Base, latents: Tensor) -> Values:
    """Unrounded pixels (N, s, s, 3) within 0 and 255."""
    return ((_in_parts(base.decode, latents).clamp(-1, 1) + 1) * 127.5).movedim(1, -1).double().cpu().numpy()


def _filtered(noisy: Values, strength: float) -> Values:
    from skimage.restoration import denoise_nl_means  # here, because it takes a second to load

    denoise: Callable[..., Values] = denoise_nl_means
    return np.stack([255 * denoise(image / 255, h=strength / 255, **FILTER) for image in noisy])


def _error(found: Values, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> float:
    """The root of the mean over the defects of the mean square error inside each."""
    squares = [((one - image)[mask > 0] ** 2).mean() for one, image, mask in zip(found, images, masks, strict=True) if mask.any()]
    return float(np.sqrt(np.mean(squares)))
