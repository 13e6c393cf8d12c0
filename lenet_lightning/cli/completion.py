"""Completion of ``lenet-lightning`` in bash, and in zsh after ``bashcompinit``.

``source <(python -m lenet_lightning.cli.completion)`` completes commands, the options of ``fit``,
their values, and files.
"""

from lenet_lightning.arguments import COMMANDS
from lenet_lightning.cli.quick_checks import options, shipped_schema

SCRIPT = """\
_lenet_lightning() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
  if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "{commands}" -- "$cur")); return; fi
  case $prev in
{cases}
  esac
  case $cur in
    -*) COMPREPLY=($(compgen -W "{options}" -- "$cur"));;
    *) COMPREPLY=($(compgen -f -- "$cur"));;
  esac
}}
complete -o filenames -F _lenet_lightning lenet-lightning
"""


def text() -> str:
    """Return the script."""
    known = {f"--{name}": words for name, words in options(shipped_schema()).items()}
    known["--config"] = []
    cases = [
        f'    {name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur")); return;;'
        for name, words in known.items()
        if words
    ]
    return SCRIPT.format(
        commands=" ".join(COMMANDS), options=" ".join(known), cases="\n".join(cases)
    )


if __name__ == "__main__":
    print(text(), end="")
