"""A training and its scores without Prefect, so that the processes of several trainings at once do not load it."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.device import device
from stage.core.digests import derived_seed, file_digest
from stage.core.params import Params
from stage.core.progress import check_stop
from stage.core.work import SEGMENTERS, Work, versions, work_key
from stage.datasets.examples import column, pairs_digest, pairs_of
from stage.jobs.heartbeat import present
from stage.jobs.removal import finish
from stage.release.reader import accepted_ids, read_manifest, read_samples
from stage.segmentation.arms import PERFECT, Training, shares_of, trainings
from stage.segmentation.data import TrainingData, training_data
from stage.segmentation.mixture import Mixture
from stage.segmentation.published import CURVE, PREDICTIONS, WEIGHTS
from stage.segmentation.scores import DEFECTIVE_FILE, DIGESTS, GOOD_FILE

CATALOGS = Path("data/prepare")
SAMPLES = Path("data/synthesize")
CODE = "flows.scoring:score"
BESIDE = ("models", "weights", "arms", "mixture", "few", "seeds", "folds")  # keys of `segment` that decide which trainings there are
# Columns that decide which defects a training sees, and the samples made from these.
SEEN = ("defect", "group", "image_sha256", "mask_sha256")


class Scored(NamedTuple):
    """A training that is finished: the work that holds its weights, curve, counts and predictions, and the digests of its samples."""

    training: Training
    work: Work
    samples: str


def planned_trainings(category: str, params: Params) -> list[Training]:
    """The trainings of a category, in order."""
    real = pairs_of(CATALOGS / category, "train", good=False)
    return trainings(params.methods, params.segment, column(real, "defect"), column(real, "group"))


def training_samples(category: str, training: Training, params: Params) -> dict[Path, float]:
    """The published folders of the samples that a training sees, if any, and their shares, which sum to 1."""
    return {SAMPLES / category / method: share for method, share in shares_of(training.choice, params.segment.mixture).items()}


def score(
    category: str, training: Training, samples: Mapping[Path, float], params: Params, users: ExitStack, *, verb: str = "segment"
) -> Scored:
    """Run one training, whose work is in use until `users` ends; resumes an unfinished one, or finds a finished one."""
    work = work_of(verb, category, training, samples, params)
    users.enter_context(present(work.folder, lease_s=params.execution.lease_s))
    if not work.is_finished():
        reader = partial(read_mixture, samples) if samples else None
        data = training_data(CATALOGS / category, training, reader, params)
        train_and_score(data, training, work, params)
    return Scored(training, work, DIGESTS.join(read_manifest(folder)["digest"] for folder in samples))


def work_of(verb: str, category: str, training: Training, samples: Mapping[Path, float], params: Params) -> Work:
    """The work of a training, finished or not."""
    return Work.of(verb, f"{category}/{training.folder}", training_key(category, training, samples, params))


def read_mixture(samples: Mapping[Path, float], *, sources: Collection[str] | None) -> Mixture:
    """The accepted samples of published folders, by shares; `sources` as in `read_samples`."""
    return Mixture([read_samples(folder, accepted_only=True, sources=sources) for folder in samples], [*samples.values()])


def training_key(category: str, training: Training, samples: Mapping[Path, float], params: Params) -> str:
    """The key of everything that decides the result of a training; samples count by pixels and verdicts, not by who made them or when."""
    decisive = {name: value for name, value in params.segment if name not in BESIDE}
    if not training.choice.method:
        decisive |= {"synthetic": None, "warmup": None}
    return work_key(
        CODE,
        seed=params.seed,
        segment=decisive,
        folds=params.segment.folds if training.fold >= 0 else None,
        weights=weights_digest({**params.segment.weights}.get(training.model, "")),
        training=[*training._replace(choice=training.choice._replace(name="", method=""))],
        drawn=params.prepare.image_size if training.choice.method == PERFECT else None,
        libraries=versions(SEGMENTERS),
        images=images_digests(CATALOGS / category, training),
        samples=[[read_manifest(folder)["digest"], accepted_ids(folder), share] for folder, share in samples.items()],
    )


def images_digests(catalog: Path, training: Training) -> list[str]:
    """The digests of the images that a training sees or is scored on, and, where it does not see all defects, of what says which."""
    is_partial = training.fold >= 0 or training.choice.few
    parts = [("train", False, SEEN if is_partial else ()), ("train", True, ())]
    parts += [] if training.fold >= 0 else [("test", good, ()) for good in (False, True)]
    return [pairs_digest(catalog, split, good=good, columns=columns) for split, good, columns in parts]


def weights_digest(weights: str) -> str:
    """The digest of the checkpoint that a training begins with; empty without one."""
    if not weights:
        return ""
    from stage.segmentation.pretrained import fetch_weights  # here, because most have none, and torch takes seconds

    return file_digest(fetch_weights(weights))


def train_and_score(data: TrainingData, training: Training, work: Work, params: Params) -> None:
    """Write weights, loss curve, counts of scores, and pictures of the predictions as the work's result."""
    from stage.segmentation.evaluation import Segmenter  # here, because a finished training needs no networks
    from stage.segmentation.training import train_segmenter

    on, weights = device(params.execution.device), work.draft / WEIGHTS
    curve = train_segmenter(
        data.arm,
        training.model,
        params.segment,
        seed=derived_seed(params.seed, training.seed),
        device=on,
        output=weights,
        state=work.folder / "state.safetensors",
        save_every_s=params.execution.save_every_s,
    )
    curve.to_csv(work.draft / CURVE, index=False)
    check_stop()
    segmenter = Segmenter(weights, training.model, window=params.segment.window, device=on)
    pictures: list[bytes] | None = [] if training.is_shown else None
    segmenter.counts(data.defective, pictures).write(work.draft / DEFECTIVE_FILE)
    segmenter.counts(data.good).write(work.draft / GOOD_FILE)
    pq.write_table(pa.table({"picture": pa.array(pictures or [], pa.binary())}), work.draft / PREDICTIONS)
    finish(work, lease_s=params.execution.lease_s)
