"""Numbers in sentences."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 cluster`, `2 clusters`; `plural` where it is not the noun with an s, such as `batches`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
