"""The versions of SGLang that are supported, and every difference between them that matters here.

Supported are 0.5.17 (the newest for torch 2.11) and later; tried up to 0.5.23 (torch 2.14). Read in both published wheels:

=====================================  ==============================  ==============================  ===================
what                                   0.5.17                          0.5.23                          handled in
=====================================  ==============================  ==============================  ===================
torch                                  2.11.0                          2.14.1                          the installation
`/model_info`                          no `served_model_name`          has it                          `served_name` here
`return_flat_raw_output_top_logprobs`  unknown, ignored: the drawn     `output_top_logprobs_*_flat_    `engines.wire`
                                       tokens' lists come nested       b64` fields                     reads both
`return_flat_raw_top_logprobs(_b64)`   both, same `input_top_          the same                        `engines.wire`
                                       logprobs_*_flat_b64` fields
`SchedulerOutputStreamer.              not there                       there                           the plugin stays
is_request_level_customized_info_key`                                                                  off, with a warning
`--incremental-streaming-output`       also as `--stream-output`       that name alone                 `serving.server`
`ServerArgs`, once it is resolved      takes no assignment             takes one                       `serving.closed`
row and prompt of a running request    `req_pool_idx`, `extend_range`  `kv.req_pool_idx`,              `fused.places`
                                                                       `extend_end`
slots of a matched prefix              in the match                    asked of the tree               `fused.places`
workers of speculative algorithms      are given `ps`                  are not                         `fused.worker`
`--cuda-graph-max-bs`                  old name still accepted         `--cuda-graph-max-bs-decode`    `GRAPH_BATCH_FLAG`
                                                                       alone (0.5.17 has it, too)
=====================================  ==============================  ==============================  ===================

The same in both: `/server_info` and `/model_info` with their older names `/get_server_info` and `/get_model_info`,
`/generate`, `/flush_cache`, `/abort_request`, `/health`; `launch_server.run_server`, `prepare_server_args`,
`kill_process_tree` and `load_plugins`; every flag of `rrti_sgl.serving.server`; the other four targets of the plugin's
hooks; what `--mem-fraction-static` means (`rrti_sgl.serving.memory`). Without that one hook target exact scores are not
to be had from 0.5.17: `--score-kind plugin` is refused before the first token.

A router (sglang-router 0.3.2) answers differently from a server of either version: see `rrti_sgl.serving.router`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
from collections.abc import Mapping
from typing import Any

from rrti_sgl.errors import EndpointError, UsageError, argument, need_posix

logger = logging.getLogger(__name__)

OLDEST = (0, 5, 17)
NEWEST_TRIED = (0, 5, 23)

MODEL_INFO_ROUTES = ("/model_info", "/get_model_info")
"""Newest first; a router knows only the older one of each."""
SERVER_INFO_ROUTES = ("/server_info", "/get_server_info")
GRAPH_BATCH_FLAG = "--cuda-graph-max-bs-decode"
"""Largest batch that is captured as a CUDA graph; both versions have this name."""


def parse_version(version: str) -> tuple[int, int, int] | None:
    """`"0.5.17.post1"` -> (0, 5, 17); None for what names no release, such as a build of a source tree ("0.0.0.dev1")."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None or version.startswith("0.0.0"):
        return None
    return int(match[1]), int(match[2]), int(match[3])


def check_version(version: str, where: str) -> None:
    """Refuse an SGLang that is too old; one that is newer than what was tried is used, with a warning.

    Args:
        version: as SGLang reports it.
        where: who reports it, for messages (a URL, "this installation").

    Raises:
        EndpointError: it is older than 0.5.17.
    """
    release = parse_version(version)
    if release is None:
        logger.warning("%s: SGLang %s is no release; nothing is known of its interface", where, version)
    elif release < OLDEST:
        raise EndpointError(
            f"{where}: SGLang {version} is not supported; {_text(OLDEST)} is the oldest that is.",
            f"Upgrade it: pip install 'sglang>={_text(OLDEST)}'.",
        )
    elif release > NEWEST_TRIED:
        logger.warning("%s: SGLang %s is newer than %s, the newest that was tried", where, version, _text(NEWEST_TRIED))


def check_installed() -> str:
    """The version of the SGLang of this installation, checked before a server of it is started.

    Raises:
        UsageError: there is none, or no PyTorch, or this is Windows.
        EndpointError: it is too old.
    """
    need_posix("SGLang servers need")
    for module, name in (("sglang", "SGLang"), ("torch", "PyTorch")):
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"{name} is not installed beside rrti-sgl, so no server can be started here.",
                f"With a GPU: pip install 'sglang>={_text(OLDEST)}'. Without: `make demo` in a checkout makes an "
                f"environment. Or name running servers: {argument('base_url')} and {argument('reasoning_url')}.",
            )
    try:
        version = importlib.metadata.version("sglang")
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"  # a source tree on the path
    check_version(version, "this installation")
    return version


def served_name(model: Mapping[str, Any], server: Mapping[str, Any]) -> str:
    """What a server calls its model, from its `/model_info` and `/server_info`; 0.5.17 says it only in the second."""
    return str(model.get("served_model_name") or server.get("served_model_name") or model["model_path"])


def _text(release: tuple[int, int, int]) -> str:
    return ".".join(map(str, release))
