"""Learned tokens for every defect type (III: textual inversion, with AnomalyDiffusion's settings)."""

import torch
from torch import Tensor

from stage.base import Base
from stage.prompts import placeholders, words


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
            spoken = words(defect).strip() or "defect"  # a folder may be called `_`
            ids = base.tokenizer(spoken, add_special_tokens=False).input_ids
            embeddings.weight[block] = embeddings.weight[ids].mean(0)
    return rows
