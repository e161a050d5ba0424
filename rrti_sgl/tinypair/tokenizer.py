"""The word-level tokenizer that both models share, written in the format of ``tokenizers`` and ``transformers``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from rrti_sgl.tinypair import solutions, world

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
TEXTBOOK_WORD = "textbook"
DRILL_WORD = "drill"

VOCABULARY: tuple[str, ...] = (
    *(PAD, EOS, UNKNOWN),
    *"0123456789",
    *("+", "-", "*", "=", ".", "?", solutions.EXECUTE_WORD),
    *(*world.PEOPLE, world.SUBJECT, world.OBJECT),
    *("has", "gives", *world.GAIN_VERBS, *world.LOSS_VERBS, "doubles", "triples"),
    *(*world.PREFIXES, "that", "how", "many"),
    *("add", "subtract", "double", "triple", "skip"),
    *(solutions.FIRST_MARKER, *solutions.LATER_MARKERS, solutions.END_MARKER, solutions.ANSWER_WORD),
    *(solutions.TAKE_BACK_WORD, solutions.QUESTION_WORD, solutions.SOLUTION_WORD, TEXTBOOK_WORD, DRILL_WORD),
)
TOKEN_IDS: dict[str, int] = {word: index for index, word in enumerate(VOCABULARY)}
PAD_ID, EOS_ID, UNKNOWN_ID = (TOKEN_IDS[word] for word in (PAD, EOS, UNKNOWN))


def encode(text: str | Sequence[str]) -> list[int]:
    """Return the token ids of a text or of its words.

    Raises
    ------
    KeyError
        For a word that the world does not have.
    """
    words = text.split() if isinstance(text, str) else text
    return [TOKEN_IDS[word] for word in words]


def decode(ids: Sequence[int]) -> str:
    """Return the text of token ids, up to the first end token and without padding."""
    words = []
    for index in ids:
        if index == EOS_ID:
            break
        if index != PAD_ID:
            words.append(VOCABULARY[index])
    return " ".join(words)


@cache
def build_tokenizer() -> Tokenizer:
    """Return the ``tokenizers`` object; without a decoder it joins tokens by spaces."""
    tokenizer = Tokenizer(WordLevel(TOKEN_IDS, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, EOS, UNKNOWN])
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` so that ``AutoTokenizer`` loads them."""
    build_tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
