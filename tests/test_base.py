import functools
import json
import re
import warnings

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from miniatures import LENGTH, SIZE, WIDTH, defect_images, small_base, small_unet, write_latent_diffusion, write_stable_diffusion
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, CLIPTextModel, CLIPTokenizer

from stage.base import load_base, pixels_to_tensor, scheduler_config, tensor_to_pixels, trainable
from stage.base_source import follow_pointer, locate, write_pointer
from stage.codec import PatchCodec
from stage.diffusion import predict_x_0
from stage.params import ConfigError

IMAGES = pixels_to_tensor(defect_images().images)


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd") / "base"
    return write_stable_diffusion(folder), folder


@pytest.fixture(scope="module")
def latent_diffusion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ldm") / "base"
    return write_latent_diffusion(folder), folder


@pytest.fixture
def broken(tmp_path):
    """A Stable Diffusion miniature to spoil."""
    write_stable_diffusion(tmp_path / "base")
    return tmp_path / "base"


def reindex(folder, **parts):
    index = json.loads((folder / "model_index.json").read_text()) | parts
    (folder / "model_index.json").write_text(json.dumps(index))


def same_weights(a, b):
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_own_base_round_trips_through_its_folder(prediction, tmp_path):
    """Otherwise `train` would not stand on what `pretrain` made: the same conditions, latents, images and noise estimates."""
    base = small_base(prediction=prediction)
    base.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_base(tmp_path)
    assert isinstance(loaded.codec, PatchCodec)
    assert torch.equal(loaded.schedule.alpha_bars, base.schedule.alpha_bars)
    assert torch.equal(loaded.embed(["bottle crack"]), base.embed(["bottle crack"]))
    latents = base.encode(IMAGES)
    assert torch.equal(loaded.encode(IMAGES), latents)
    assert torch.equal(loaded.decode(latents), base.decode(latents))
    condition = base.embed(["bottle"] * len(latents))
    assert loaded.prediction == prediction
    assert torch.equal(loaded.predict_noise(latents, 500, condition), base.predict_noise(latents, 500, condition))


def test_saved_base_holds_no_pickle(tmp_path):
    """Otherwise a base could run code on whoever loads it."""
    small_base().save(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".txt"}


def test_loads_a_stable_diffusion_checkpoint(stable_diffusion):
    """Otherwise a hub checkpoint of that family could not be a base; the pipeline that saved it is the reference."""
    pipeline, folder = stable_diffusion
    base = load_base(folder)
    assert isinstance(base.text_encoder, CLIPTextModel)
    assert isinstance(base.tokenizer, CLIPTokenizer)
    assert same_weights(base.unet, pipeline.unet)
    assert (base.channels, base.factor) == (4, 2)
    theirs, _ = pipeline.encode_prompt(["bottle crack"], "cpu", 1, do_classifier_free_guidance=False)
    assert torch.allclose(base.embed(["bottle crack"]), theirs, atol=1e-5)


def test_loads_the_papers_latent_diffusion_layout(latent_diffusion):
    """Otherwise the paper's base, `CompVis/ldm-text2im-large-256`, could not be used: `bert`, `vqvae`, and a WordPiece tokenizer."""
    pipeline, folder = latent_diffusion
    base = load_base(folder)
    assert isinstance(base.text_encoder, LDMBertModel)
    assert isinstance(base.tokenizer, BertTokenizer)
    assert isinstance(base.codec, AutoencoderKL)
    assert same_weights(base.text_encoder, pipeline.bert)
    assert base.embed(["bottle", "broken large crack"]).shape == (2, LENGTH, WIDTH)
    assert base.unet(base.encode(IMAGES), 3, base.embed(["bottle"] * len(IMAGES))).sample.shape == (len(IMAGES), 4, 8, 8)


