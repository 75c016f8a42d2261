"""The words of a base from scratch: the same texts give the same numbers, wherever and whenever."""

from pathlib import Path

from transformers import CLIPTokenizer

from stage.core.digests import folder_digest
from stage.model.tokens import END, START, tokenizer_of

TEXTS = ("a fabric with a hole", "A washer with a broken_edge", "größe 12")


def test_every_word_is_one_token() -> None:
    """A defect's name would be spread over letters that it shares with all others."""
    tokenizer = tokenizer_of(TEXTS, 16)

    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (START, END, END)
    assert tokenizer.tokenize("A Washer with a broken edge") == ["a", "washer", "with", "a", "broken", "edge"]
    assert tokenizer.tokenize("größe") == ["größe"]


def test_other_words_are_spelled() -> None:
    """A prompt with a new word would end in an error, or be taken for an old one."""
    tokenizer = tokenizer_of(TEXTS, 16)

    assert tokenizer.tokenize("whole") == ["w", "h", "o", "l", "e</w>"]
    assert tokenizer.unk_token_id not in tokenizer("whole fabrics ζ 7").input_ids[1:-1]


def test_the_same_texts_give_the_same_files(tmp_path: Path) -> None:
    """The demo would come out otherwise each time: a word's number decides its first vector."""
    for name, texts in (("first", TEXTS), ("second", [*reversed(TEXTS), *TEXTS])):
        tokenizer_of(texts, 16).save_pretrained(tmp_path / name)

    assert folder_digest(tmp_path / "first") == folder_digest(tmp_path / "second")
    loaded = CLIPTokenizer.from_pretrained(tmp_path / "first")
    assert loaded(TEXTS[1]).input_ids == tokenizer_of(TEXTS, 16)(TEXTS[1]).input_ids
