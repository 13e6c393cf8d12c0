_lenet_lightning() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "@COMMANDS@" -- "$cur")); return; fi
  case $prev in
@CASES@
  esac
  case $cur in
    -*) COMPREPLY=($(compgen -W "@OPTIONS@" -- "$cur"));;
    *) COMPREPLY=($(compgen -f -- "$cur"));;
  esac
}
complete -o filenames -F _lenet_lightning lenet-lightning
