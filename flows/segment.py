"""Train segmenters of one category on each arm, and score them on real defects that no earlier step has seen."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from rich.console import Console

from flows.at_once import slots_of, train_at_once
from flows.runtime import run
from flows.scoring import CATALOGS, SAMPLES, Scored, planned_trainings, score, training_samples, work_of
from stage.core.device import device, limit_threads
from stage.core.params import Params, load_params
from stage.core.work import Work, work_key
from stage.datasets.examples import pairs_digest
from stage.jobs.heartbeat import present
from stage.jobs.removal import finish
from stage.release.reader import read_manifest
from stage.release.uses import check_samples
from stage.segmentation.arms import Training, arm_name, without_samples
from stage.segmentation.published import write_category

OUTPUT = Path("data/segment")
TABLES = "flows.segment:all_arms"
SHOWN = ("category", "defect", "group", "image_path", "mask_sha256")  # columns of the catalog that the tables are made with
ALL_ARMS = "all-arms"  # the spool folder of all arms together, beside those of the trainings


@flow(name="segment")
def segment(category: str) -> None:
    """Train on the real third alone, then with each method's samples; score; publish all arms together."""
    params = load_params()
    check_samples(CATALOGS, category, [SAMPLES / category / method for method in params.methods])
    check_inputs(category, params)
    planned, slots = planned_trainings(category, params), slots_of(params.execution, device(params.execution.device))
    limit_threads(max(1, params.execution.threads // len(slots)))  # the same for a training that runs alone: their number decides rounding
    if len(slots) > 1 and len(todo := unfinished(category, planned, params)) > 1:
        train_at_once(category, todo, slots)
    scored: list[Scored] = []
    with ExitStack() as users:
        for number, training in enumerate(planned, 1):
            Console(stderr=True).print(f"{category}, training {number} of {len(planned)}: {training.label}", highlight=False, markup=False)
            scored.append(score_task(category, training, training_samples(category, training, params), params, users))
        all_arms(category, scored, params, users).publish(OUTPUT / category)


@task(cache_policy=NO_CACHE, name="score")
def score_task(
    category: str, training: Training, samples: Mapping[Path, float], params: Params, users: ExitStack, *, verb: str = "segment"
) -> Scored:
    """`score`, shown and timed on the run's page."""
    return score(category, training, samples, params, users, verb=verb)


def unfinished(category: str, planned: Sequence[Training], params: Params) -> list[int]:
    """The numbers of the trainings that are not finished in the spool."""
    works = [work_of("segment", category, one, training_samples(category, one, params), params) for one in planned]
    return [number for number, work in enumerate(works) if not work.is_finished()]


def check_inputs(category: str, params: Params) -> None:
    """Refuse before the first training what would fail later: weights that cannot be read, or a method without an accepted sample."""
    for method in params.methods:
        if not read_manifest(SAMPLES / category / method)["accepted"]:
            raise without_samples(method, arm_name(method))
    for weights in params.segment.weights.values():
        from stage.segmentation.pretrained import read_weights  # here, because most have none, and torch takes seconds

        read_weights(weights)


def all_arms(category: str, scored: Sequence[Scored], params: Params, users: ExitStack) -> Work:
    """The trainings of a category side by side, in use until `users` ends: the tables, curves and weights, and predictions of the defective test images."""
    told = [[one.training.label, one.work.folder.name, one.samples] for one in scored]
    shown = [pairs_digest(CATALOGS / category, split, good=False, columns=SHOWN) for split in ("test", "train")]
    work = Work.of("segment", f"{category}/{ALL_ARMS}", work_key(TABLES, seed=params.seed, trainings=told, images=shown))
    users.enter_context(present(work.folder, lease_s=params.execution.lease_s))
    if not work.is_finished():
        work.draft.mkdir(exist_ok=True)
        results = {one.training: one.work.result for one in scored}
        write_category(CATALOGS / category, results, {one.training: one.samples for one in scored}, params, work.draft)
        finish(work, lease_s=params.execution.lease_s)
    return work


if __name__ == "__main__":
    run(segment)
