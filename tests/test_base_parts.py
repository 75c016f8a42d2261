import functools
import json
import os
import pickle
import re
import shutil

import pytest
import torch
from miniatures import TEXTS, write_latent_diffusion, write_stable_diffusion
from safetensors.torch import load_file, save_file

from flows.environment import base_times, start_digest
from stage.core.digests import folder_digest
from stage.core.errors import ConfigError
from stage.model.base import load_base
from stage.model.files import base_digest, read_index

NETWORKS = {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", "vae": "AutoencoderKL"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A Stable Diffusion miniature, and the pipeline that saved it."""
    folder = tmp_path_factory.mktemp("sd") / "base"
    return write_stable_diffusion(folder), folder


@pytest.fixture
def broken(whole, tmp_path):
    """A copy of it to spoil."""
    return shutil.copytree(whole[1], tmp_path / "base")


@pytest.fixture
def pickled(tmp_path):
    """The same with pickled weights."""
    write_stable_diffusion(tmp_path / "base", safe=False)
    return tmp_path / "base"


def reindex(folder, **parts):
    index = json.loads((folder / "model_index.json").read_text()) | parts
    (folder / "model_index.json").write_text(json.dumps(index))


def weights_of(folder, part):
    (found,) = [*(folder / part).glob("*.safetensors"), *(folder / part).glob("*.bin")]
    return found


def same_weights(a, b):
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def test_folder_without_index_is_refused(tmp_path):
    """Otherwise a wrong folder would end in a traceback."""
    with pytest.raises(ConfigError, match=r"diffusers' layout, found no model_index.json in .*base.source"):
        load_base(tmp_path)


@pytest.mark.parametrize("text", ['{"unet": ', "[1, 2]", "null"])
def test_unreadable_index_is_refused(text, broken):
    """Otherwise an index cut off by a broken download would end in a traceback."""
    (broken / "model_index.json").write_text(text)
    with pytest.raises(ConfigError, match=r"Expected JSON in .*model_index.json"):
        load_base(broken)


@pytest.mark.parametrize(
    ("part", "cls"),
    [
        ("text_encoder", "T5EncoderModel"),
        ("unet", "UNet3DConditionModel"),
        ("vae", "VQModel"),
        ("scheduler", "FlowMatchEulerDiscreteScheduler"),
    ],
)
def test_another_class_is_refused_by_name(broken, part, cls):
    """Otherwise any class named in a downloaded file would be built, or a base of another kind fail much later."""
    reindex(broken, **{part: ["diffusers", cls]})
    with pytest.raises(ConfigError, match=rf"Expected {part} to be one of .*, found {cls}, in .*model_index.json"):
        load_base(broken)


@pytest.mark.parametrize("entry", [None, [None, None], [], "CLIPTokenizer"])
def test_missing_part_is_refused_by_name(entry, broken):
    """Otherwise an incomplete checkpoint would end in a traceback."""
    reindex(broken, tokenizer=entry)
    with pytest.raises(ConfigError, match=r"Expected tokenizer to be one of .*, found nothing"):
        load_base(broken)


@pytest.mark.parametrize("library", ["latent_diffusion", "stable_diffusion", "ldm", "diffusers"])
def test_the_library_that_an_index_names_does_not_matter(library, tmp_path):
    """Otherwise the paper's base would load or not by the year in which its index was written."""
    write_latent_diffusion(tmp_path / "base")
    reindex(tmp_path / "base", bert=[library, "LDMBertModel"])
    assert read_index(tmp_path / "base")["bert"] == "LDMBertModel"


@pytest.mark.parametrize(
    ("part", "file", "wanted"),
    [
        ("unet", "config.json", "config.json"),
        ("vae", "config.json", "config.json"),
        ("text_encoder", "config.json", "config.json"),
        ("scheduler", "scheduler_config.json", "scheduler_config.json"),
        ("tokenizer", "tokenizer.json", "tokenizer.json or vocab.json with merges.txt"),
        ("unet", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors or diffusion_pytorch_model.bin"),
        ("text_encoder", "model.safetensors", "model.safetensors or pytorch_model.bin"),
    ],
)
def test_a_missing_file_is_named(broken, part, file, wanted):
    """Otherwise the user would have to guess; a tokenizer without its words loads silently, with an empty vocabulary."""
    (broken / part / file).unlink()
    with pytest.raises(ConfigError, match=rf"Expected {re.escape(wanted)}.* in .*{part}, found .*\. Fetch"):
        load_base(broken)


def test_a_missing_folder_is_named(broken):
    """Otherwise an incomplete checkpoint would end in a traceback."""
    shutil.rmtree(broken / "vae")
    with pytest.raises(ConfigError, match=r"Expected config.json in .*vae, found no files"):
        load_base(broken)


@pytest.mark.parametrize("part", NETWORKS)
def test_a_variant_is_not_taken_for_the_weights(part, broken):
    """Otherwise half precision, or an average of weights that was not asked for, would be loaded where the weights are missing."""
    found = weights_of(broken, part)
    found.rename(found.with_name(f"{found.stem}.fp16{found.suffix}"))
    with pytest.raises(ConfigError, match=rf"Expected {found.name} or .*\.bin, .* in .*{part}, found .*fp16.safetensors"):
        load_base(broken)


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize("length", [0, 100, -50])
def test_truncated_safetensors_are_refused(part, broken, length):
    """Otherwise a broken download would end in a traceback."""
    found = weights_of(broken, part)
    found.write_bytes(found.read_bytes()[:length])
    with pytest.raises(ConfigError, match=rf"Expected a complete {NETWORKS[part]} in .*{part}, found: .*\. Fetch"):
        load_base(broken)


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize("spoiled", [slice(0), slice(100), slice(-50), b"<html>\xff", b"version https://git-lfs.github.com/spec/v1"])
def test_truncated_pickles_are_refused(pickled, part, spoiled):
    """Otherwise a broken download, or the page of an error in place of the file, would end in a traceback."""
    found = weights_of(pickled, part)
    found.write_bytes(spoiled if isinstance(spoiled, bytes) else found.read_bytes()[spoiled])
    with pytest.raises(ConfigError, match=rf"Expected named tensors and nothing else in .*{part}/{found.name}, found a damaged file"):
        load_base(pickled)


class Exploit:
    """Unpickled without care, it leaves a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.trace),)


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize("saved", ["by_torch", "by_torch_of_old", "by_pickle"])
def test_a_malicious_pickle_runs_nothing(part, saved, pickled, tmp_path, monkeypatch):
    """Otherwise whoever uploads a checkpoint would run code here; not even where torch's own switch allows it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace, found = tmp_path / "trace", weights_of(pickled, part)
    content = torch.load(found, weights_only=True) | {"more": Exploit(trace)}
    if saved == "by_pickle":
        found.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, found, _use_new_zipfile_serialization=saved == "by_torch")
    with pytest.raises(ConfigError, match=r"Expected named tensors and nothing else in .*which might run code; none was run") as refused:
        load_base(pickled)
    assert not trace.exists()
    assert "weights_only" not in str(refused.value)
    pickle.loads(pickle.dumps(Exploit(trace)))
    assert trace.exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {"weight": 1}, {1: torch.zeros(2)}, {"state_dict": {"weight": torch.zeros(2)}}, torch.zeros(3)]
)
def test_a_pickle_of_something_else_is_refused(content, pickled):
    """Otherwise a training checkpoint, or anything else under that name, would end in a traceback."""
    torch.save(content, weights_of(pickled, "text_encoder"))
    with pytest.raises(ConfigError, match=r"Expected named tensors and nothing else in .*pytorch_model.bin"):
        load_base(pickled)


