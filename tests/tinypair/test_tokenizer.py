"""The tokenizer: complete, lossless, and the same through ``transformers``."""

from itertools import islice
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pair_training.corpus import documents
from rrti_sgl.tinypair import generate, prompt, right_solution
from rrti_sgl.tinypair.tokenizer import EOS_ID, PAD_ID, UNKNOWN_ID, VOCABULARY, decode, encode, save_tokenizer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_vocabulary_has_no_duplicates_and_is_small() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY) < 128


def test_round_trip_of_everything_generated(loaded: PreTrainedTokenizerBase) -> None:
    texts = [f"{prompt(p)} {right_solution(p)}" for p in generate(0, "heldout", 200)]
    texts += [decode(document.ids) for document in islice(documents(1), 400)]
    for text in texts:
        ids = loaded(text)["input_ids"]
        assert UNKNOWN_ID not in ids
        assert ids == encode(text)
        assert loaded.decode(ids) == decode(ids) == text


def test_no_token_is_added_and_special_ids_agree(loaded: PreTrainedTokenizerBase) -> None:
    assert loaded("so answer 4 2")["input_ids"] == encode("so answer 4 2")
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.unk_token_id) == (EOS_ID, PAD_ID, UNKNOWN_ID)
    assert len(loaded) == len(VOCABULARY)


def test_every_digit_is_its_own_token() -> None:
    assert len(encode("0 1 2 3 4 5 6 7 8 9")) == 10
    with pytest.raises(KeyError):
        encode("42")


def test_decode_stops_at_the_end_token() -> None:
    assert decode([*encode("so answer 4"), EOS_ID, *encode("wait")]) == "so answer 4"
