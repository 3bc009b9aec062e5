# The persistent bash: evaluates cells one after another and reports the exit status of each.
#
# Descriptor 3 is the channel: two texts that end in a zero byte come in for each cell (what to run before it, and the
# cell), a line of JSON goes out. `exit`, a failing `set -e` or an interrupt end a shell for good; then this one starts
# anew in the same process with the variables, functions and directory that it had.
#
# It runs as `bash -c <this text> bash`, so that messages begin with `bash:` as anywhere.
# Arguments after such an ending: the file with what to restore, and the exit status to report.

if [[ -n ${1-} ]]; then
  source "$1" 2>/dev/null
  rm -f -- "$1"
  printf '{"type":"end","status":%d}\n' "$2" >&3
else
  printf '{"type":"ready"}\n' >&3
fi
set --

_guest_leave() {
  _guest_status=$?
  trap - EXIT
  trap : INT
  set +eu
  eval "$_guest_undo"
  _guest_state=$(mktemp) || exit
  {
    declare -p | grep -vE '^declare -[a-zA-Z]*r[a-zA-Z]* (BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID)='
    declare -f
    alias -p
    shopt -p
  } >"$_guest_state"
  exec /bin/bash --norc --noprofile -c "$BASH_EXECUTION_STRING" bash "$_guest_state" "$_guest_status"
}

_guest_read() {
  until IFS= read -r -d '' "$1" <&3; do
    # Only a signal makes another try worth while; else the daemon has let go of us.
    (($? > 128)) || { trap - EXIT; exit; }
  done
}

while :; do
  trap : INT
  _guest_read _guest_before
  _guest_read _guest_cell
  _guest_undo=
  trap _guest_leave EXIT
  trap 'exit 130' INT
  printf '{"type":"begin"}\n' >&3
  eval "$_guest_before"
  eval "$_guest_cell"
  _guest_status=$?
  trap : INT
  eval "$_guest_undo"
  printf '{"type":"end","status":%d}\n' "$_guest_status" >&3
done
