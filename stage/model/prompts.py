"""Prompts as text and as numbers of tokens, and the placeholders that stand for a defect type in them."""

from collections.abc import Sequence
from typing import Any

from stage.core.errors import ConfigError
from stage.core.model_params import Prompts

TEXT_LENGTH = 32  # tokens that a base from scratch takes; enough for a prompt with 8 learned ones


def prompt(template: str, category: str, defect: str) -> str:
    """The template with names written as words: `broken_large` becomes `broken large`."""
    return template.format(category=words(category), defect=words(defect))


def prompts(params: Prompts, category: str, defect: str) -> tuple[str, str]:
    """The prompts of the anomaly-aware and of the anomaly-only branch."""
    return prompt(params.defect, category, defect), prompt(params.isolated, category, defect)


def placeholders(number: int, count: int) -> str:
    """The learned tokens of a category's defect type `number` as text, which replaces {defect} in a prompt.

    They are numbered, not named, because tokenizers fold case and split at spaces, and prompts write underscores as spaces.
    """
    return " ".join(f"<defect-{number}-{k}>" for k in range(count))


def words(name: str) -> str:
    """A name of the data set as words: `broken_large` becomes `broken large`."""
    return name.replace("_", " ")


def token_ids(tokenizer: Any, texts: Sequence[str], length: int) -> list[list[int]]:
    """The numbers of each text's tokens, padded to `length`. Raises ConfigError, which names the longest text, if one has more."""
    found: list[list[int]] = tokenizer(list(texts), padding="max_length", max_length=length).input_ids if texts else []
    longest, text = max(zip(map(len, found), texts, strict=True), default=(0, ""))
    if longest > length:
        raise ConfigError(
            f"Expected prompts of at most {length} tokens, the base's limit, found {longest} in {text!r}. Lower method.token_count or shorten "
            "base.prompts in params.yaml, or rename the category or defect type: each digit of a name takes a token."
        )
    return found