@pytest.mark.parametrize("part", NETWORKS)
def test_safetensors_come_before_a_pickle(part, broken):
    """Otherwise a pickle would be read where there is no need to."""
    found = weights_of(broken, part)
    (found.parent / ("pytorch_model.bin" if part == "text_encoder" else f"{found.stem}.bin")).write_bytes(b"not read")
    assert load_base(broken).channels == 4


@pytest.mark.parametrize("part", NETWORKS)
def test_missing_weights_are_refused(broken, part):
    """Otherwise the libraries would fill them with random numbers, new ones in every process, and only log it."""
    found = weights_of(broken, part)
    tensors = load_file(found)
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, found, metadata={"format": "pt"})
    message = rf"Expected a complete \w+ in .*{part}, found no weights of the right shape for .*{re.escape(name.split('.')[-2])}"
    with pytest.raises(ConfigError, match=message):
        load_base(broken)


@pytest.mark.parametrize(
    ("part", "key", "message"),
    [
        ("unet", "cross_attention_dim", r"found: .*attn2.to_k.weight expected shape .*32.*, but got .*16"),
        ("text_encoder", "hidden_size", r"found no weights of the right shape for embeddings"),
    ],
)
def test_weights_of_another_size_are_refused(broken, part, key, message):
    """Otherwise the files of two checkpoints, mixed up, would end in a traceback."""
    path = broken / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 32}))
    with pytest.raises(ConfigError, match=rf"Expected a complete {NETWORKS[part]} in .*{part}, {message}"):
        load_base(broken)


