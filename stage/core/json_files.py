"""JSON files that an earlier step wrote, checked before use: they may have been changed or cut off since."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stage.core.errors import CorruptFileError


def read_json(path: Path, shape: Any, *, what: str, mend: str) -> Any:
    """The content of a JSON file that has at least the keys and types of `shape`, which is whatever pydantic can check.

    Raises CorruptFileError if the file is missing or differs; `what` names the content, and `mend` is a command that makes it.
    """
    try:
        values = json.loads(path.read_bytes())
        TypeAdapter(shape).validate_python(values)
    except FileNotFoundError:
        raise CorruptFileError(f"Expected {what} at {path}, found no such file. Run `{mend}`.") from None
    except ValidationError as error:
        raise CorruptFileError(f"Expected {what} in {path}, found {_first(error)}. Delete it and run `{mend}`.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CorruptFileError(f"Expected {what} as JSON in {path}, found {error}. Delete it and run `{mend}`.") from None
    return values


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"])) or "the whole"
    more = f" and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{place}: {problem['msg']}{more}"
