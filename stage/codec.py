"""Lossless patch latents: the image codec of a base that is trained from scratch, in diffusers' layout.

A learned autoencoder of this size blurs a part's texture away (METHOD 8). Here every `patch` x `patch` square of RGB
becomes one latent cell by a fixed orthonormal rotation onto the principal components of the training patches, each
divided by the root of its standard deviation. Nothing is lost. Undivided, the fine components drown in the sampler's
last noise; divided by the whole deviation, they outvote the coarse ones, which carry colour and shape.
"""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, IdentityDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class PatchCodec(ModelMixin, ConfigMixin):
    """Images (B, 3, H, W) in [-1, 1] to latents (B, 3 patch^2, H/patch, W/patch) and back, exactly."""

    @register_to_config
    def __init__(self, patch: int = 4, scaling_factor: float = 1.0) -> None:
        super().__init__()
        channels = 3 * patch**2
        self.rotation = nn.Buffer(torch.eye(channels))  # (C, C) rows are components
        self.mean = nn.Buffer(torch.zeros(channels))
        self.scale = nn.Buffer(torch.ones(channels))

    @classmethod
    def fit(cls, images: Tensor, patch: int, floor: float = 0.02, gamma: float = 0.5) -> "PatchCodec":
        """The codec of the patches of `images` (N, 3, H, W) in [-1, 1]; `floor` is added to each deviation against amplifying noise."""
        codec = cls(patch=patch)
        vectors = pixel_unshuffle(images.double(), patch).movedim(1, -1).flatten(0, -2)
        mean = vectors.mean(0)
        variances, components = torch.linalg.eigh(torch.cov((vectors - mean).T))
        # An eigenvector's sign is arbitrary and differs between machines: the largest entry is made positive.
        signs = components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
        codec.rotation.copy_((components * signs).flip(1).T)
        codec.mean.copy_(codec.rotation.double() @ mean)
        deviations = variances.flip(0).clamp(min=0).sqrt()
        scales = (deviations + floor) ** gamma
        codec.scale.copy_(scales * (deviations / scales).square().mean().sqrt())  # latents of variance one on average
        return codec

    def encode(self, images: Tensor) -> AutoencoderKLOutput:
        """Latents, as a distribution of one point (diffusers' interface)."""
        latents = torch.einsum("dc,bchw->bdhw", self.rotation, pixel_unshuffle(images, self.config["patch"]))
        return AutoencoderKLOutput(latent_dist=IdentityDistribution((latents - _channels(self.mean)) / _channels(self.scale)))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Images in [-1, 1]."""
        vectors = latents * _channels(self.scale) + _channels(self.mean)
        return DecoderOutput(sample=pixel_shuffle(torch.einsum("dc,bdhw->bchw", self.rotation, vectors), self.config["patch"]))


def _channels(values: Tensor) -> Tensor:
    return values[None, :, None, None]