@pytest.mark.parametrize(("part", "other"), [("unet", "vae"), ("vae", "unet"), ("text_encoder", "unet"), ("unet", "text_encoder")])
def test_another_networks_folder_is_refused(part, other, broken):
    """Otherwise a folder put in the wrong place would load as random numbers."""
    weights = weights_of(broken, part).name
    shutil.rmtree(broken / part)
    shutil.copytree(broken / other, broken / part)
    weights_of(broken, part).rename(broken / part / weights)
    with pytest.raises(ConfigError, match=rf"Expected a complete {NETWORKS[part]} in .*{part}, found"):
        load_base(broken)


@pytest.mark.parametrize("part", ["unet", "tokenizer", "scheduler"])
def test_damaged_settings_are_refused(part, broken):
    """Otherwise a broken download would end in a traceback."""
    (path,) = [path for path in (broken / part).glob("*.json") if path.name != "tokenizer_config.json"]
    path.write_text(path.read_text()[:30])
    with pytest.raises(ConfigError, match=rf"Expected a complete \w+ in .*{part}, found: "):
        load_base(broken)


def shard(path):
    """Split a file of weights in two with an index, as the libraries do; returns the shards."""
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    names = sorted(tensors)
    parts = [path.with_name(f"{path.stem}-0000{k}-of-00002{path.suffix}") for k in (1, 2)]
    for place, chosen in zip(parts, (names[::2], names[1::2]), strict=True):
        content = {name: tensors[name] for name in chosen}
        save_file(content, place, metadata={"format": "pt"}) if path.suffix == ".safetensors" else torch.save(content, place)
    places = {name: parts[k % 2].name for k, name in enumerate(names)}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": places}))
    path.unlink()
    return parts


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
@pytest.mark.parametrize("format", ["broken", "pickled"])
def test_shards_are_one_network(part, format, whole, request):
    """Otherwise a large checkpoint could not be a base, or lose a half of its weights unnoticed."""
    pipeline, folder = whole[0], request.getfixturevalue(format)
    first, _ = shard(weights_of(folder, part))
    base = load_base(folder)
    assert same_weights(base.unet, pipeline.unet)
    assert same_weights(base.text_encoder, pipeline.text_encoder)
    first.unlink()
    with pytest.raises(ConfigError, match=rf"Expected the shards that .*index.json lists, {first.name} among them in .*{part}, found"):
        load_base(folder)


def test_a_malicious_shard_runs_nothing(pickled, tmp_path):
    """Otherwise code could hide in a shard."""
    _, second = shard(weights_of(pickled, "unet"))
    torch.save({"more": Exploit(tmp_path / "trace")}, second)
    with pytest.raises(ConfigError, match=rf"Expected named tensors and nothing else in .*{second.name}"):
        load_base(pickled)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../../elsewhere.safetensors"}}'])
