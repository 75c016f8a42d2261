"""Rendering: a sample is a pure function of its row, and outside the mask it is the photograph, byte for byte."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_factory import Factory, build, make_plan, origin

from stage.datasets.blending import paste_back
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair, decode_image, decode_mask
from stage.datasets.table import read_catalog
from stage.model.base import pixels_to_tensor, tensor_to_pixels
from stage.model.checkpoints import load_checkpoint
from stage.model.diffusion import sample as draw_sample
from stage.model.masks import latent_mask
from stage.model.schedule import CLEAN, Branch, Transition
from stage.synthesis.batch import write_batch
from stage.synthesis.methods.stage import RowNoise, StageRenderer, moves
from stage.synthesis.placement import sample_mask
from stage.synthesis.rows import NamedMask, PlanRow


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def rows(factory: Factory) -> list[PlanRow]:
    """Of one defect type, with several backgrounds, masks and turns."""
    params = factory.params.synthesize.model_copy(update={"count": 9})
    source, templates = factory.source(), factory.params.base.prompts
    plan = make_plan(read_catalog(factory.catalog), params, templates, source=source, settings="test", root_seed=3)
    return [row for row in plan if row.defect == "crack"]


def render(factory: Factory, rows: list[PlanRow], renderer: StageRenderer | None = None, **changes: object) -> list[Pair]:
    """By this renderer, or one of the factory's parameters, some of `synthesize` changed."""
    return [one.pair for one in (renderer or factory.renderer(**changes)).render(rows, factory.source())]


def digests(samples: list[Pair]) -> list[str]:
    return [hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest() for image, mask in samples]


@pytest.mark.parametrize("known_region", ["posterior", "fresh", "fresh_resample"])
def test_two_runs_are_equal_to_the_bit(factory: Factory, rows: list[PlanRow], known_region: str) -> None:
    """A dataset could not be made again, and a resumed run would differ from an unbroken one."""
    changes = {"known_region": known_region, "jump_length": 2, "resamplings": 2}

    assert digests(render(factory, rows[:4], **changes)) == digests(render(factory, rows[:4], **changes))


def test_a_sample_does_not_depend_on_the_rows_beside_it(factory: Factory, rows: list[PlanRow]) -> None:
    """Asking for more samples, or losing a worker, would change the others."""
    full = digests(render(factory, rows[:4]))

    assert digests(render(factory, [rows[0], rows[5], rows[6], rows[3]]))[::3] == full[::3]
    assert len(set(full)) == 4


def test_a_padded_tail_gives_the_same_samples_as_a_full_batch(factory: Factory, rows: list[PlanRow]) -> None:
    """The last samples of a type would change when more are asked for."""
    full = digests(render(factory, rows[:4]))

    for count in (1, 2, 3):
        assert digests(render(factory, rows[:count])) == full[:count]


def test_the_network_always_sees_a_whole_batch(factory: Factory, rows: list[PlanRow]) -> None:
    """The last bits of a sample, which depend on the batch's shape, would depend on how many samples were asked for."""
    renderer, shapes = factory.renderer(), set[int]()
    hook = renderer.generator.unet.register_forward_pre_hook(lambda _, inputs: shapes.add(len(inputs[0])))
    with hook:
        samples = renderer.render(rows[:3], factory.source())

    assert (shapes, len(samples)) == ({4}, 3)


def test_torch_s_own_generator_plays_no_part(factory: Factory, rows: list[PlanRow]) -> None:
    """A sample would depend on what the process did before."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = digests(render(factory, rows[:2]))
        torch.manual_seed(2)
        assert digests(render(factory, rows[:2])) == first


def test_outside_the_mask_a_sample_is_its_background(factory: Factory, rows: list[PlanRow]) -> None:
    """A segmenter would learn the traces of the generator instead of the defect."""
    source = factory.source()
    for start in (0, 4, 8):
        batch = rows[start : start + 4]
        for row, sample in zip(batch, render(factory, batch), strict=True):
            background = source.backgrounds[row.background_sha256].image
            changed = (sample.image != background).any(axis=-1)
            assert not changed[sample.mask == 0].any()
            assert changed[sample.mask == 1].any()


def test_a_sample_s_mask_is_the_one_that_was_planned(factory: Factory, rows: list[PlanRow]) -> None:
    """The label would not be where the defect is."""
    samples = [sample for start in (0, 4, 8) for sample in render(factory, rows[start : start + 4])]

    assert [pixel_digest(sample.mask) for sample in samples] == [row.mask_digest for row in rows]
    assert len({sample.mask.tobytes() for sample in samples}) > 2


def test_without_windows_a_sample_is_the_sampler_s_and_the_paste_s(factory: Factory, rows: list[PlanRow]) -> None:
    """The paper's setting would be rendered in another way than the mathematics that is tested: here its parts, put together by hand."""
    renderer, source, batch = factory.renderer(), factory.source(), rows[:4]
    base, conditions = renderer.generator.base, renderer.conditions

    def predict(x_t: torch.Tensor, t: int, branch: Branch, mask: torch.Tensor) -> torch.Tensor:
        return renderer.generator.predict_noise(x_t, t, branch, mask, conditions[branch][0].expand(4, -1, -1))

    backgrounds = np.stack([source.backgrounds[row.background_sha256].image for row in batch])
    masks = [sample_mask(row, source, renderer.params.perlin) for row in batch]
    with torch.inference_mode():
        x_back = base.encode(pixels_to_tensor(backgrounds))
        cells = torch.stack([latent_mask(mask, base.factor, "max") for mask in masks])
        x_0 = draw_sample(predict, x_back, cells, moves=renderer.moves, rule=renderer.rule, draw=RowNoise(batch, x_back))
        made = tensor_to_pixels(base.decode(x_0))
    expected = [paste_back(*pixels) for pixels in zip(made, backgrounds, masks, strict=True)]

    for sample, image in zip(render(factory, batch, renderer), expected, strict=True):
        assert sample.image.tobytes() == image.tobytes()


