"""Tells other tools that a night ran, and how it ended: OpenLineage events of the run that is the parent of its stages' runs."""

from datetime import UTC, datetime
from typing import Any

from stage.core.openlineage import NAMESPACE, NIGHT, PRODUCER, event_client, quietly, source_code
from stage.core.redaction import without_secrets
from stage.nights.record import Record

ENDS = {"published": "COMPLETE", "nothing to do": "COMPLETE", "refused": "FAIL", "failed": "FAIL"}  # other nights were stopped


def night_begins(record: Record) -> None:
    """Send the event of a night's start. A collector that is away ends no night."""
    quietly(lambda: _send(record, "START"))


def night_ends(record: Record) -> None:
    """Send the event of a night's end: complete, failed, or aborted if it was stopped or another night made it superfluous."""
    quietly(lambda: _send(record, ENDS.get(record.outcome, "ABORT")))


def _send(record: Record, state: str) -> None:
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import job_type_job
    from openlineage.client.generated.base import set_producer

    set_producer(PRODUCER)  # of the facets
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="STAGE", jobType="WORKFLOW")
    event = RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        producer=PRODUCER,
        eventType=RunState[state],
        run=Run(record.run_id, _facets(record, state)),
        job=Job(NAMESPACE, NIGHT, {"jobType": kind, **source_code("stage/nights/night.py")}),
    )
    event_client().emit(event)


def _facets(record: Record, state: str) -> dict[str, Any]:
    """The outcome, the version's tag and its commit; if it failed or was refused, why."""
    from openlineage.client.facet_v2 import error_message_run, tags_run

    told = {"night": record.id, "outcome": record.outcome, "tag": record.tag, "commit": record.commit}
    facets: dict[str, Any] = {"tags": tags_run.TagsRunFacet([tags_run.TagsRunFacetFields(*one) for one in told.items() if one[1]])}
    if state == "FAIL":
        message = without_secrets(record.message)
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="python")
    return facets
