import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from miniatures import (
    LENGTH,
    SIZE,
    WIDTH,
    defect_images,
    small_base,
    small_params,
    small_unet,
    write_latent_diffusion,
    write_stable_diffusion,
)
from transformers import BertTokenizer, CLIPTextModel, CLIPTokenizer

from stage.core.errors import ConfigError
from stage.model.base import load_base, pixels_to_tensor, scheduler_config, tensor_to_pixels
from stage.model.codec import PatchCodec
from stage.model.diffusion import predict_x_0
from stage.model.prompts import placeholders
from stage.model.schedule import NoiseSchedule
from stage.model.tokens import add_tokens
from stage.model.training import train

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
    assert not any(parameter.requires_grad for module in base.modules() for parameter in module.parameters())
    assert not any(module.training for part in base.modules() for module in part.modules())


def test_schedule_is_the_checkpoints(stable_diffusion):
    """Otherwise the sampler would denoise by another schedule than the U-Net knows: scaled-linear betas, multiplied out."""
    base = load_base(stable_diffusion[1])
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert base.schedule.timestep_count == 1000
    assert np.allclose(base.schedule.alpha_bars.numpy(), np.cumprod(1 - betas), rtol=1e-4)


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_other_predictions_are_refused(prediction, tmp_path):
    """Otherwise a base that predicts x_0 would be sampled as if it predicted noise, or one unlike the paper's go unnoticed."""
    write_stable_diffusion(tmp_path / "base", prediction_type=prediction)
    with pytest.raises(ConfigError, match=rf"predicts epsilon, found prediction_type '{prediction}' in .*scheduler"):
        load_base(tmp_path / "base")


