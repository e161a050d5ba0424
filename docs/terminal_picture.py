"""A picture of commands and what they print in a terminal.

    python docs/terminal_picture.py FILE.svg FOLDER "rrti runs" "rrti show SAMPLE"

The commands are run in the folder, in a terminal of 80 columns. SAMPLE in one is the first sample that the one before named.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.palette import Palette
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

COLUMNS = 80
# Rich's own names a font on a server; the reader's monospaced one will do.
SVG = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code, ", "")


def printed(command: list[str], folder: Path) -> str:
    """What a command prints into a terminal, with its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment, cwd=folder)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # the other end is closed: all is read
        pass
    finally:
        os.close(ours)
    if process.wait():
        raise SystemExit(f"{shlex.join(command)} failed:\n{b''.join(parts).decode()}")
    return b"".join(parts).decode().replace("\r\n", "\n")


def main(arguments: list[str]) -> None:
    """Write the picture."""
    target, folder, *lines = arguments
    output = ""
    SVG_EXPORT_THEME.ansi_colors = Palette([(0, 0, 0), *SVG_EXPORT_THEME.ansi_colors._colors[1:]])  # its black is grey
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        if "SAMPLE" in line:
            line = line.replace("SAMPLE", re.findall(r"\b[0-9a-f]{12}\b", output)[0])
        program, *words = shlex.split(line)
        output = printed([str(Path(sys.executable).with_name(program)), *words], Path(folder))
        console.print(Text.assemble(("$ ", "bold green"), (line, "bold")))
        console.print(Text.from_ansi(output.strip("\n")))
        console.print()
    picture = console.export_svg(title="rrti", code_format=SVG, unique_id="terminal")
    Path(target).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
