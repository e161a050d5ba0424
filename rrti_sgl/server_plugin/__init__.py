"""A plugin for SGLang servers that returns exact numbers from the logits, which top-k lists only bound.

For requests that ask for it, each position's entropy over the whole vocabulary, its log-normaliser, and its
log-probabilities at token ids that the request names for that very position come back in
`meta_info["rrti_exact"]`. With the base model's top-k ids named, CE(p_b, p_r) is exact on the base's list.

SGLang loads the entry point `sglang.srt.plugins` in every process of every server of the environment. Nothing is hooked
unless `RRTI_EXACT_SCORES=1` is set (`rrti serve` and `Server` set it), and with it only requests that ask are touched.

No fault in here ends a server: it is logged, its text is the answer's `error`, and all else is answered as without us.

`protocol` is what both ends know, `measuring` the arithmetic, `hooks` what is hooked where.
"""

from __future__ import annotations

import logging
import os

VARIABLE = "RRTI_EXACT_SCORES"
"""Environment variable that switches the plugin on ("1")."""

logger = logging.getLogger(__name__)


def register() -> None:
    """The entry point: hook into this SGLang process if the environment asks for it and this SGLang can be hooked."""
    if os.environ.get(VARIABLE) != "1":
        return
    from rrti_sgl.server_plugin import hooks

    missing = hooks.missing_targets()
    if missing:
        logger.warning("exact scores are off: this SGLang has no %s", ", ".join(missing))
        return
    hooks.register_all()