def windowed(factory: Factory) -> StageRenderer:
    """Every defect of up to 15 px on a window, enlarged."""
    crop = factory.params.method.crop.model_copy(update={"below": 16, "defect_share": 0.9, "smallest": 8})
    method = factory.params.method.model_copy(update={"crop": crop})
    return factory.renderer(method)


def test_windows_keep_a_sample_s_promises(factory: Factory, rows: list[PlanRow]) -> None:
    """Enlarging would move pixels outside the mask, or make a sample depend on its neighbours; here each has a window of its own size."""
    renderer, source = windowed(factory), factory.source()
    full = renderer.render(rows[:4], source)
    pairs = [one.pair for one in full]

    assert digests(render(factory, [rows[0], rows[5], rows[6], rows[3]], renderer))[::3] == digests(pairs)[::3]
    assert digests(pairs) != digests(render(factory, rows[:4]))
    for row, (sample, shown, reach, redrawn, _) in zip(rows[:4], full, strict=True):
        changed = (sample.image != source.backgrounds[row.background_sha256].image).any(axis=-1)
        assert not changed[sample.mask == 0].any()
        assert changed[sample.mask == 1].any()
        assert shown is not None
        assert np.array_equal(shown, sample.mask == 1)
        assert (reach, redrawn) == (0, None)


def test_another_precision_gives_nearly_the_same_sample(factory: Factory, rows: list[PlanRow]) -> None:
    """`precision` would be without effect, or its rounding go into the background and the noise schedule too."""
    params = factory.params
    fresh = load_checkpoint(factory.data / "pretrain" / "base", factory.data / "train" / "part")
    settings = params.synthesize.model_copy(update={"precision": "bfloat16"})
    renderer = StageRenderer(
        fresh, params.method, settings, params.base.prompts, pasting=params.paste, image_size=params.base.image_size, device="cpu"
    )

    for half, exact in zip(render(factory, rows[:4], renderer), render(factory, rows[:4]), strict=True):
        difference = np.abs(half.image.astype(int) - exact.image)
        assert difference.max() > 0
        assert difference[half.mask == 1].mean() < 8
        assert not difference[half.mask == 0].any()
    assert {weight.dtype for weight in renderer.generator.adapters.state_dict().values()} <= {torch.float32, torch.int64}


def test_another_seed_gives_another_defect(factory: Factory, rows: list[PlanRow]) -> None:
    """Five hundred samples would be one sample on five hundred photographs."""
    first = rows[0]
    same, other, *_ = render(factory, [first, first._replace(seed=first.seed + 1)])

    inside = same.mask == 1
    assert (same.image[inside] != other.image[inside]).mean() > 0.5


@pytest.mark.parametrize(
    "changes", [{"steps": 5}, {"known_region": "fresh"}, {"graded_intervals": ()}, {"spacing": "coarse_to_fine"}, {"mask_noise": "shared"}]
)
def test_sampling_parameters_reach_the_sampler(factory: Factory, rows: list[PlanRow], changes: dict[str, object]) -> None:
    """An ablation would compare a method with itself."""
    assert digests(render(factory, rows[:1], **changes)) != digests(render(factory, rows[:1]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("graded_intervals", ((1, 2),)),
        ("known_region", "fresh"),
        ("composition", "released"),
        ("mask_noise", "shared"),
        ("last_step", "noisy"),
    ],
)
def test_every_switch_is_a_field_of_the_rule(factory: Factory, name: str, value: object) -> None:
    """A named setting would carry a value that nothing reads."""
    default, changed = (vars(factory.renderer(**changes).rule) for changes in ({}, {name: value}))

    assert {field for field in default if field not in ("schedule", "x_0_bounds") and default[field] != changed[field]} == {name}
    assert changed[name] == value


def test_the_clamp_is_the_range_of_the_training_latents_or_none(factory: Factory) -> None:
    """Defects would be clipped where the paper does not, or not where the default does."""
    bounds = factory.renderer(clamp=True).rule.x_0_bounds

    assert bounds is not None
    assert all(torch.equal(one, other) for one, other in zip(bounds, factory.checkpoint.bounds, strict=True))
    assert factory.renderer(clamp=False).rule.x_0_bounds is None


