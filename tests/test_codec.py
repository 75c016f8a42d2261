import warnings

import numpy as np
import pytest
import torch

from stage.model.base import pixels_to_tensor, tensor_to_pixels
from stage.model.codec import PatchCodec


def photographs(count=6, size=16):
    """Smooth stripes with a little noise: neighbours are alike, as in a photograph."""
    rng = np.random.default_rng(1)
    stripes = 127 + 100 * np.sin(np.linspace(0, 6, size))[None, :, None, None] * np.array([1.0, 0.7, 0.2])
    return np.clip(stripes + rng.normal(0, 12, (count, size, size, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_any_image_comes_back_byte_for_byte(patch):
    """Otherwise the codec would blur texture, which is why a learned one was left; fitted on photographs, tried on noise."""
    codec = PatchCodec.fit(pixels_to_tensor(photographs()), patch)
    noise = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    latents = codec.encode(pixels_to_tensor(noise)).latent_dist.mode()
    assert latents.shape == (3, 3 * patch**2, 16 // patch, 16 // patch)
    assert np.array_equal(tensor_to_pixels(codec.decode(latents).sample), noise)


def test_latents_have_mean_zero_and_variance_one_on_average():
    """Otherwise the noise schedule, made for latents of variance one, would end too clean or too noisy."""
    images = pixels_to_tensor(photographs())
    codec = PatchCodec.fit(images, 2)
    latents = codec.encode(images).latent_dist.mode().movedim(1, 0).flatten(1).double()
    assert torch.allclose(latents.mean(1), torch.zeros(12, dtype=torch.float64), atol=1e-4)
    assert latents.var(1).mean().item() == pytest.approx(1, abs=0.02)


def test_channels_are_principal_components_in_order():
    """Otherwise colour and shape would not come before fine texture: uncorrelated channels of falling deviation, an orthonormal basis."""
    images = pixels_to_tensor(photographs())
    codec = PatchCodec.fit(images, 2)
    latents = codec.encode(images).latent_dist.mode().movedim(1, 0).flatten(1).double()
    spread = latents * codec.scale[:, None].double()
    assert torch.corrcoef(spread).fill_diagonal_(0).abs().max() < 1e-3
    assert torch.all(spread.std(1).diff() <= 1e-6)
    assert torch.allclose(codec.rotation @ codec.rotation.T, torch.eye(12), atol=1e-5)


def test_sign_of_components_is_fixed():
    """Otherwise another machine's eigensolver would give other latents for the same data."""
    codec = PatchCodec.fit(pixels_to_tensor(photographs()), 2)
    largest = codec.rotation.gather(1, codec.rotation.abs().argmax(1, keepdim=True))
    assert torch.all(largest > 0)
    mirrored = PatchCodec.fit(pixels_to_tensor(photographs()[::-1].copy()), 2)
    assert torch.allclose(codec.rotation, mirrored.rotation, atol=1e-3)


def test_saved_codec_is_the_same_codec(tmp_path):
    """Otherwise a base loaded from its folder would decode differently from the one that was trained."""
    images = pixels_to_tensor(photographs())
    codec = PatchCodec.fit(images, 4)
    codec.save_pretrained(tmp_path)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = PatchCodec.from_pretrained(tmp_path)
    assert loaded.config["patch"] == 4
    assert torch.equal(loaded.encode(images).latent_dist.mode(), codec.encode(images).latent_dist.mode())
