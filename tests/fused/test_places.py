"""What is touched of SGLang is there, by name and by the shape that is relied on; what is not ours is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from rrti_sgl.fused import admission, cpu_repairs, places, plugin

NATIVE = "sglang.srt.layers.attention.torch_native_backend.TorchNativeAttnBackend."
ATTENTION = ["self", "query", "output", "k_cache", "v_cache", "req_to_token", "req_pool_indices", "seq_lens"]
NAMED = ["scaling", "enable_gqa", "causal", "is_cross_attn", "sliding_window_size"]
HOOKED = {
    "sglang.srt.managers.scheduler.Scheduler._add_request_to_queue": ["self", "req"],
    "sglang.srt.managers.scheduler.Scheduler.abort_request": ["self", "recv_req"],
    "sglang.srt.managers.schedule_batch.ScheduleBatch.check_decode_mem": ["self", "selected_indices"],
    "sglang.srt.managers.schedule_policy.PrefillAdder.add_one_req": ["self", "req"],
    "sglang.srt.mem_cache.allocation.assign_req_to_token_pool_func": [
        *("req_pool_indices", "req_to_token", "start_offset", "end_offset", "out_cache_loc", "batch_size")
    ],
    NATIVE + "_run_sdpa_forward_decode": [*ATTENTION, "encoder_lens", *NAMED],
    NATIVE + "_run_sdpa_forward_extend": [*ATTENTION, "extend_prefix_lens", "extend_seq_lens", "encoder_lens", *NAMED],
}
LOOKING = """
import inspect, json, pkgutil, sys
from rrti_sgl.serving import stand_ins; stand_ins.install()
from rrti_sgl.fused import cpu_repairs, places
hooked = json.loads(sys.argv[1])
print(json.dumps({
    "missing": places.missing({**places.TOUCHED, **cpu_repairs.TOUCHED}),
    "moved": places.missing({"sglang.srt.nowhere.Thing": "", "sglang.srt.managers.scheduler.Scheduler.gone": ""}),
    "first": {place: list(inspect.signature(pkgutil.resolve_name(place)).parameters)[:n] for place, n in hooked.items()},
}))
"""


def test_the_installed_sglang_has_every_place_and_hooks_take_what_it_gives():
    asked = json.dumps({place: len(first) for place, first in HOOKED.items()})
    command = [sys.executable, "-W", "ignore", "-c", LOOKING, asked]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert found == {
        "missing": [],
        "moved": ["sglang.srt.nowhere.Thing", "sglang.srt.managers.scheduler.Scheduler.gone"],
        "first": HOOKED,
    }


def test_a_server_that_does_not_ask_is_left_alone(monkeypatch):
    monkeypatch.delenv(plugin.VARIABLE, raising=False)
    monkeypatch.setattr(plugin, "_register_hooks", lambda: pytest.fail("hooked"))
    plugin.register()
    plugin.check()


def test_another_sglang_is_refused_with_the_place_that_changed(monkeypatch):
    monkeypatch.setenv(plugin.VARIABLE, "1")
    monkeypatch.setattr(plugin, "_lacking", lambda: ["sglang.srt.moved"])
    monkeypatch.setattr(plugin, "_register_hooks", lambda: pytest.fail("hooked"))
    plugin.register()
    with pytest.raises(SystemExit, match=r"sglang\.srt\.moved.*two servers"):
        plugin.check()


def test_with_a_gpu_nothing_of_the_cpu_s_is_imported(monkeypatch):
    monkeypatch.setenv(plugin.VARIABLE, "1")
    monkeypatch.delenv("SGLANG_USE_CPU_ENGINE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(places, "missing", lambda: [])
    monkeypatch.delattr("rrti_sgl.fused.cpu_repairs")
    monkeypatch.delitem(sys.modules, "rrti_sgl.fused.cpu_repairs")
    for name in ("_register_hooks", "_register_algorithm"):
        monkeypatch.setattr(plugin, name, lambda: None)
    plugin.check()
    plugin.register()
    assert "rrti_sgl.fused.cpu_repairs" not in sys.modules


def test_a_server_on_the_cpu_has_the_cpu_s_repairs_beside_a_gpu_as_well(monkeypatch):
    monkeypatch.setenv(plugin.VARIABLE, "1")
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(plugin, "_lacking", list)
    done = []
    monkeypatch.setattr(cpu_repairs, "register", lambda: done.append("repaired"))
    for name in ("_register_hooks", "_register_algorithm"):
        monkeypatch.setattr(plugin, name, lambda: None)
    plugin.register()
    assert done == ["repaired"]


@pytest.mark.parametrize(
    ("base", "reasoning", "reason"),
    [
        ("full", "full", None),
        ("full", "windows", None),
        ("windows", "full", "the base model keeps keys and values of sliding windows apart"),
        ("state", "full", "the base model keeps a state"),
        ("full", "state", "the reasoning model keeps a state"),
    ],
)
def test_models_whose_sequences_cannot_be_kept_are_refused_by_name(monkeypatch, base, reasoning, reason):
    architectures = ModuleType("sglang.srt.configs.hybrid_arch")
    architectures.mambaish_config = lambda config: config.state
    for name in ("sglang", "sglang.srt", "sglang.srt.configs"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, architectures.__name__, architectures)
    configs = [
        SimpleNamespace(state={} if kind == "state" else None, is_hybrid_swa=kind == "windows") for kind in (base, reasoning)
    ]
    found = places.unfit(*configs)
    assert (found is None) if reason is None else found.startswith(reason)


@pytest.mark.parametrize("sglang", ["0.5.17", "0.5.23"])
def test_what_requests_say_is_read_in_both_versions(sglang):
    ids = [1, 2, 3]
    if sglang == "0.5.17":
        end = SimpleNamespace(end=3)
        request = SimpleNamespace(req_pool_idx=4, kv=None, extend_range=end, full_untruncated_fill_ids=ids)
    else:
        request = SimpleNamespace(kv=SimpleNamespace(req_pool_idx=4), extend_end=3, full_untruncated_fill_ids=ids)
    assert places.row_of(request) == 4
    assert places.reads_its_end(request)


def test_slots_are_assigned_as_the_kernel_would():
    table = torch.zeros((4, 10), dtype=torch.int32)
    cpu_repairs.assign_slots(
        torch.tensor([2, 0]), table, torch.tensor([1, 0]), torch.tensor([4, 2]), torch.tensor([7, 8, 9, 5, 6]), 2
    )
    assert table[2].tolist() == [0, 7, 8, 9, 0, 0, 0, 0, 0, 0]
    assert table[0, :3].tolist() == [5, 6, 0]


def test_an_abort_reaches_the_named_request_alone():
    requests = [SimpleNamespace(rid=rid) for rid in ("x4", "x40", "x41", "y")]
    scheduler = SimpleNamespace(
        waiting_queue=requests[:2], running_batch=SimpleNamespace(reqs=requests[2:]), chunked_req=None,
        cur_batch=None, last_batch=None, grammar_manager=SimpleNamespace(grammar_queue=[]),
    )  # fmt: skip

    def original(scheduler, asked):
        return [request for request in requests if asked.abort_all or request.rid.startswith(asked.rid)]

    aborted = admission.around_abort(original, scheduler, SimpleNamespace(rid="x4", abort_all=False))
    assert [request.rid for request in aborted] == ["x4"]
    assert [request.rid for request in requests] == ["x4", "x40", "x41", "y"]
    everyone = admission.around_abort(original, scheduler, SimpleNamespace(rid="", abort_all=True))
    assert len(everyone) == 4
