"""What the scripts for the shells hold beside the tables: how names are asked for, and how a line is taken apart."""

# Names come from whoever made a job or a model: nothing of them may be carried out by the shell, so they are quoted.
BASH_BEFORE = r"""
_btmctl_ask() {
  local prefix=${2//\\/}
  prefix=${prefix#[\"\']}
  "$_btmctl_program" __complete "$1" "$prefix" "$_btmctl_socket" 2>/dev/null
}
_btmctl_names() {
  local name
  while IFS= read -r name; do
    if [[ $2 == [\"\']* ]]; then
      [[ $name == *[\"\'\$\`\\!]* ]] || printf '%s\n' "$name"
    else
      printf '%q\n' "$name"
    fi
  done < <(_btmctl_ask "$1" "$2")
}
_btmctl_jobs() { _btmctl_names jobs "$1"; }
_btmctl_datasets() { _btmctl_names datasets "$1"; }
_btmctl_models() { _btmctl_names models "$1"; }
_btmctl_presets() { _btmctl_names presets "$1"; }
_btmctl_own_presets() { _btmctl_names own-presets "$1"; }
_btmctl_settings() { _btmctl_names settings "$1"; }
_btmctl_backups() { _btmctl_names backups "$1"; }
_btmctl_settings_to_set() {
  local key
  while IFS= read -r key; do printf '%s=\n' "$key"; done < <(_btmctl_ask settings "$1")
}
_btmctl_users() { compgen -u -- "$1"; }
_btmctl_files() { compgen -f -- "$1"; }
_btmctl_folders() { compgen -d -- "$1"; }
_btmctl_models_or_files() { _btmctl_ask models "$1"; compgen -f -- "$1"; }
_btmctl_datasets_or_files() { _btmctl_ask datasets "$1"; compgen -f -- "$1"; }
"""

# bash takes "--socket=x" for three words.
BASH_AFTER = r"""

_btmctl() {
  local _btmctl_program=${COMP_WORDS[0]/#\~/$HOME} _btmctl_socket= words=() word i
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == "=" && ${COMP_WORDS[i-1]-} == --* ]]; then
      ((i < COMP_CWORD)) || words+=("")
    else
      words+=("$word")
    fi
  done
  for ((i = 1; i + 1 < ${#words[@]}; i++)); do
    [[ ${words[i]} != --socket ]] || _btmctl_socket=${words[i+1]/#\~/$HOME}
  done
  COMP_WORDS=("${words[@]}")
  COMP_CWORD=$((${#words[@]} - 1))
  _shtab_btmctl
  if [[ ${COMPREPLY[0]-} == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
  return 0
}
complete -o bashdefault -F _btmctl btmctl
"""

ZSH_BEFORE = r"""
_btmctl_ask() {
  reply=("${(@f)$(${~_btmctl_program} __complete $1 "$PREFIX" "$_btmctl_socket" 2>/dev/null)}")
  reply=(${reply:#})
}
_btmctl_names() { local -a reply; _btmctl_ask $1; compadd -a reply; }
_btmctl_jobs() { _btmctl_names jobs; }
_btmctl_datasets() { _btmctl_names datasets; }
_btmctl_models() { _btmctl_names models; }
_btmctl_presets() { _btmctl_names presets; }
_btmctl_own_presets() { _btmctl_names own-presets; }
_btmctl_settings() { _btmctl_names settings; }
_btmctl_backups() { _btmctl_names backups; }
_btmctl_settings_to_set() { local -a reply; _btmctl_ask settings; compadd -S = -a reply; }
_btmctl_users() { _users; }
_btmctl_files() { _files; }
_btmctl_folders() { _files -/; }
_btmctl_models_or_files() { _btmctl_names models; _files; }
_btmctl_datasets_or_files() { _btmctl_names datasets; _files; }
"""

ZSH_AFTER = r"""
_btmctl() {
  local _btmctl_program=$words[1] _btmctl_socket= i
  local -A opt_args
  for ((i = 2; i <= $#words; i++)); do
    case $words[i] in
      --socket) _btmctl_socket=${~words[i+1]} ;;
      --socket=*) _btmctl_socket=${~words[i]#--socket=} ;;
    esac
  done
  _shtab_btmctl "$@"
}

if [[ $funcstack[1] == _btmctl ]]; then
  _btmctl "$@"
else
  compdef _btmctl btmctl
fi
"""
