"""Prompts as text, and the placeholders that stand for a defect type in them."""

from stage.core.model_params import Prompts


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
