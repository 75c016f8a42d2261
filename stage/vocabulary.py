"""The words of a base that is trained from scratch."""

import re
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from transformers import AddedToken, CLIPTokenizer

BOUNDS = ("<|startoftext|>", "<|endoftext|>")  # CLIP's
START, END = range(2)  # their numbers; the end pads, too
LETTERS = re.compile(r"[^\W\d_]+")


def tokenizer_of(texts: Iterable[str], length: int) -> CLIPTokenizer:
    """CLIP's tokenizer for at most `length` tokens: a token for every word of the texts, bytes for all others.

    The words stand in their order, so that the same texts give the same numbers: the library's own trainer numbers them by
    a hash that differs from run to run.
    """
    letters = sorted(ByteLevel.alphabet())
    tokens = [*BOUNDS, *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=length)
    for word in sorted({word for text in texts for word in LETTERS.findall(text.lower())}):
        tokenizer.add_tokens(AddedToken(word, single_word=True))
    return tokenizer
