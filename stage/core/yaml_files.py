"""Reads YAML as DVC does: YAML 1.2, and no key twice."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError

from stage.core.errors import ConfigError


def read_yaml(path: Path, what: str, yaml: YAML | None = None) -> Any:
    """The values of a YAML file. Raises ConfigError, which says `what` was expected there, if it is missing, unreadable or not YAML.

    `yaml`: a reader with its own settings, which may accept less than DVC's, such as no tab before a value.
    """
    try:
        return (yaml or YAML(typ="safe")).load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"Expected {what} at {path.absolute()}, found none. Run from the project's root.") from None
    except OSError as error:
        raise ConfigError(f"Expected {what} at {path.absolute()}, found: {error.strerror}. Make it a file that can be read.") from None
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, an impossible date or number
        raise ConfigError(f"Expected YAML in UTF-8 in {path}, found a syntax error: {_told(error)}. Correct it there.") from None


def _told(error: Exception) -> str:
    """The parser's error without its advice to programmers."""
    if isinstance(error, MarkedYAMLError):
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        return f"{error.problem or error.context}{where}"
    return " ".join(str(error).split()) or type(error).__name__