@pytest.mark.parametrize("checkpoint", ["stable_diffusion", "latent_diffusion"])
def test_latents_carry_the_autoencoders_scale(checkpoint, request):
    """Otherwise latents would be five times what the U-Net was trained on: 0.18215 times the mean of the autoencoder."""
    _, folder = request.getfixturevalue(checkpoint)
    base = load_base(folder)
    latents = base.encode(IMAGES)
    assert latents.shape == (len(IMAGES), 4, SIZE // 2, SIZE // 2)
    assert torch.allclose(latents, base.codec.encode(IMAGES).latent_dist.mean * 0.18215)
    assert torch.equal(latents, base.encode(IMAGES))
    assert torch.allclose(base.decode(latents), base.codec.decode(latents / 0.18215).sample)


@pytest.mark.parametrize("checkpoint", ["stable_diffusion", "latent_diffusion"])
def test_loaded_base_is_frozen_and_deterministic(checkpoint, request):
    """Otherwise training would move the base, or dropout make samples differ from run to run."""
    base = load_base(request.getfixturevalue(checkpoint)[1])
    assert trainable(base.modules()) == []
    assert not any(module.training for part in base.modules() for module in part.modules())


def test_schedule_is_the_checkpoints(stable_diffusion):
    """Otherwise the sampler would denoise by another schedule than the U-Net knows: scaled-linear betas, multiplied out."""
    base = load_base(stable_diffusion[1])
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert base.schedule.timestep_count == 1000
    assert np.allclose(base.schedule.alpha_bars.numpy(), np.cumprod(1 - betas), rtol=1e-4)


def test_folder_without_index_is_refused(tmp_path):
    """Otherwise a wrong folder would end in a traceback."""
    with pytest.raises(ConfigError, match=r"diffusers' layout, found no model_index.json in .*base.source"):
        load_base(tmp_path)


def test_unreadable_index_is_refused(broken):
    """Otherwise an index cut off by a broken download would end in a traceback."""
    (broken / "model_index.json").write_text('{"unet": ')
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


def test_missing_part_is_refused_by_name(broken):
    """Otherwise an incomplete checkpoint would end in a traceback."""
    reindex(broken, tokenizer=None)
    with pytest.raises(ConfigError, match=r"Expected tokenizer to be one of .*, found nothing"):
        load_base(broken)


def test_other_predictions_are_refused(tmp_path):
    """Otherwise a base that predicts x_0 would be sampled as if it predicted noise."""
    write_stable_diffusion(tmp_path / "base", prediction_type="sample")
    with pytest.raises(ConfigError, match="predicts epsilon or v_prediction, found prediction_type 'sample'"):
        load_base(tmp_path / "base")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_estimate_implies_the_x_0_that_diffusers_finds(prediction, tmp_path):
    """Otherwise a base that predicts velocity would be sampled as if it predicted noise, or the other way round."""
    write_stable_diffusion(tmp_path / "base", prediction_type=prediction)
    base = load_base(tmp_path / "base")
    theirs = DDPMScheduler(**scheduler_config(1000, prediction))
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    condition = base.embed(["bottle", "bottle crack"])
    with torch.no_grad():
        output = base.unet(x_t, 400, condition).sample
        ours = predict_x_0(x_t, base.predict_noise(x_t, 400, condition), 400, base.schedule)
        by_row = base.predict_noise(x_t, torch.tensor([400, 400]), condition)
    assert torch.allclose(ours, theirs.step(output, 400, x_t).pred_original_sample, atol=1e-4)
    assert torch.allclose(by_row, base.predict_noise(x_t, 400, condition), atol=1e-6)


@pytest.mark.parametrize(
    ("part", "weights"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model"), ("vae", "diffusion_pytorch_model")]
)
def test_pickled_weights_are_refused(broken, part, weights):
    """Otherwise a pickle, which can run code, would be loaded, or the user not know why the checkpoint is no good."""
    found = broken / part / f"{weights}.safetensors"
    torch.save({}, found.with_name("pytorch_model.bin" if part == "text_encoder" else f"{weights}.bin"))
    found.unlink()
    with pytest.raises(ConfigError, match=rf"(?s)Expected a complete \w+ in .*{part}.*safetensors"):
        load_base(broken)


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_truncated_weights_are_refused(broken, part):
    """Otherwise a broken download would end in a traceback."""
    (found,) = (broken / part).glob("*.safetensors")
    found.write_bytes(found.read_bytes()[:100])
    with pytest.raises(ConfigError, match=rf"Expected a complete \w+ in .*{part}"):
        load_base(broken)


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_missing_weights_are_refused(broken, part):
    """Otherwise the libraries would fill them with random numbers, new ones in every process, and only log it."""
    (found,) = (broken / part).glob("*.safetensors")
    tensors = load_file(found)
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, found, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"Expected a complete \w+ in .*{part}, found no weights for .*{re.escape(name.split('.')[-2])}"):
        load_base(broken)


def test_weights_under_their_older_names_are_found(stable_diffusion, broken):
    """Otherwise checkpoints of Stable Diffusion's time would be refused: `text_model.` before text weights, `query` for `to_q`."""
    pipeline, _ = stable_diffusion
    rename(broken / "text_encoder", lambda name: f"text_model.{name}")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    rename(broken / "vae", lambda name: functools.reduce(lambda text, new: text.replace(f".{new}.", f".{old[new]}."), old, name))
    base = load_base(broken)
    assert same_weights(base.text_encoder, pipeline.text_encoder)
    assert same_weights(base.codec, pipeline.vae)


def rename(folder, rule):
    (found,) = folder.glob("*.safetensors")
    save_file({rule(name): value for name, value in load_file(found).items()}, found, metadata={"format": "pt"})


@pytest.mark.parametrize(("channels", "text_width"), [(9, WIDTH), (4, 2 * WIDTH)])
def test_a_network_for_other_inputs_is_refused(broken, channels, text_width):
    """Otherwise an inpainting checkpoint (nine channels) or SDXL (two text encoders) would fail in the middle of training."""
    small_unet(channels, text_width).save_pretrained(broken / "unet")
    with pytest.raises(
        ConfigError, match=rf"4 latent channels and text of width {WIDTH}, found one for {channels} and {text_width} in .*unet"
    ):
        load_base(broken)


def test_pixels_survive_the_network_range():
    """Otherwise every image would be off by a grey level: 0, 127.5 and 255 are -1, 0 and 1."""
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(tensor_to_pixels(pixels_to_tensor(pixels)), pixels)
    assert pixels_to_tensor(np.uint8([[[[0, 255, 51]]]]))[0, :, 0, 0].tolist() == pytest.approx([-1, 1, -0.6])
    assert tensor_to_pixels(torch.tensor([[[[-3.0]], [[3.0]], [[0.0]]]])).tolist() == [[[[0, 255, 128]]]]


def test_pointer_leads_back_to_the_base(tmp_path):
    """Otherwise `train` would look for the base in the wrong place: beside the pointer when made here, anywhere else when given."""
    output, elsewhere = tmp_path / "pretrain", tmp_path / "checkpoint"
    for folder in (output / "base", elsewhere):
        folder.mkdir(parents=True)
        (folder / "weights").write_text("one")
    write_pointer(output / "base", output)
    assert follow_pointer(output) == output / "base"
    assert str(tmp_path) not in (output / "base.json").read_text()
    write_pointer(elsewhere, output)
    assert follow_pointer(output) == elsewhere


def test_a_base_that_has_changed_is_not_followed(tmp_path):
    """Otherwise one category would be trained on other weights than the rest, with `dvc repro` none the wiser."""
    base = tmp_path / "checkpoint"
    base.mkdir()
    (base / "weights").write_text("one")
    write_pointer(base, tmp_path / "pretrain")
    (base / "weights").write_text("other")
    with pytest.raises(ConfigError, match=r"found it changed or gone\. Run `dvc repro -f pretrain`"):
        follow_pointer(tmp_path / "pretrain")


def test_a_folder_is_its_own_source(tmp_path):
    """Otherwise a downloaded checkpoint would be looked up on a hub."""
    assert locate(str(tmp_path)) == tmp_path.resolve()


@pytest.mark.parametrize("source", ["no/such-checkpoint", "not a name at all", "/no/such/folder"])
def test_a_source_that_is_nowhere_is_refused(source):
    """Otherwise a typing error in params.yaml, or a missing network, would end in a traceback; the tests have no hub."""
    with pytest.raises(ConfigError, match=r"Expected base.source to be a folder .* or a hub id that can be fetched, found"):
        locate(source)
