"""Lossless patch latents: the image codec of a base that is trained from scratch, in diffusers' layout.

A learned autoencoder of this size blurs away a part's texture (docs/decisions/0004). Here every `patch` x `patch` square of RGB
becomes one latent cell by a fixed orthonormal rotation onto the principal components of the training patches, each
divided by the root of its standard deviation. Nothing is lost. Without the division, the fine components drown in the noise of
the sampler's last steps; divided by the full deviation, they outweigh the coarse ones, which carry colour and shape.
"""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, IdentityDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

FLOOR = 0.02  # of the pixel range [-1, 1]; a component that varies less than this is sensor noise and is not amplified


class PatchCodec(ModelMixin, ConfigMixin):
    """Images (B, 3, H, W) in [-1, 1] to latents (B, 3 patch^2, H/patch, W/patch) and back, exactly."""

    @register_to_config
    def __init__(self, patch: int = 4, scaling_factor: float = 1.0) -> None:
        super().__init__()
        channels = 3 * patch**2
        self.rotation = nn.Buffer(torch.eye(channels))  # (C, C), rows are components
        self.mean = nn.Buffer(torch.zeros(channels))
        self.scale = nn.Buffer(torch.ones(channels))
        self.deviation = nn.Buffer(torch.ones(channels))  # of each latent channel, by which the network is preconditioned; 1: it is not

    @classmethod
    def fit(cls, images: Tensor, patch: int, *, preconditioned: bool = False) -> "PatchCodec":
        """The codec of the patches of `images` (N, 3, H, W) in [-1, 1]; its latents have variance one on average."""
        codec = cls(patch=patch)
        vectors = pixel_unshuffle(images, patch).movedim(1, -1).flatten(0, -2).double()
        mean = vectors.mean(0)
        vectors -= mean  # in place, where torch.cov would hold all patches a second time; the bits are the same
        variances, axes = torch.linalg.eigh(vectors.T @ vectors / (len(vectors) - 1))
        # An eigenvector's sign is arbitrary and differs between machines: the largest entry is made positive.
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        deviations = variances.flip(0).clamp(min=0).sqrt()
        scale = (deviations + FLOOR).sqrt()
        codec.rotation.copy_(axes.flip(1).T)
        codec.mean.copy_(mean)
        codec.scale.copy_(scale * (deviations / scale).square().mean().sqrt().clamp(min=FLOOR))
        if preconditioned:
            codec.deviation.copy_((deviations / codec.scale).clamp(min=FLOOR))
        return codec

    def encode(self, images: Tensor) -> AutoencoderKLOutput:
        """Latents, as a distribution of one point (diffusers' interface)."""
        vectors = pixel_unshuffle(images, self.config["patch"]) - _channels(self.mean)
        latents = torch.einsum("dc,bchw->bdhw", self.rotation, vectors) / _channels(self.scale)
        return AutoencoderKLOutput(latent_dist=IdentityDistribution(latents))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Images (B, 3, H, W), approximately in [-1, 1]."""
        vectors = torch.einsum("dc,bdhw->bchw", self.rotation, latents * _channels(self.scale)) + _channels(self.mean)
        return DecoderOutput(sample=pixel_shuffle(vectors, self.config["patch"]))


def _channels(values: Tensor) -> Tensor:
    return values[None, :, None, None]
