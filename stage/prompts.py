"""Prompts, and the learned tokens that stand for a defect type in them (III; textual inversion, as in AnomalyDiffusion)."""

import torch
from torch import Tensor

from stage.base import Base
from stage.params import Prompts


def prompt(template: str, category: str, defect: str) -> str:
    """The template with names written as words: `broken_large` becomes `broken large`."""
    return template.format(category=_words(category), defect=_words(defect))


def prompts(params: Prompts, category: str, defect: str) -> tuple[str, str]:
    """The prompts of the anomaly-aware and of the anomaly-only branch."""
    return prompt(params.defect, category, defect), prompt(params.isolated, category, defect)


def placeholders(number: int, count: int) -> str:
    """The learned tokens of a category's defect type `number` as text: what replaces {defect} in a prompt.

    Numbered, not named: tokenizers fold case and split at spaces, and prompts write underscores as spaces.
    """
    return " ".join(f"<defect-{number}-{k}>" for k in range(count))


def add_tokens(base: Base, defects: tuple[str, ...], count: int) -> Tensor:
    """Add `count` tokens per defect type to tokenizer and text encoder, each initialised from the type's words.

    Returns the row numbers (len(defects) * count,) of the embedding matrix that are to be trained.
    """
    first = len(base.tokenizer)
    base.tokenizer.add_tokens([token for number in range(len(defects)) for token in placeholders(number, count).split()])
    embeddings = base.text_encoder.resize_token_embeddings(len(base.tokenizer), mean_resizing=False)
    rows = torch.arange(first, len(base.tokenizer))
    with torch.no_grad():
        for block, defect in zip(rows.split(count), defects, strict=True):
            words = base.tokenizer(_words(defect), add_special_tokens=False).input_ids
            embeddings.weight[block] = embeddings.weight[words].mean(0)
    return rows


def _words(name: str) -> str:
    return name.replace("_", " ")
