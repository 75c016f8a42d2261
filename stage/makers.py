"""Who made a batch, where, when, and for which runs: what differs from run to run and is therefore in no shard."""

import os
from datetime import UTC, datetime
from typing import NamedTuple, Self

from stage.claims import Owner


class Maker(NamedTuple):
    """The columns of `runs.parquet` beside the batch's key; docs/data.md describes them."""

    token: str
    host: str
    pid: str
    device: str
    started: str
    finished: str
    prefect_run: str
    dvc_run: str

    @classmethod
    def now(cls, owner: Owner, device: str) -> Self:
        """Of a batch that its owner begins."""
        gpus, prefect_run = (os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "STAGE_PARENT_FLOW_RUN"))
        dvc_run = " ".join(filter(None, (os.environ.get(name) for name in ("DVC_STAGE", "DVC_EXP_NAME"))))
        return cls(owner.token, owner.host, str(owner.pid), gpus or device, _now(), "", prefect_run, dvc_run)

    def done(self) -> Self:
        """The same, when the batch is made."""
        return self._replace(finished=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
