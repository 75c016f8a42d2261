import pytest
import torch
from miniatures import small_base, write_latent_diffusion

from stage.core.model_params import Prompts
from stage.model.base import load_base
from stage.model.prompts import placeholders, prompt, prompts
from stage.model.tokens import add_tokens

TEMPLATES = Prompts(normal="{category}", defect="{category} {defect}", isolated="isolated {category} {defect}")
TYPES = ("broken_large", "crack")


def tokens(base, text):
    return base.tokenizer(text, add_special_tokens=False).input_ids


def test_prompts_are_the_papers_words():
    """Otherwise the text encoder would be given a folder's name instead of words."""
    assert prompts(TEMPLATES, "metal_nut", "bent_lead") == ("metal nut bent lead", "isolated metal nut bent lead")
    assert prompt(TEMPLATES.normal, "metal_nut", "good") == "metal nut"


def test_a_template_may_leave_names_out():
    """Otherwise BTAD's uniform prompt, `damaged`, could not be set."""
    assert prompt("damaged", "01", "crack") == "damaged"


@pytest.mark.parametrize("layout", ["clip", "bert"])
@pytest.mark.parametrize("types", [TYPES, ("Crack", "crack", "crack on top", "Riß_Ø")])
def test_eight_new_tokens_per_type_in_a_real_tokenizer(layout, types, tmp_path):
    """Otherwise a prompt would not contain what is trained: names with capitals, spaces, underscores or accents included."""
    base = small_base() if layout == "clip" else load_base(write_latent_diffusion(tmp_path / "base") and tmp_path / "base")
    size = len(base.tokenizer)
    rows = add_tokens(base, types, 8)
    assert rows.tolist() == list(range(size, size + 8 * len(types)))
    assert base.text_encoder.get_input_embeddings().weight.shape[0] == size + 8 * len(types)
    for number, expected in enumerate(rows.split(8)):
        assert tokens(base, placeholders(number, 8)) == expected.tolist()
        aware, only = prompts(TEMPLATES, "bottle", placeholders(number, 8))
        assert tokens(base, aware) == [*tokens(base, "bottle"), *expected.tolist()]
        assert tokens(base, only) == [*tokens(base, "isolated bottle"), *expected.tolist()]


@pytest.mark.parametrize("layout", ["clip", "bert"])
def test_new_tokens_start_at_their_word(layout, tmp_path):
    """Otherwise training would start from noise instead of what the text encoder knows of the word; the rest stays as it was."""
    base = small_base() if layout == "clip" else load_base(write_latent_diffusion(tmp_path / "base") and tmp_path / "base")
    before = base.text_encoder.get_input_embeddings().weight.clone()
    rows = add_tokens(base, TYPES, 3)
    after = base.text_encoder.get_input_embeddings().weight
    assert torch.equal(after[: len(before)][: rows[0]], before[: rows[0]])
    for block, words in zip(rows.split(3), ("broken large", "crack"), strict=True):
        word = before[tokens(base, words)].mean(0)
        assert torch.allclose(after[block], word.expand(3, -1))


def test_conditions_of_words_are_not_changed_by_new_tokens():
    """Otherwise adding a category's tokens would change what the base draws without them."""
    base = small_base()
    before = base.embed(["bottle crack"])
    add_tokens(base, TYPES, 8)
    assert torch.equal(base.embed(["bottle crack"]), before)
