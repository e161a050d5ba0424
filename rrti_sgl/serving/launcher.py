"""The process that becomes one SGLang server: `python -m rrti_sgl.serving.launcher [SGLang flags]`.

It is SGLang's own `launch_server`, unmodified, with two additions. On a machine without a GPU the inert stand-ins are
installed first (`RRTI_STAND_INS=1`); that happens at import, because the scheduler and detokenizer processes, started by
multiprocessing's "spawn", import this module again. And the server dies with whoever started it, by
`rrti_sgl.serving.lifeline`.
"""

from __future__ import annotations

import os
import sys

from rrti_sgl.serving import lifeline

if os.environ.get("RRTI_STAND_INS") == "1":
    from rrti_sgl.serving import stand_ins

    stand_ins.install()


def main(arguments: list[str]) -> None:
    """Run one server until it is stopped."""
    lifeline.hold()
    from sglang.srt.plugins import load_plugins

    load_plugins()
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    try:
        run_server(prepare_server_args(arguments))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main(sys.argv[1:])
