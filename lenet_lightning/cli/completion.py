"""Completion of ``lenet-lightning`` in bash, and in zsh after ``bashcompinit``.

``source <(python -m lenet_lightning.cli.completion)`` completes commands, the options of ``fit``,
their values, and files.
"""

from pathlib import Path

from lenet_lightning.arguments import COMMANDS
from lenet_lightning.cli.quick_checks import options, shipped_schema

SCRIPT = Path(__file__).with_suffix(".bash")


def text() -> str:
    """Return the script."""
    known = {f"--{name}": words for name, words in options(shipped_schema()).items()}
    known["--config"] = []
    cases = [
        f'    {name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur")); return;;'
        for name, words in known.items()
        if words
    ]
    script = SCRIPT.read_text("utf-8").replace("@COMMANDS@", " ".join(COMMANDS))
    return script.replace("@OPTIONS@", " ".join(known)).replace("@CASES@", "\n".join(cases))


if __name__ == "__main__":
    print(text(), end="")
