"""The results that `ablate` publishes: read, averaged, and as a table."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rich.table import Table

from stage.ablation.configurations import RESULTS
from stage.core.errors import Refusal

# Of the defect class: the two that Fig. 6 shows, at a threshold of one half, and AP, which depends on no threshold.
METRICS = {"iou_half": "IoU", "acc_half": "Acc", "ap": "AP"}
REAL_ONLY_ROW, MEAN = "real only", "(mean)"  # no category can have such a name


class Bar(NamedTuple):
    """One configuration in one category: metrics as fractions, None if no sample was accepted."""

    name: str
    label: str
    accepted: int
    made: int
    metrics: dict[str, float] | None


class Group(NamedTuple):
    """The bars of one category in their order, and the metrics of the real third alone."""

    category: str
    real_only: dict[str, float]
    bars: list[Bar]


def read_ablations(data: Path, categories: Sequence[str]) -> list[Group]:
    """A group per category, and their mean if there are several. Raises Refusal if one is missing, damaged, or has other bars."""
    groups = [_read(data / "ablate" / category / RESULTS) for category in categories]
    labels = [[bar.label for bar in group.bars] for group in groups]
    if any(one != labels[0] for one in labels):
        raise Refusal(f"Expected the same configurations in every category, found {labels} under {data / 'ablate'}. Run `make ablation`.")
    return [*groups, _average(groups)] if len(groups) > 1 else groups


def ablation_table(groups: Sequence[Group]) -> Table:
    """A row per category and configuration: METRICS in percent, and how many samples there were."""
    table = Table("category", "configuration", *METRICS.values(), "accepted", title="Real defects never seen, %, defect class")
    for category, label, samples, *values in table_rows(groups):
        table.add_row(category, label, *("-" if value is None else f"{100 * value:.1f}" for value in values), samples)
    return table


def table_rows(groups: Sequence[Group]) -> list[tuple[str, str, str, *tuple[float | None, ...]]]:
    """Rows of category, configuration, accepted samples out of all, and METRICS."""
    rows: list[tuple[str, str, str, *tuple[float | None, ...]]] = []
    for group in groups:
        rows.append((group.category, REAL_ONLY_ROW, "", *map(group.real_only.get, METRICS)))
        rows += [(group.category, bar.label, f"{bar.accepted} of {bar.made}", *map((bar.metrics or {}).get, METRICS)) for bar in group.bars]
    return rows


def _read(path: Path) -> Group:
    if not path.is_file():
        raise Refusal(f"Expected the results of the ablation at {path}, found none. Run `make ablation`.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        bars = [_bar(one) for one in found["configurations"]]
        group = Group(str(found["category"]), _shown(found["real_only"]), bars)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(f"Expected the results of the ablation in {path}, found {error!r} in reading it. Run `make ablation`.") from None
    if not bars:
        raise Refusal(f"Expected at least one configuration in {path}, found none. Run `make ablation`.")
    return group


def _bar(found: dict[str, Any]) -> Bar:
    samples, metrics = found["samples"], found["metrics"]
    shown = None if metrics is None else _shown(metrics)
    return Bar(str(found["name"]), str(found["label"]), int(samples["accepted"]), int(samples["count"]), shown)


def _shown(metrics: dict[str, float]) -> dict[str, float]:
    return {name: float(metrics[name]) for name in METRICS}


def _average(groups: Sequence[Group]) -> Group:
    """The mean over the categories; a configuration without metrics in one of them has no mean."""
    real_only = {name: fmean(group.real_only[name] for group in groups) for name in METRICS}
    return Group(MEAN, real_only, [_mean(bars) for bars in zip(*(group.bars for group in groups), strict=True)])


def _mean(bars: Sequence[Bar]) -> Bar:
    found = [bar.metrics for bar in bars if bar.metrics]
    metrics = {name: fmean(one[name] for one in found) for name in METRICS} if len(found) == len(bars) else None
    return Bar(bars[0].name, bars[0].label, sum(bar.accepted for bar in bars), sum(bar.made for bar in bars), metrics)