def test_own_base_predicts_noise_or_velocity_only(tmp_path):
    """Otherwise a folder of ours, changed by hand, would be sampled wrongly."""
    small_base().save(tmp_path)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    with pytest.raises(ConfigError, match="predicts epsilon or v_prediction, found prediction_type 'sample'"):
        load_base(tmp_path)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_estimate_implies_the_x_0_that_diffusers_finds(prediction):
    """Otherwise a base that predicts velocity would be sampled as if it predicted noise, or the other way round."""
    base = small_base(prediction=prediction)
    theirs = DDPMScheduler(**scheduler_config(1000, prediction))
    x_t = torch.randn(2, base.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    condition = base.embed(["bottle", "bottle crack"])
    with torch.no_grad():
        output = base.unet(x_t, 400, condition).sample
        ours = predict_x_0(x_t, base.predict_noise(x_t, 400, condition), 400, base.schedule)
        by_row = base.predict_noise(x_t, torch.tensor([400, 400]), condition)
    assert torch.allclose(ours, theirs.step(output, 400, x_t).pred_original_sample, atol=1e-4)
    assert torch.allclose(by_row, base.predict_noise(x_t, 400, condition), atol=1e-6)


BETAS = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "trained": {"trained_betas": np.linspace(0.001, 0.03, 500).tolist(), "num_train_timesteps": 500},
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' LMSDiscreteScheduler on torch's tensors
@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("cls", [DDIMScheduler, PNDMScheduler, LMSDiscreteScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler])
def test_alpha_bars_are_those_of_the_checkpoints_own_scheduler(cls, betas, tmp_path):
    """Otherwise a base with other betas than Stable Diffusion's would be denoised by a schedule it was not trained with."""
    write_stable_diffusion(tmp_path)
    theirs = cls(**BETAS[betas])
    theirs.save_pretrained(tmp_path / "scheduler")
    index = json.loads((tmp_path / "model_index.json").read_text()) | {"scheduler": ["diffusers", cls.__name__]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert torch.equal(load_base(tmp_path).schedule.alpha_bars, theirs.alphas_cumprod.double())


def test_a_schedule_that_ends_in_pure_noise_is_refused(tmp_path):
    """Otherwise sampling would begin with a division by zero: zero terminal SNR leaves nothing of x_0 at T."""
    write_stable_diffusion(tmp_path)
    DDIMScheduler(**scheduler_config(1000), rescale_betas_zero_snr=True).save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ConfigError, match=r"at every timestep, found alpha_bars from 0 to .* in .*scheduler"):
        load_base(tmp_path)


def test_saved_base_keeps_its_own_schedule(tmp_path):
    """Otherwise a base with other betas would come back with Stable Diffusion's; diffusers reads the same from its folder."""
    linear = DDPMScheduler(beta_schedule="linear").alphas_cumprod.double()
    dataclasses.replace(small_base(), schedule=NoiseSchedule(linear)).save(tmp_path)
    assert torch.allclose(load_base(tmp_path).schedule.alpha_bars, linear, rtol=1e-4)
    assert torch.allclose(DDIMScheduler.from_pretrained(tmp_path / "scheduler").alphas_cumprod.double(), linear, rtol=1e-4)


def test_a_network_that_gives_more_than_noise_is_refused(broken):
    """Otherwise a U-Net that gives a variance beside the noise would fail in the middle of training."""
    UNet2DConditionModel.from_config(small_unet(4).config, out_channels=8).save_pretrained(broken / "unet")
    with pytest.raises(
        ConfigError, match=r"Expected a U-Net from and to 4 latent channels .*, found one from 4 to 8 .* in .*unet\. Choose"
    ):
        load_base(broken)


def test_a_tokenizer_with_more_words_than_the_text_encoder_is_refused(broken):
    """Otherwise a learned token would stand for a word that has no vector, and end in an index error or another word's vector."""
    tokenizer = CLIPTokenizer.from_pretrained(broken / "tokenizer")
    rows = len(tokenizer)
    tokenizer.add_tokens(["<zebra>"])
    tokenizer.save_pretrained(broken / "tokenizer")
    with pytest.raises(ConfigError, match=rf"at most {rows} words, .*, found {rows + 1} in .*tokenizer\. Choose"):
        load_base(broken)


@pytest.mark.parametrize(("channels", "text_width"), [(9, WIDTH), (4, 2 * WIDTH)])
def test_a_network_for_other_inputs_is_refused(broken, channels, text_width):
    """Otherwise an inpainting checkpoint (nine channels) or SDXL (two text encoders) would fail in the middle of training."""
    small_unet(channels, text_width).save_pretrained(broken / "unet")
    with pytest.raises(
        ConfigError,
        match=rf"4 latent channels under text of width {WIDTH}, found one from {channels} .* under width {text_width} in .*unet",
    ):
        load_base(broken)


WRITERS = {"stable_diffusion": write_stable_diffusion, "latent_diffusion": write_latent_diffusion}


@pytest.fixture(scope="module", params=WRITERS)
def both_formats(request, tmp_path_factory):
    """The same checkpoint with safetensors and with pickles, of either layout."""
    folders = [tmp_path_factory.mktemp(request.param) / name for name in ("safe", "pickled")]
    for folder in folders:
        WRITERS[request.param](folder, safe=folder.name == "safe")
    return folders


def outputs(base):
    """What training and sampling ask of a base, with learned tokens in its vocabulary."""
    tokens = add_tokens(base, ("broken_large", "crack"), 2)
    with torch.no_grad():
        latents = base.encode(IMAGES)
        condition = base.embed(["bottle <defect-0-0> <defect-0-1>"] * len(latents))
        return tokens, latents, base.decode(latents), condition, base.predict_noise(latents, 500, condition), base.schedule.alpha_bars


def test_pickled_weights_give_what_safetensors_give(both_formats):
    """Otherwise the paper's base, whose weights may come as pickles only, would be another model: bit for bit the same."""
    safe, pickled = both_formats
    assert not list(pickled.rglob("*.safetensors"))
    assert not list(safe.rglob("*.bin"))
    for one, other in zip(outputs(load_base(safe)), outputs(load_base(pickled)), strict=True):
        assert torch.equal(one, other)


def test_training_on_pickled_weights_is_training_on_safetensors(both_formats, tmp_path):
    """Otherwise a base would load from a pickle and then not train; the same adapters and tokens, bit for bit."""
    safe, pickled = (train(load_base(folder), defect_images(), small_params(), state=tmp_path / folder.name) for folder in both_formats)
    assert np.isfinite(safe.curve["loss"]).all()
    assert same_weights(safe.generator.adapters, pickled.generator.adapters)
    assert safe.curve["loss"].tolist() == pickled.curve["loss"].tolist()


def test_learned_tokens_are_one_token_each(both_formats):
    """Otherwise a learned vector would stand for a piece of a placeholder, as CLIP's and BERT's tokenizers split unknown words."""
    base = load_base(both_formats[0])
    words = base.tokenizer("bottle crack", add_special_tokens=False).input_ids
    count = len(base.tokenizer)
    before = base.text_encoder.get_input_embeddings().weight.clone()
    condition = base.embed(["bottle"])

    rows = add_tokens(base, ("broken_large", "crack"), 11)
    spoken = [placeholders(number, 11) for number in range(2)]
    ids = base.tokenizer(f"bottle {' '.join(spoken)} crack", add_special_tokens=False).input_ids
    assert ids == [words[0], *range(count, count + 22), words[1]]
    assert rows.tolist() == list(range(count, count + 22))
    assert base.text_encoder.get_input_embeddings().weight.shape == (count + 22, WIDTH)
    assert base.text_encoder.config.vocab_size == count + 22
    assert torch.equal(base.text_encoder.get_input_embeddings().weight[:count], before)
    assert torch.equal(base.embed(["bottle"]), condition)


@pytest.mark.parametrize("ending", ["", "s"])
def test_an_embedding_row_reaches_the_prompts_that_name_its_token(both_formats, ending):
    """Otherwise training would move vectors that no prompt uses: only prompts with the token change with its row."""
    base = load_base(both_formats[0])
    rows = add_tokens(base, ("crack",), 2)
    with_token, without = f"bottle{ending} <defect-0-1>", f"bottle{ending} <defect-0-0>"
    before = base.embed([with_token, without])
    with torch.no_grad():
        base.text_encoder.get_input_embeddings().weight[rows[1]] += 1
    after = base.embed([with_token, without])
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_text_conditions_are_the_latent_diffusion_pipelines(latent_diffusion):
    """Otherwise the paper's U-Net would be asked in words it was not trained on: padded to its length, no attention mask."""
    pipeline, folder = latent_diffusion
    tokens = pipeline.tokenizer(["bottle crack"], padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = pipeline.bert.eval()(tokens.input_ids)[0]
    assert torch.allclose(load_base(folder).embed(["bottle crack"]), theirs, atol=1e-6)


def test_pixels_survive_the_network_range():
    """Otherwise every image would be off by a grey level: 0, 127.5 and 255 are -1, 0 and 1."""
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(tensor_to_pixels(pixels_to_tensor(pixels)), pixels)
    assert pixels_to_tensor(np.uint8([[[[0, 255, 51]]]]))[0, :, 0, 0].tolist() == pytest.approx([-1, 1, -0.6])
    assert tensor_to_pixels(torch.tensor([[[[-3.0]], [[3.0]], [[0.0]]]])).tolist() == [[[[0, 255, 128]]]]
