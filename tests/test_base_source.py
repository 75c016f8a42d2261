import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, snapshot_download
from huggingface_hub.utils import _http
from miniatures import write_latent_diffusion, write_stable_diffusion
from small_hub import NAME, serving

from stage.core.errors import ConfigError
from stage.model.base import load_base
from stage.model.base_pointer import follow_pointer, note_start, origin_in_words, start_of, write_pointer
from stage.model.base_source import locate, wanted_weights
from stage.model.files import base_digest

# Every kind of file name that mirrors of Stable Diffusion 1.x have, for two of the parts.
STABLE_DIFFUSION = [
    ".gitattributes",
    "README.md",
    "feature_extractor/preprocessor_config.json",
    "model_index.json",
    "safety_checker/config.json",
    "safety_checker/model.fp16.safetensors",
    "safety_checker/model.safetensors",
    "safety_checker/pytorch_model.bin",
    "text_encoder/config.json",
    "text_encoder/flax_model.msgpack",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "text_encoder/pytorch_model.fp16.bin",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.bin",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/model.onnx",
    "v1-5-pruned-emaonly.ckpt",
    "v1-5-pruned-emaonly.safetensors",
]


@pytest.fixture
def hub_at(monkeypatch, tmp_path):
    """Point the hub's client at an address, with an empty cache; it tries again without waiting."""
    monkeypatch.setattr(_http, "time", SimpleNamespace(**{**vars(time), "sleep": lambda _: None}))

    def point(address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    return point


@pytest.fixture
def hub(hub_at, tmp_path):
    """A hub whose repository is an empty folder."""
    (tmp_path / "repository").mkdir()
    with serving(tmp_path / "repository") as server:
        hub_at(server.address)
        yield server


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def clutter(folder):
    """What a popular checkpoint has beside its weights: variants, other formats, and the whole model once more at the root."""
    for path in list(folder.glob("*/*.safetensors")) + list(folder.glob("*/*.bin")):
        for variant in ("fp16", "non_ema"):
            shutil.copy(path, path.with_name(f"{path.stem}.{variant}{path.suffix}"))
    for extra in ("v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "README.md", "unet/flax_model.msgpack", "unet/model.onnx"):
        (folder / extra).write_bytes(b"never fetched")
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "model.safetensors").write_bytes(b"never fetched")


@pytest.mark.parametrize("write", [write_stable_diffusion, write_latent_diffusion])
@pytest.mark.parametrize("safe", [True, False])
def test_fetches_what_is_needed_and_nothing_else(write, safe, hub):
    """Otherwise a base would take several times its size to fetch, come without weights, or with those of a variant."""
    write(hub.folder, safe=safe)
    needed = names(hub.folder)
    clutter(hub.folder)
    folder = locate(NAME)
    assert names(folder) == needed
    assert sorted(hub.fetched) == sorted(needed)
    assert load_base(folder).channels == 4


def test_safetensors_are_fetched_where_there_are_both(hub):
    """Otherwise pickles would be read where there is no need to, and twice the bytes fetched."""
    write_stable_diffusion(hub.folder, safe=False)
    pickled = names(hub.folder)
    write_stable_diffusion(hub.folder)
    (hub.folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    found = names(locate(NAME))
    assert {name for name in found if name.endswith(".bin")} == {"vae/diffusion_pytorch_model.bin"}
    assert {name for name in found if name.endswith(".safetensors")} == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    }
    assert len(found) == len(pickled)


def test_a_fetched_base_needs_no_hub(hub, hub_at):
    """Otherwise every run would need a network, or fetch again."""
    write_stable_diffusion(hub.folder, safe=False)
    folder = locate(NAME)
    hub_at("http://127.0.0.1:9")
    assert locate(NAME) == folder


def test_a_partly_fetched_base_is_completed(hub):
    """Otherwise an interrupted download would be taken for a base, and end in an error that only deleting the cache mends."""
    write_stable_diffusion(hub.folder)
    lost = locate(NAME) / "unet" / "diffusion_pytorch_model.safetensors"
    lost.unlink()
    locate(NAME)
    assert lost.read_bytes() == (hub.folder / "unet" / lost.name).read_bytes()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: set_in(folder / "scheduler/scheduler_config.json", prediction_type="v_prediction"), "predicts epsilon, found"),
        (lambda folder: set_in(folder / "model_index.json", unet=["diffusers", "FluxTransformer2DModel"]), "Expected unet to be one of"),
    ],
)
def test_another_kind_of_checkpoint_is_refused_before_its_weights_are_fetched(spoil, message, hub):
    """Otherwise the error would come after gigabytes."""
    write_stable_diffusion(hub.folder)
    spoil(hub.folder)
    with pytest.raises(ConfigError, match=message):
        locate(NAME)
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]


