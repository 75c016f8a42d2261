"""One batch of plan rows, rendered, judged and written: the unit of work that the store keeps."""

from collections.abc import Sequence
from pathlib import Path

from stage.synthesis.judge import Judge
from stage.synthesis.method import Renderer
from stage.synthesis.quality import verdict_on
from stage.synthesis.rows import Origin, PlanRow
from stage.synthesis.schema import sample_row, write_samples
from stage.synthesis.source import Source


def write_batch(renderer: Renderer, rows: Sequence[PlanRow], source: Source, judge: Judge | None, *, origin: Origin, file: Path) -> None:
    """Render the rows and write them with their verdicts to `file`."""
    samples = renderer.render(rows, source)
    backgrounds = (source.backgrounds[row.background_sha256].image for row in rows)
    judged = zip(rows, samples, backgrounds, strict=True)
    verdicts = (verdict_on(sample, background, row.defect, judge) for row, sample, background in judged)
    done = zip(rows, samples, verdicts, strict=True)
    write_samples([sample_row(row, sample.pair, verdict, origin) for row, sample, verdict in done], file)
