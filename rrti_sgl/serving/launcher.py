"""The process that becomes one SGLang server: `python -m rrti_sgl.serving.launcher [SGLang flags]`.

It is SGLang's own `launch_server`, unmodified, with three additions. On a machine without a GPU the inert stand-ins are
installed first (`RRTI_STAND_INS=1`); that happens at import, because the scheduler and detokenizer processes, started by
multiprocessing's "spawn", import this module again. The server dies with whoever started it (`rrti_sgl.serving.lifeline`)
and answers nobody else (`rrti_sgl.serving.closed`).
"""

from __future__ import annotations

import os
import sys

from rrti_sgl.serving import closed, lifeline

if os.environ.get("RRTI_STAND_INS") == "1":
    from rrti_sgl.serving import stand_ins

    stand_ins.install()
if __name__ == "__mp_main__":
    lifeline.die_with_launcher()
    closed.keep_store_on_its_address()


def main(arguments: list[str]) -> None:
    """Run one server until it is stopped."""
    key = lifeline.hold()
    from sglang.srt.plugins import load_plugins

    from rrti_sgl.fused.plugin import check

    check()
    load_plugins()
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    server_arguments = prepare_server_args(arguments)
    if key:
        closed.close(server_arguments, key)
    try:
        run_server(server_arguments)
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main(sys.argv[1:])