def test_noise_of_a_row_is_its_own_in_any_company(rows: list[PlanRow]) -> None:
    """A sample's noise would depend on its neighbours."""
    like = torch.zeros(3, 2, 5, 5)
    noise, reversed_noise = RowNoise(rows[:3], like), RowNoise(rows[:3][::-1], like)

    draws = [(noise(), reversed_noise()) for _ in range(3)]

    assert all(torch.equal(one, other.flip(0)) for one, other in draws)
    assert torch.equal(draws[2][0][1], _third_draw(rows[1].seed))
    assert all(one.shape == like.shape for one, _ in draws)


def _third_draw(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 5, 5, generator=generator) for _ in range(3)][2]


def test_the_walk_ends_free_of_noise_in_as_many_calls_as_steps(factory: Factory) -> None:
    """Samples would keep noise, or cost more than was asked for."""
    params = factory.params.synthesize
    plain = moves(params, 1000)
    resampled = moves(params.model_copy(update={"known_region": "fresh_resample", "jump_length": 1, "resamplings": 2}), 1000)

    assert plain == [Transition(999, 749), Transition(749, 499), Transition(499, 249), Transition(249, CLEAN)]
    assert sum(move.s < move.t for move in resampled) == 1 + 2 * 3
    assert resampled[-1].s == CLEAN


def test_a_written_batch_holds_rows_verdicts_and_pixels(factory: Factory, rows: list[PlanRow], tmp_path: Path) -> None:
    """A sample would carry another one's lineage, or be rendered differently than when asked for alone."""
    renderer, source = factory.renderer(), factory.source()

    write_batch(renderer, rows[4:7], source, None, origin=origin(), file=tmp_path / "b.parquet")

    written = pq.read_table(tmp_path / "b.parquet").to_pylist()
    for row, found, sample in zip(rows[4:7], written, render(factory, rows[4:7], renderer), strict=True):
        assert {name: found[name] for name in PlanRow._fields} == row._asdict()
        assert np.array_equal(decode_image(found["image"]["bytes"]), sample.image)
        assert np.array_equal(decode_mask(found["mask"]["bytes"]), sample.mask)
        assert (found["checkpoint"], found["verdict"], found["outside"]) == ("c" * 64, "accepted", 0)
        assert (found["components"], found["visible"]) == (1, 1)
        difference = np.abs(sample.image.astype(float) - source.backgrounds[row.background_sha256].image)
        assert found["contrast"] == pytest.approx(difference[sample.mask == 1].mean(), abs=5e-4)


def test_a_batch_that_looks_normal_is_written_with_its_reasons(factory: Factory, rows: list[PlanRow], tmp_path: Path) -> None:
    """Rejected samples would vanish."""
    judge = factory.strict_job(tmp_path / "spool", 10.0).judge

    write_batch(factory.renderer(), rows[:3], factory.source(), judge, origin=origin(), file=tmp_path / "b.parquet")

    written = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert [row["verdict"] for row in written] == ["rejected"] * 3
    assert all(row["reason"].startswith("looks normal: 1 of 1 defects") and row["margin"] < 0 for row in written)
    photographs = {*factory.source().photographs}
    assert all(row["nearest_sha256"] in photographs and row["nearest_distance"] > 0 for row in written)


def test_a_batch_says_what_the_grid_could_not_hold(factory: Factory, rows: list[PlanRow], tmp_path: Path) -> None:
    """A photograph would be published under a mask of a defect that the network never heard of: one pixel, on the released code's grid."""
    method = factory.params.method.model_copy(update={"mask_reduction": "released"})
    renderer = factory.renderer(method)
    source, mask = factory.source(), np.zeros((16, 16), np.uint8)
    mask[8, 8] = 1
    spot = source._replace(masks={NamedMask("", "spot"): Pair(np.zeros((16, 16, 3), np.uint8), mask)})
    planned = {
        "mask_kind": "real",
        "mask_path": "",
        "mask_sha256": "spot",
        "mask_turn": 0,
        "mask_shift_y": 0,
        "mask_shift_x": 0,
        "foreground": "none",
    }
    row = rows[0]._replace(**planned, mask_digest=pixel_digest(mask))

    write_batch(renderer, [row], spot, None, origin=origin(), file=tmp_path / "b.parquet")

    assert pq.read_table(tmp_path / "b.parquet")["reason"].to_pylist() == ["1 of 1 defects have no cell on the latent grid"]


def test_latents_that_are_not_finite_are_no_sample(factory: Factory, rows: list[PlanRow]) -> None:
    """They would be black pixels, which pass for a defect of high contrast."""
    renderer = factory.renderer()
    low = renderer.rule.x_0_bounds
    assert low is not None
    renderer.rule = replace(renderer.rule, x_0_bounds=(low[0] * torch.nan, low[1] * torch.nan))

    with pytest.raises(ValueError, match=r"finite latents, found nan or inf in the batch of stage/part/.*synthesize.precision to float32"):
        renderer.render(rows[:2], factory.source())