def test_an_index_of_shards_that_cannot_be_followed_is_refused(text, broken):
    """Otherwise a damaged index would end in a traceback, or one with a path lead out of the folder."""
    shard(weights_of(broken, "unet"))
    (broken / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    with pytest.raises(ConfigError, match=r"an index of weights in shards in|the shards that .* lists, .*elsewhere"):
        load_base(broken)


def test_weights_under_their_older_names_are_found(whole, broken):
    """Otherwise checkpoints of Stable Diffusion's time would be refused: `text_model.` before text weights, `query` for `to_q`."""
    rename(broken / "text_encoder", lambda name: f"text_model.{name}")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    rename(broken / "vae", lambda name: functools.reduce(lambda text, new: text.replace(f".{new}.", f".{old[new]}."), old, name))
    base = load_base(broken)
    assert same_weights(base.text_encoder, whole[0].text_encoder)
    assert same_weights(base.codec, whole[0].vae)


def rename(folder, rule):
    (found,) = folder.glob("*.safetensors")
    save_file({rule(name): value for name, value in load_file(found).items()}, found, metadata={"format": "pt"})


def test_half_precision_becomes_full(whole, tmp_path):
    """Otherwise a text encoder saved in float16 would compute in it, on the CPU too, and learned tokens be rounded to it."""
    shutil.copytree(whole[1], tmp_path / "base")
    for part, network in zip(NETWORKS, load_base(whole[1]).modules(), strict=True):
        network.half().save_pretrained(tmp_path / "base" / part)
    base = load_base(tmp_path / "base")
    assert {p.dtype for module in base.modules() for p in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("write", [write_stable_diffusion, write_latent_diffusion])
def test_vocabularies_of_the_older_format_give_the_same_tokens(write, tmp_path):
    """Otherwise real checkpoints, whose tokenizers are lists of words and merges, would be refused or read other words."""
    write(tmp_path / "base")
    expected = load_base(tmp_path / "base").tokenizer(TEXTS).input_ids
    place = tmp_path / "base" / "tokenizer"
    model = json.loads((place / "tokenizer.json").read_text())["model"]
    (place / "tokenizer.json").unlink()
    if "merges" in model:
        (place / "vocab.json").write_text(json.dumps(model["vocab"]))
        (place / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]))
    else:
        (place / "vocab.txt").write_text("\n".join(sorted(model["vocab"], key=model["vocab"].get)))
    assert load_base(tmp_path / "base").tokenizer(TEXTS).input_ids == expected
    assert len({tuple(ids) for ids in expected}) == len(TEXTS)


@pytest.mark.parametrize(
    ("write", "other", "wanted"),
    [
        (write_stable_diffusion, ["vocab.txt"], "tokenizer.json or vocab.json with merges.txt"),
        (write_latent_diffusion, ["vocab.json", "merges.txt"], "tokenizer.json or vocab.txt"),
    ],
)
def test_the_vocabulary_of_another_class_is_refused(write, other, wanted, tmp_path):
    """Otherwise a tokenizer would load with two words, and every prompt read the same."""
    write(tmp_path / "base")
    for path in (tmp_path / "base" / "tokenizer").glob("*.json"):
        if path.name in ("tokenizer.json", "vocab.json"):
            path.unlink()
    for name in other:
        (tmp_path / "base" / "tokenizer" / name).write_text("bottle\ncrack\n")
    with pytest.raises(ConfigError, match=rf"Expected {re.escape(wanted)} in .*tokenizer, found .*\. Fetch"):
        load_base(tmp_path / "base")


def test_a_base_is_what_is_read_of_it(broken):
    """Otherwise a README or another tool's download beside the weights would have every category trained again."""
    before, times = base_digest(broken), base_times(str(broken))
    assert before == folder_digest(broken)  # a folder without anything else
    assert {*times} == {path.relative_to(broken).as_posix() for path in broken.rglob("*") if path.is_file()}
    (broken / "README.md").write_text("new")
    (broken / ".cache" / "huggingface").mkdir(parents=True)
    (broken / ".cache" / "huggingface" / "unet.lock").write_text("")
    weights = weights_of(broken, "unet")
    for name in ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"):
        shutil.copy(weights, weights.with_name(name))
    (weights.parent / ".DS_Store").write_bytes(b"x")
    assert base_digest(broken) == before
    assert base_times(str(broken)) == times  # which DVC compares
    (broken / "model_index.json").write_text("{}")
    assert base_times(str(broken)) == {}  # `pretrain` says what is wrong


def test_a_base_to_begin_with_is_the_same_in_every_clone(broken, tmp_path):
    """Git gives files the time of the checkout, and every clone would train again what another has published."""
    clone = shutil.copytree(broken, tmp_path / "clone")
    os.utime(weights_of(clone, "unet"), (0, 0))

    assert start_digest(str(clone)) == start_digest(str(broken)) == base_digest(broken)
    weights_of(clone, "unet").write_bytes(b"other")
    assert start_digest(str(clone)) != base_digest(broken)
    assert start_digest("none") == start_digest(str(tmp_path)) == ""


@pytest.mark.parametrize("name", ["model_index.json", "vae/config.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"])
def test_a_base_is_another_with_another_file(name, broken):
    """Otherwise checkpoints would be used with a base that reads or computes something else."""
    before = base_digest(broken)
    (broken / name).write_text((broken / name).read_text() + "\n")
    changed = base_digest(broken)
    weights = weights_of(broken, "unet")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert len({before, changed, base_digest(broken)}) == 3
