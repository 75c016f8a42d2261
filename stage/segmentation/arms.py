"""The arms of the comparison: what each is trained on, and the trainings that a category needs.

Every arm has the same updates and normal images, every arm with real defects the same number of them in each batch, and all but one the
same augmentation.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from stage.core.errors import Refusal
from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair
from stage.segmentation.augmentation import Augmentation

REAL_ONLY, PERFECT, MIXTURE = "real_only", "perfect", "mixture"


class ArmChoice(NamedTuple):
    """What an arm is trained on: the real third or not, the samples of a method or none, and how crops are augmented.

    `few`: the number of real defects of each type, with only the samples made from these; 0: the whole third.
    """

    name: str
    method: str = ""
    is_real: bool = True
    augmentation: Augmentation = "mild"
    few: int = 0


class Arm(NamedTuple):
    """One side of the comparison: its pairs of each kind, and how their crops are augmented."""

    name: str
    normal: Sequence[Pair]
    real: Sequence[Pair] = ()
    synthetic: Sequence[Pair] = ()
    augmentation: Augmentation = "mild"


class Training(NamedTuple):
    """One training of a segmenter: on which arm, with which network and seed, and without which fold of the real third (-1: with all)."""

    choice: ArmChoice
    model: str
    seed: int
    fold: int = -1

    @property
    def is_shown(self) -> bool:
        """Whether its weights, curve and predictions are shown, if its network is: the first seed's, with nothing left out."""
        return self.seed == 0 and self.fold < 0 and not self.choice.few

    @property
    def label(self) -> str:
        """The name of the training, for people and for the folder of its work."""
        arm = self.choice.name + (f", {self.choice.few} per type" if self.choice.few else "")
        return f"{arm}, {self.model}, seed {self.seed}" + (f", without fold {self.fold}" if self.fold >= 0 else "")

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return self.label.replace(", ", "-").replace(" ", "_")


def arm_name(method: str) -> str:
    """The arm that sees the real third and the samples of a method."""
    return f"real_and_{method}"


def only_name(method: str) -> str:
    """The arm that sees the samples of a method and no real defect."""
    return f"only_{method}"


def arm_label(arm: str) -> str:
    """An arm's name for people."""
    return arm.replace("_", " ")


def compared_arms(methods: Sequence[str], mixture: Mapping[str, float]) -> tuple[str, ...]:
    """The names that have an arm with samples: the methods, and their mixture if one is asked for."""
    return (*methods, MIXTURE) if mixture else (*methods,)


def arm_choices(methods: Sequence[str], more: Sequence[str], few: Sequence[int] = ()) -> list[ArmChoice]:
    """The real third alone, and with the samples of each of `compared_arms`; `more` as `segment.arms`; the first two again with `few` defects."""
    main = [ArmChoice(REAL_ONLY), *(ArmChoice(arm_name(method), method) for method in methods)]
    choices = list(main)
    if "real_augmented" in more:
        choices.insert(1, ArmChoice("real_augmented", augmentation="strong"))
    if "synthetic_only" in more:
        choices += [ArmChoice(only_name(method), method, is_real=False) for method in methods]
    if PERFECT in more:
        choices.append(ArmChoice(f"real_and_{PERFECT}", PERFECT))
    return choices + [choice._replace(few=count) for count in few for choice in main]


def shares_of(choice: ArmChoice, mixture: Mapping[str, float]) -> dict[str, float]:
    """The methods whose published samples an arm sees, sorted, and their shares, which sum to 1; none for real defects alone or drawn samples."""
    method = choice.method
    shares = mixture if method == MIXTURE else {method: 1.0} if method and method != PERFECT else {}
    return {one: share / sum(shares.values()) for one, share in sorted(shares.items())}


def trainings(methods: Sequence[str], params: Segment, defects: Sequence[str], groups: Sequence[str]) -> list[Training]:
    """Every training of a category, whose real third has these `defects` in these `groups`.

    The first seed's arms are also trained without each fold, for a threshold, if there are two groups or more; not those with `few`.
    A number in `few` that no type exceeds would mean the whole third again, and is left out.
    """
    folds = range(min(params.folds, len(set(groups)))) if len(set(groups)) > 1 else ()
    few = [count for count in params.few if count < max(Counter(defects).values())]
    found: list[Training] = []
    choices = arm_choices(compared_arms(methods, params.mixture), params.arms, few)
    for model, seed, choice in product(params.models, range(params.seeds), choices):
        found.append(Training(choice, model, seed))
        if seed == 0 and not choice.few:
            found += [Training(choice, model, seed, fold) for fold in folds]
    return found


def folds_of(defects: Sequence[str], groups: Sequence[str], count: int) -> list[int]:
    """The fold of each real training image: groups stay whole, and the images of a type are dealt out over `count` folds in turn."""
    fold: dict[str, int] = {}
    for _, group in sorted(zip(defects, groups, strict=True)):
        fold.setdefault(group, len(fold) % count)
    return [fold[group] for group in groups]


def few_of(defects: Sequence[str], count: int, random: np.random.Generator) -> list[int]:
    """The indices of `count` images of each type, drawn without replacement; all of a type that has fewer. In rising order."""
    by_type: dict[str, list[int]] = defaultdict(list)
    for index, defect in enumerate(defects):
        by_type[defect].append(index)
    return sorted(int(index) for _, indices in sorted(by_type.items()) for index in random.permutation(indices)[:count])


def make_arm(choice: ArmChoice, normal: Sequence[Pair], real: Sequence[Pair], synthetic: Sequence[Pair]) -> Arm:
    """The pairs of an arm. Raises Refusal if it lacks a kind that it needs: without its samples it would be another arm."""
    if not len(normal) or (choice.is_real and not len(real)):
        kind = "real defects" if len(normal) else "normal images"
        raise Refusal(f"Expected {kind} for arm {choice.name}, found none. Look at the summary of `prepare`.")
    if choice.method and not len(synthetic):
        raise without_samples(choice.method, choice.name)
    return Arm(choice.name, normal, real if choice.is_real else (), synthetic, choice.augmentation)


def without_samples(method: str, arm: str) -> Refusal:
    """What to say where an arm lacks its samples."""
    return Refusal(
        f"Expected accepted samples of {method} for arm {arm}, found none under data/synthesize. "
        "Look at the reasons in their shards; train longer, or raise synthesize.verdict.normal_pass."
    )
