"""Completion of ``lenet-lightning`` in bash, and in zsh after ``bashcompinit``.

``source <(python -m lenet_lightning.cli.completion)`` completes commands, the options of ``fit``,
their values, and files.
"""

from lenet_lightning.arguments import COMMANDS
from lenet_lightning.cli.schema import Schema, generate

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


def options(schema: Schema, prefix: str = "--") -> dict[str, list[str]]:
    """Return the options that a schema describes, each with the values that it may have, if few."""
    found: dict[str, list[str]] = {}
    for part in schema.get("anyOf", []):
        found |= options(part, prefix)
    for name, inner in schema.get("properties", {}).items():
        if name == "init_args":  # nobody types it
            found |= options(inner, prefix)
        elif name not in ("class_path", "dict_kwargs"):
            found[prefix + name] = values(inner)
            found |= options(inner, f"{prefix}{name}.")
    return found


def values(schema: Schema) -> list[str]:
    """Return the words that a schema lists."""
    inner = [word for part in schema.get("anyOf", []) for word in values(part)]
    flags = ["true", "false"] * (schema.get("type") == "boolean")
    words = [word for word in schema.get("enum", []) if isinstance(word, str)]
    return list(dict.fromkeys(inner + flags + words))


def text() -> str:
    """Return the script."""
    known = options(generate()) | {"--config": []}
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
