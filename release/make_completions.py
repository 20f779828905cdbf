"""Write `completions/`: what each shell loads by itself where the package is installed. A file asks the installed program, which
is always of the installed version.

    python release/make_completions.py [DIR]     prints nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobjar.create import PROGRAMS

_BASH = """# bash-completion loads this file when Tab is first pressed after the program's name.
eval "$(jobjar completion bash 2>/dev/null)"
"""
_FISH = """# fish loads this file when Tab is first pressed after the program's name.
jobjar completion fish 2>/dev/null | source
"""
_ZSH = """#compdef {programs}
# zsh calls this as a function: it replaces itself by the real one, and calls that.
eval "$(jobjar completion zsh 2>/dev/null)"
_python_argcomplete "$@"
"""


def make_completions(directory: Path) -> None:
    """Write the files of each shell into a directory of its own below `directory`. Names are what the shells look for."""
    texts = {f"bash/{program}": _BASH for program in PROGRAMS}
    texts |= {f"fish/{program}.fish": _FISH for program in PROGRAMS}
    texts["zsh/_jobjar"] = _ZSH.format(programs=" ".join(PROGRAMS))
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    make_completions(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