def set_in(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_repository_without_weights_is_refused(hub):
    """Otherwise training would fail later, or on a variant that is there (half precision)."""
    write_stable_diffusion(hub.folder)
    (weights,) = (hub.folder / "unet").glob("*.safetensors")
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(
        ConfigError, match=r"Expected diffusion_pytorch_model.safetensors or diffusion_pytorch_model.bin, .* in .*unet, found"
    ):
        locate(NAME)


def test_a_name_the_hub_does_not_have_is_refused(hub):
    """Otherwise a typing error in params.yaml would end in a traceback."""
    with pytest.raises(ConfigError, match=r"Expected base.source to be a folder .* or a hub id that can be fetched, found 'no/such'"):
        locate("no/such")


@pytest.mark.parametrize("source", [NAME, "not a name at all", "/no/such/folder"])
def test_a_source_that_is_nowhere_is_refused(source, hub_at):
    """Otherwise a missing network, or a folder that is not there, would end in a traceback; nothing listens on port 9."""
    hub_at("http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"Expected base.source to be a folder .* or a hub id that can be fetched, found"):
        locate(source)


def test_weights_of_a_popular_checkpoint():
    """Otherwise the names that mirrors use would be missed: safetensors of the U-Net and the text encoder, and nothing else."""
    wanted = ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
    parts = ["unet", "text_encoder", "tokenizer", "scheduler"]
    assert wanted_weights(parts, STABLE_DIFFUSION) == wanted
    only_pickles = [name for name in STABLE_DIFFUSION if not name.endswith(".safetensors")]
    assert wanted_weights(parts, only_pickles) == ["unet/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin"]


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_are_fetched_with_their_index(ending):
    """Otherwise a sharded checkpoint would come incomplete, or with the shards of a variant."""
    stem = f"unet/diffusion_pytorch_model-0000{{}}-of-00002.{ending}"
    shards = [stem.format(1), stem.format(2)]
    index = f"unet/diffusion_pytorch_model.{ending}.index.json"
    variant = f"unet/diffusion_pytorch_model.fp16-00001-of-00002.{ending}"
    assert wanted_weights(["unet"], [*shards, variant, "unet/config.json", index]) == [index, *shards]


@pytest.fixture
def checkpoint(tmp_path):
    """A base in a folder of the user's."""
    write_stable_diffusion(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_safetensors_are_fetched_beside_another_tools_pickles(hub, hub_at):
    """Otherwise what a base is would depend on what else was run on the machine; without a hub, what there is must do."""
    write_stable_diffusion(hub.folder, safe=False)
    pickled = [name for name in names(hub.folder) if name.endswith(".bin")]
    write_stable_diffusion(hub.folder)
    cached = Path(snapshot_download(NAME, ignore_patterns="*.safetensors"))
    address = hub.address
    hub_at("http://127.0.0.1:9")
    assert locate(NAME) == cached
    hub_at(address)
    assert {name.replace(".safetensors", "").rpartition("/")[0] for name in names(locate(NAME)) if name.endswith(".safetensors")} == {
        name.rpartition("/")[0] for name in pickled
    }


def test_a_fetched_base_is_the_one_in_a_folder(hub):
    """Otherwise a clone of a repository, with all its variants, would be another base than the same one fetched."""
    write_stable_diffusion(hub.folder)
    clutter(hub.folder)
    assert base_digest(locate(NAME)) == base_digest(hub.folder)


def test_pointer_leads_to_the_base_made_here(tmp_path, checkpoint):
    """Otherwise `train` would not find what `pretrain` made, once `data` is moved to another machine."""
    output = tmp_path / "pretrain"
    shutil.copytree(checkpoint, output / "base")
    write_pointer(output / "base", output, "scratch")
    assert str(tmp_path) not in (output / "base.json").read_text()
    output.rename(tmp_path / "moved")
    assert follow_pointer(tmp_path / "moved") == tmp_path / "moved" / "base"


def test_a_base_says_what_its_training_began_with(tmp_path, checkpoint, monkeypatch):
    """An auditor would take a base that began with somebody's textures for one that has seen nothing but the photographs at hand."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "pretrain"
    shutil.copytree(checkpoint, output / "base")
    write_pointer(output / "base", output, "scratch")
    assert origin_in_words({"base": "scratch"} | start_of(output / "base")) == "scratch"

    note_start(output, "checkpoint")

    digest = base_digest(checkpoint)
    assert start_of(output / "base") == {"start": "checkpoint", "start_digest": digest}
    assert origin_in_words({"base": "scratch"} | start_of(output / "base")) == f"scratch, begun with checkpoint ({digest[:8]})"
    assert follow_pointer(output) == output / "base"
    assert start_of(output / "another") == start_of(tmp_path / "nowhere" / "base") == {}


def test_pointer_to_a_given_folder_says_nothing_of_this_machine(tmp_path, checkpoint, monkeypatch):
    """Otherwise the same base on another machine would be another output of DVC, and all categories be trained again."""
    monkeypatch.chdir(tmp_path)
    write_pointer(locate("checkpoint"), tmp_path / "pretrain", "checkpoint")
    assert str(tmp_path) not in (tmp_path / "pretrain" / "base.json").read_text()
    assert follow_pointer(tmp_path / "pretrain") == checkpoint


def test_pointer_to_a_hub_is_followed_without_it_and_on_a_machine_without_the_base(hub, hub_at, tmp_path):
    """Otherwise every verb would wait for a hub, or another machine could not go on with the same `data/pretrain`."""
    write_stable_diffusion(hub.folder)
    folder, address = locate(NAME), hub.address
    write_pointer(folder, tmp_path / "pretrain", NAME)
    assert str(tmp_path) not in (tmp_path / "pretrain" / "base.json").read_text()
    hub_at("http://127.0.0.1:9")
    assert follow_pointer(tmp_path / "pretrain") == folder
    shutil.rmtree(tmp_path / "cache")
    hub_at(address)
    assert base_digest(follow_pointer(tmp_path / "pretrain")) == base_digest(hub.folder)


@pytest.mark.parametrize("place", ["checkpoint", "pretrain/base"])
def test_a_base_that_has_changed_is_not_followed(place, checkpoint, tmp_path):
    """Otherwise one category would be trained on other weights than the rest, with `dvc repro` none the wiser."""
    base = tmp_path / place
    if base != checkpoint:
        shutil.copytree(checkpoint, base)
    write_pointer(base, tmp_path / "pretrain", str(base))
    (weights,) = (base / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match=r"found it changed or gone\. Run `dvc repro -f pretrain`"):
        follow_pointer(tmp_path / "pretrain")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"folder": "/elsewhere", "digest": "1"}', '{"source": "a"}'])
def test_a_damaged_pointer_is_refused(text, tmp_path):
    """Otherwise a lost or older file would end in a traceback."""
    if text:
        (tmp_path / "base.json").write_text(text)
    with pytest.raises(ConfigError, match=r"Expected a base's source and digest in .*base\.json, found .*Run `dvc repro -f pretrain`"):
        follow_pointer(tmp_path)


def test_a_folder_is_its_own_source(checkpoint):
    """Otherwise a downloaded checkpoint would be looked up on a hub."""
    assert locate(str(checkpoint)) == checkpoint.resolve()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"found no model_index.json in"),
        (lambda folder: set_in(folder / "model_index.json", unet=["diffusers", "FluxTransformer2DModel"]), "Expected unet to be one of"),
        (lambda folder: set_in(folder / "scheduler/scheduler_config.json", prediction_type="v_prediction"), "predicts epsilon, found"),
        (
            lambda folder: (folder / "vae/diffusion_pytorch_model.safetensors").unlink(),
            "Expected diffusion_pytorch_model.* in .*vae, found",
        ),
    ],
)
def test_a_folder_of_something_else_is_refused_at_once(spoil, message, checkpoint):
    """Otherwise gigabytes would be read for a digest before `train`, the next verb, said what is wrong with the folder."""
    spoil(checkpoint)
    checkpoint.mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match=message):
        locate(str(checkpoint))


@pytest.mark.parametrize("source", ["", " "])
def test_no_source_is_refused(source):
    """Otherwise the working folder would be taken for the base."""
    with pytest.raises(ConfigError, match=r"Expected base.source to be a folder .* or a hub id that can be fetched, found ' ?'"):
        locate(source)
