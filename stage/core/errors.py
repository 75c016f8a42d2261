"""Errors that are messages to the user: shown as they are, without a traceback. Any other exception is a bug of ours.

Refusal
├── ConfigError         a value in params.yaml, or a combination of them
├── DataError           an image, a mask or a folder that was handed in
├── CorruptFileError    a file of ours that was damaged or changed since
├── TrainingError       a training that diverged
├── IncompleteRunError  a run that made what it could, and not everything
└── MachineError        this machine: a full disk, a missing GPU
"""


class Refusal(ValueError):
    """The input cannot work. The message says what was expected, what was found, where, and what to do."""


class ConfigError(Refusal):
    """A value in params.yaml, or a combination of them, that cannot work."""


class DataError(Refusal):
    """An image, a mask or a folder of the user's that cannot be used.

    `reason` is the same for all files of which it is true, so that they can be counted; `detail` is what differs between them.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


class CorruptFileError(Refusal):
    """A file that an earlier run wrote, and that is missing, damaged or of another version."""


class TrainingError(Refusal):
    """A training that cannot go on."""


class IncompleteRunError(Refusal):
    """A run that made what it could, and not everything."""


class MachineError(Refusal):
    """A fault of this machine; it does not count as a failure of a batch."""
