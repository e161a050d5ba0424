"""SGLang's frontend language under intervention: any `@sgl.function` program, unchanged, on a base and a reasoning model.

::

    from rrti_sgl.frontend import InterventionBackend  # first: `import sglang` needs it on a machine without a GPU
    import sglang as sgl

    @sgl.function
    def solve(s, question):
        s += question
        s += sgl.gen("solution", max_tokens=110, temperature=0)

    with InterventionBackend(BASE_URL, REASONING_URL, "guided", tau=0.5, store="traces.duckdb") as backend:
        state = solve.run(QUESTION, backend=backend)  # or sgl.set_default_backend(backend)
        print(state["solution"], state.get_meta_info("solution")["takeovers"])

`gen` (max_tokens, temperature, top_p, stop, stop_token_ids, ignore_eos), `select` with every choice method of SGLang's,
`fork` and `join`, `run_batch`, `stream=True`, `var_scope` and chat roles work. What does not go with intervention is refused
by name: regex, json_schema and dtype; n; min_tokens; stop_regex; top_k, min_p and penalties; return_logprob and its
companions; images and videos; num_api_spec_tokens.

Each `gen` is one sample in the store: a row for every token, the gate's decisions, both models' distributions.
`state.get_meta_info(name)` says which. An error ends the program state: `state.error()` has it, and reading a result raises
it.
"""

from __future__ import annotations

import importlib.util

from rrti_sgl.errors import UsageError
from rrti_sgl.serving import stand_ins

if importlib.util.find_spec("sglang") is None:
    raise UsageError("SGLang is not installed.", "With a GPU: pip install 'sglang>=0.5.17'. Without: see the README.")
if importlib.util.find_spec("triton") is None:
    stand_ins.install()

from rrti_sgl.programs.frontend.backend import InterventionBackend

__all__ = ["InterventionBackend"]
