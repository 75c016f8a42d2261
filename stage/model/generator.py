"""A base with what STAGE adds for one category: an adapter per branch, and learned tokens in the text encoder."""

from torch import Tensor, nn

from stage.core.model_params import Prompts
from stage.model.adapter import MaskGuidanceAdapter
from stage.model.base import Base
from stage.model.prompts import placeholders, prompts
from stage.model.schedule import Branch
from stage.model.tokens import LearnedTokens, add_tokens

BRANCHES: tuple[Branch, Branch] = ("anomaly_aware", "anomaly_only")


class Generator(nn.Module):
    """The networks of one category; without `adapters`, the noise estimate is the base's own."""

    def __init__(
        self,
        base: Base,
        category: str,
        types: tuple[str, ...],
        token_count: int,
        widths: tuple[int, ...],
        *,
        residual: bool,
        adapters: bool = True,
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.codec = base.modules()
        self.base, self.category, self.types, self.token_count = base, category, types, token_count
        self.widths, self.residual = widths, residual
        rows = add_tokens(base, types, token_count)
        self.tokens = LearnedTokens(base.text_encoder.get_input_embeddings(), len(rows))
        branches = BRANCHES if adapters else ()
        self.adapters = nn.ModuleDict({branch: MaskGuidanceAdapter(base.channels, widths, residual=residual) for branch in branches})

    @property
    def placeholders(self) -> list[str]:
        """The learned tokens of every type, as text."""
        return [placeholders(number, self.token_count) for number in range(len(self.types))]

    def texts(self, templates: Prompts) -> dict[Branch, list[str]]:
        """The prompts of the two branches, in the order of `types`."""
        aware, only = zip(*(prompts(templates, self.category, tokens) for tokens in self.placeholders), strict=True)
        return {"anomaly_aware": list(aware), "anomaly_only": list(only)}

    def conditions(self, templates: Prompts) -> dict[Branch, Tensor]:
        """Text conditions (types, L, D) of the two branches, rows in the order of `types`."""
        return {branch: self.base.embed(texts) for branch, texts in self.texts(templates).items()}

    def predict_noise(self, x_t: Tensor, t: Tensor | int, branch: Branch, mask: Tensor, condition: Tensor) -> Tensor:
        """Noise estimate (B, C, h, w) of one branch: the network's, refined by the branch's adapter under the branch's mask.

        float32, whatever the networks' precision.
        """
        eps = self.base.predict_noise(x_t, t, condition).float()
        return self.adapters[branch](eps, mask).float() if self.adapters else eps
