"""The adapter and its training, on a llama of random weights: merging, the loss, resuming, what expert iteration keeps."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from natural_pair.adapter import SCALE, adapter_weights, attach, load_adapter, merge, read_adapter, save_adapter
from natural_pair.expert_iteration import HERE, chosen
from natural_pair.training import Trainer, TrainingConfig, documents, train
from pair_training.corpus import Document
from rrti_sgl.prompts import load_template
from rrti_sgl.tinypair.tokenizer import VOCABULARY
from rrti_sgl.tokens.vocabulary import load_vocabulary

CONFIG = TrainingConfig(learning_rate=1e-2, epochs=2, batch_tokens=60, loss_tokens=20, warmup_steps=1, checkpoint_every=2)


def loaded(folder: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def random_documents(n: int) -> list[Document]:
    rng = random.Random(0)
    return [Document(tuple(rng.choices(range(len(VOCABULARY)), k=rng.randint(6, 14))), 4) for _ in range(n)]


def silent(phase: str, step: int, n_steps: int, loss: float) -> None:
    assert 0 < step <= n_steps
    assert loss > 0


def test_a_fresh_adapter_changes_nothing_and_covers_every_matrix_of_the_blocks(base: Path) -> None:
    ids = torch.arange(12)[None]
    plain, adapted = loaded(base), attach(loaded(base))
    assert torch.equal(plain(ids).logits, adapted(ids).logits)
    matrices = [name for name, value in plain.named_parameters() if ".layers." in name and value.ndim == 2]
    assert len(adapter_weights(adapted)) == 2 * len(matrices) == 2 * 2 * 7


def test_merged_weights_are_base_plus_the_low_rank_product(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    adapted = attach(loaded(base))
    drawn = {name: torch.randn_like(value) for name, value in adapter_weights(adapted).items()}
    save_adapter(drawn, tmp_path / "adapter.safetensors")
    stored = read_adapter(tmp_path / "adapter.safetensors")
    assert all(torch.equal(stored[name], value.bfloat16().float()) for name, value in drawn.items())
    merge(base, stored, tmp_path / "merged")
    merged = dict(loaded(tmp_path / "merged").named_parameters())
    for name, weight in loaded(base).named_parameters():
        layer = name.removesuffix(".weight")
        change = SCALE * (stored[f"{layer}.up"] @ stored[f"{layer}.down"]) if f"{layer}.up" in stored else 0
        torch.testing.assert_close(merged[name], weight + change, rtol=0, atol=1e-6)
    load_adapter(adapted, stored)
    ids = torch.arange(12)[None]
    torch.testing.assert_close(loaded(tmp_path / "merged")(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_step_lowers_the_loss_and_leaves_the_base_as_it_is(base: Path) -> None:
    model = attach(loaded(base))
    before = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    trainer = Trainer(model, CONFIG, n_steps=100)
    batch = random_documents(4)
    losses = [trainer.train_batch(batch) for _ in range(8)]
    assert losses[-1] < losses[1] < losses[0]
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_prompt_is_not_learned(base: Path) -> None:
    """The same loss, whatever the padding and whichever other documents there are; none from the prompt."""
    model = attach(loaded(base))
    doc = random_documents(1)[0]
    logits = model(torch.tensor([doc.ids])).logits[0, :-1].detach()
    by_token = torch.nn.functional.cross_entropy(logits, torch.tensor(doc.ids[1:]), reduction="none")
    wanted = by_token[doc.prompt_length - 1 :].mean()
    longer = Document((*doc.ids, 1, 2, 3), len(doc.ids) + 3)  # all prompt
    assert Trainer(model, replace(CONFIG, learning_rate=0.0), 100).train_batch([doc, longer]) == pytest.approx(float(wanted))


def test_stopped_and_resumed_training_ends_in_the_same_weights(base: Path, tmp_path: Path) -> None:
    docs = random_documents(20)
    whole = train(base, None, docs, CONFIG, tmp_path / "whole.pt", silent)
    for stop in (2, 5):
        train(base, None, docs, CONFIG, tmp_path / "stopped.pt", silent, stop_at=stop)
    resumed = train(base, None, docs, CONFIG, tmp_path / "stopped.pt", silent)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert any(value.any() for name, value in whole.items() if name.endswith(".up"))


def test_a_document_is_what_the_model_will_be_shown_the_solution_and_the_end(base: Path) -> None:
    vocabulary = load_vocabulary(str(base))
    template = load_template("world")
    [doc] = documents([("ann has 2 .", "first double")], template, vocabulary)
    prompt = template.render("ann has 2 .", vocabulary)[1]
    assert doc.ids[: doc.prompt_length] == tuple(prompt)
    assert vocabulary.decode(doc.ids[doc.prompt_length :]) == "first double"
    assert doc.ids[-1] in vocabulary.stop_token_ids


def test_expert_iteration_keeps_right_solutions_and_few_of_what_is_easy() -> None:
    easy = [("easy", f"easy way {i}", True) for i in range(4)]
    hard = [("hard", text, good) for text, good in (("a", True), ("b", False), ("a", True), ("c", True), ("d", True))]
    solved, right = chosen([*easy, *hard, ("never", "x", False)], 2, random.Random(0))
    assert right == pytest.approx(8 / 10)
    assert [question for question, _ in solved] == ["easy", "hard", "hard"]
    of_hard = {text for question, text in solved if question == "hard"}
    assert len(of_hard) == 2
    assert of_hard <= {"a", "c", "d"}


def test_both_prompts_end_in_the_same_turn() -> None:
    base_prompt, reasoning_prompt = (load_template(str(HERE / f"{name}.toml")) for name in ("base", "reasoning"))
    assert base_prompt.text == reasoning_prompt.text
    assert base_prompt.example == base_prompt.text + "{solution}<|im_end|>\n"
    assert len(base_prompt.examples) == 4
