"""Learned tokens for every defect type (III: textual inversion, with AnomalyDiffusion's settings), and the prompts that contain them.

Shapes: B batch, L text length, D text channels, K distinct prompts, R learned tokens.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import AddedToken, CLIPTokenizer

from stage.model.base import Base
from stage.model.prompts import placeholders, words
from stage.model.schedule import Branch


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


class LearnedTokens(nn.Module):
    """The last rows (R, D) of a text encoder's embedding matrix as a parameter of their own; the matrix stays frozen.

    Training the matrix for these few rows would cost its gradient and two moments: half a gigabyte on the paper's base.
    """

    def __init__(self, embeddings: nn.Module, count: int) -> None:
        super().__init__()
        matrix = embeddings.get_parameter("weight")
        self.first = len(matrix) - count
        self.weight = nn.Parameter(matrix[self.first :].detach().clone())
        embeddings.register_forward_hook(self._insert)

    def _insert(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        ids = inputs[0]
        ours = embedding((ids - self.first).clamp(min=0), self.weight)
        return torch.where((ids >= self.first)[..., None], ours, output)


class Conditions(NamedTuple):
    """Text conditions (K, L, D) of distinct prompts, and per branch the number of each row's prompt, (B,)."""

    table: Tensor
    rows: dict[Branch, Tensor]


class TextConditions:
    """Text conditions during training: a prompt with learned tokens is encoded once per batch, any other once in all."""

    def __init__(self, base: Base, texts: Mapping[Branch, list[str]], learned: Sequence[str]) -> None:
        """`texts` are the prompts in the order of the defect types; those that contain one of `learned` change during training."""
        self.base, self.texts = base, texts
        distinct = dict.fromkeys(chain.from_iterable(texts.values()))
        self.constant = [text for text in distinct if not any(tokens in text for tokens in learned)]
        with torch.no_grad():
            self.cached = [base.embed(self.constant)] if self.constant else []

    def __call__(self, types: Tensor) -> Conditions:
        """The conditions of rows whose defect types have these numbers, (B,) int64."""
        spoken: dict[Branch, list[str]] = {branch: [texts[k] for k in types.tolist()] for branch, texts in self.texts.items()}
        changing = [text for text in dict.fromkeys(chain.from_iterable(spoken.values())) if text not in self.constant]
        table = torch.cat([*self.cached, *([self.base.embed(changing)] if changing else [])])
        number = {text: k for k, text in enumerate([*self.constant, *changing])}
        return Conditions(table, {branch: torch.tensor([number[text] for text in rows]) for branch, rows in spoken.items()})


BOUNDS = ("<|startoftext|>", "<|endoftext|>")  # CLIP's
START, END = range(2)  # their numbers; the end also pads
LETTERS = re.compile(r"[^\W\d_]+")


def tokenizer_of(texts: Iterable[str], length: int) -> CLIPTokenizer:
    """CLIP's tokenizer for at most `length` tokens: a token for every word of the texts, bytes for all other words.

    Words are numbered in sorted order, so that the same texts give the same numbers: the library's own trainer numbers them by
    a hash that differs from run to run.
    """
    letters = sorted(ByteLevel.alphabet())
    tokens = [*BOUNDS, *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=length)
    for word in sorted({word for text in texts for word in LETTERS.findall(text.lower())}):
        tokenizer.add_tokens(AddedToken(word, single_word=True))
    return tokenizer
