import hashlib
import json
import os
import shutil

import pytest
import torch
from miniatures import defect_images, small_base, small_params
from safetensors.torch import load_file, save_file

from stage.core.digests import LARGE, file_digest, folder_digest
from stage.core.errors import ConfigError
from stage.model.base import load_base
from stage.model.checkpoints import load_checkpoint, save_checkpoint
from stage.model.files import base_digest
from stage.model.training import train


@pytest.fixture(scope="module", params=[False, True], ids=["frozen", "train_base"])
def saved(request, tmp_path_factory):
    """A miniature trained on a saved base, and its checkpoint: (trained, base folder, checkpoint folder)."""
    root = tmp_path_factory.mktemp("checkpoint")
    small_base().save(root / "base")
    params = small_params(iterations=3, train_base=request.param)
    trained = train(load_base(root / "base"), defect_images(), params, state=root / "state.safetensors")
    save_checkpoint(trained.generator, trained.bounds, root / "base", root / "out", with_unet=request.param, source="acme/base")
    return trained, root / "base", root / "out"


def test_loaded_generator_is_the_trained_one(saved):
    """Otherwise samples would not be made by what was trained: the same conditions and estimates, types and bounds."""
    trained, base, folder = saved
    loaded = load_checkpoint(base, folder)
    before, after = trained.generator.eval(), loaded.generator
    templates = small_params().base.prompts
    x_t = torch.randn(2, before.base.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    with torch.no_grad():
        conditions, loaded_conditions = before.conditions(templates), after.conditions(templates)
        for branch in ("anomaly_aware", "anomaly_only"):
            assert torch.equal(conditions[branch], loaded_conditions[branch])
            estimates = [generator.predict_noise(x_t, 500, branch, mask, conditions[branch]) for generator in (before, after)]
            assert torch.equal(*estimates)
    assert (after.category, after.types, after.token_count) == ("bottle", ("broken_large", "crack"), before.token_count)
    assert all(torch.equal(*pair) for pair in zip(trained.bounds, loaded.bounds, strict=True))


def test_loaded_generator_is_ready_to_sample(saved):
    """Otherwise batch normalisation would make a sample depend on its neighbours in the batch."""
    _, base, folder = saved
    generator = load_checkpoint(base, folder).generator
    assert not any(module.training for module in generator.modules())
    assert not any(p.requires_grad for p in generator.parameters())


def test_checkpoint_holds_only_what_was_trained_and_no_pickle(saved):
    """Otherwise every category would carry a copy of the base, gigabytes of it, or run code when it is loaded."""
    trained, _, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["adapters.safetensors", "checkpoint.json"]
    tensors = load_file(folder / "adapters.safetensors")
    parts = {name.split(".")[0] for name in tensors}
    assert parts - {"unet"} == {"adapters", "tokens", "bounds"}
    assert ("unet" in parts) == any(p.requires_grad for p in trained.generator.unet.parameters())
    assert tensors["tokens"].shape[0] == trained.generator.token_count * 2


def test_another_base_is_refused(saved, tmp_path):
    """Otherwise adapters would refine estimates of a network that they never saw, and draw noise."""
    _, _, folder = saved
    small_base(seed=5).save(tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"Expected the base [0-9a-f]{12} \(acme/base\) that .* was trained on, found [0-9a-f]{12} in .*dvc repro train@bottle",
    ):
        load_checkpoint(tmp_path, folder)


def test_checkpoint_names_its_base(saved):
    """Otherwise nobody could tell from a checkpoint which base to fetch for it: its name for people, its digest for the check."""
    _, base, folder = saved
    facts = json.loads((folder / "checkpoint.json").read_text())
    assert (facts["base"], facts["base_digest"], facts["adapters"]) == ("acme/base", base_digest(base), True)


def test_checkpoint_without_adapters(tmp_path):
    """Otherwise the ablation's first row would sample with adapters that nobody trained: tokens alone are saved, and come back."""
    small_base().save(tmp_path / "base")
    params = small_params(precision="bfloat16")
    params = params.model_copy(update={"method": params.method.model_copy(update={"adapters": False})})
    trained = train(load_base(tmp_path / "base"), defect_images(), params, state=tmp_path / "state.safetensors")
    save_checkpoint(trained.generator, trained.bounds, tmp_path / "base", tmp_path / "out", with_unet=False)
    assert set(load_file(tmp_path / "out" / "adapters.safetensors")) == {"tokens", "bounds"}
    generator = load_checkpoint(tmp_path / "base", tmp_path / "out").generator
    assert len(generator.adapters) == 0
    assert torch.equal(generator.tokens.weight, trained.generator.tokens.weight)
    assert {p.dtype for p in generator.parameters()} == {torch.float32}  # the precision of a training is not the base's


def test_a_base_may_move(saved, tmp_path):
    """Otherwise a checkpoint would be lost with the folder's name, or on another machine."""
    _, base, folder = saved
    shutil.copytree(base, tmp_path / "elsewhere")
    assert load_checkpoint(tmp_path / "elsewhere", folder).digest == load_checkpoint(base, folder).digest


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


def drop(path, name):
    """Leave out one entry of the weights, or of the facts."""
    if path.suffix == ".json":
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != name}))
    else:
        save_file({key: value for key, value in load_file(path).items() if key != name}, path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: cut(folder / "adapters.safetensors", 0),
        lambda folder: cut(folder / "adapters.safetensors", 100),
        lambda folder: cut(folder / "adapters.safetensors", -10),
        lambda folder: (folder / "adapters.safetensors").unlink(),
        lambda folder: drop(folder / "adapters.safetensors", "tokens"),
        lambda folder: drop(folder / "adapters.safetensors", "bounds"),
        lambda folder: drop(folder / "adapters.safetensors", min(load_file(folder / "adapters.safetensors"))),
        lambda folder: cut(folder / "checkpoint.json", 0),
        lambda folder: cut(folder / "checkpoint.json", 100),
        lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff[]"),
        lambda folder: (folder / "checkpoint.json").unlink(),
        lambda folder: drop(folder / "checkpoint.json", "types"),
        lambda folder: drop(folder / "checkpoint.json", "base_digest"),
        shutil.rmtree,
    ],
)
def test_a_damaged_checkpoint_is_refused(spoil, saved, tmp_path):
    """Otherwise a full disk or an older version would end in a traceback, without a word on what to do."""
    _, base, folder = saved
    damaged = shutil.copytree(folder, tmp_path / "bottle")
    spoil(damaged)
    with pytest.raises(
        ConfigError, match=r"^Expected a complete checkpoint with .*bottle/.*, found \w+: .*\. Run `dvc repro -f train@bottle`\.$"
    ):
        load_checkpoint(base, damaged)


def test_digest_of_a_file_is_sha256(tmp_path):
    """Otherwise lineage would name a hash that nobody else can compute."""
    (tmp_path / "a").write_bytes(b"stage")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"stage").hexdigest()


def test_a_large_file_is_read_again_when_it_has_changed(tmp_path):
    """Otherwise a base exchanged under a running process would pass for the one that it was."""
    path = tmp_path / "weights"
    contents = [bytes([k]) * LARGE for k in (1, 2)]
    for number, content in enumerate(contents):
        path.write_bytes(content)
        os.utime(path, ns=(number, number))
        for _ in range(2):
            assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_digest_of_a_folder_sees_names_and_contents(tmp_path):
    """Otherwise two different bases could pass for one."""
    digests = set()
    for number, files in enumerate([{"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1"}, {"a": "1", "c": "2"}, {"a": "12"}]):
        folder = tmp_path / str(number)
        for name, content in files.items():
            (folder / "sub").mkdir(parents=True, exist_ok=True)
            (folder / "sub" / name).write_text(content)
        digests.add(folder_digest(folder))
    assert len(digests) == 5
