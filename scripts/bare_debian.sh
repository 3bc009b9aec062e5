#!/usr/bin/env bash
# Proves the set-up on a bare Debian 12: a new tree with make and Python 3.11 and nothing else, entered with its own
# mounts, processes and /dev, and with the checkout's last commit cloned into it. User namespaces, which an ordinary
# user's sandboxes need, fail under a plain chroot, so the tree is entered with pivot_root.
#
#   sudo scripts/bare_debian.sh [root|user]… [-- COMMAND…]
#
# Runs `make run` twice and `make test` as root, then the same as an ordinary user. With a COMMAND it
# runs that instead. Takes this machine's apt and pip settings along, so that packages come from the same place.
#
#   BARE_DIR=/var/tmp/bare   where the trees are kept; the base tree is made once
#   BARE_COPY="/a /b"        further folders to copy in, for example a local folder of wheels that pip is told of
#   BARE_PACKAGES="x y"      further Debian packages for the ordinary user
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
work=${BARE_DIR:-/var/tmp/orchestrion-bare}
home_of() { [ "$1" = root ] && echo /root || echo /home/tester; }

fail() { echo "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "Making and entering the tree needs root: sudo $0"
command -v debootstrap >/dev/null || fail "Missing: debootstrap. Run: apt-get install -y debootstrap"

make_base() {
  [ -e "$work/base.done" ] && return
  echo "== making the base tree (debootstrap)"
  rm -rf "$work/base"; mkdir -p "$work"
  debootstrap --variant=minbase --include=python3,make bookworm "$work/base" >"$work/debootstrap.log"
  touch "$work/base.done"
}

copy_settings() {  # TREE
  local path
  for path in /etc/apt/sources.list.d/debian.sources /etc/apt/apt.conf.d /etc/pip.conf /etc/resolv.conf \
              /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates ${BARE_COPY:-}; do
    [ -e "$path" ] || continue
    mkdir -p "$1$(dirname "$path")"
    cp -aL "$path" "$1$(dirname "$path")/"
  done
  [ ! -e "$1/etc/apt/sources.list.d/debian.sources" ] || : >"$1/etc/apt/sources.list"
  echo "127.0.0.1 localhost" >"$1/etc/hosts"
}

make_tree() {  # USER
  local tree=$work/$1
  rm -rf "$tree"
  cp -a "$work/base" "$tree"
  copy_settings "$tree"
  if [ "$1" != root ]; then
    [ -z "${BARE_PACKAGES:-}" ] || enter "$tree" root "apt-get update -qq && apt-get install -qq -y --no-install-recommends $BARE_PACKAGES >/dev/null"
    chroot "$tree" useradd --create-home --shell /bin/bash tester
  fi
  git clone --quiet --no-hardlinks "$checkout" "$tree$(home_of "$1")/orchestrion"
  chown -R "$(stat -c %u:%g "$tree$(home_of "$1")")" "$tree$(home_of "$1")"
}

inside() {  # runs in the new namespaces: TREE USER COMMAND
  local tree=$1 node
  mount --make-rprivate /
  mount --bind "$tree" "$tree"
  cd "$tree"
  mount -t proc proc proc
  mount -t tmpfs -o mode=755 dev dev
  for node in null zero full random urandom tty; do touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
  mkdir -p dev/pts dev/shm .old
  mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
  mount -t tmpfs -o mode=1777 shm dev/shm
  ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
  mount --rbind /sys sys
  pivot_root . .old
  umount -l /.old; rmdir /.old
  exec runuser -u "$2" -- /bin/sh -c "$3"
}

enter() {  # TREE USER COMMAND
  local name settings=()
  while IFS= read -r name; do settings+=("$name=${!name}"); done \
    < <(compgen -e | grep -E '^(PIP_|UV_|npm_config_|SSL_CERT_FILE$|NODE_EXTRA_CA_CERTS$)|_(proxy|PROXY)$' || true)
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME="$(home_of "$2")" "${settings[@]}" \
    unshare --mount --pid --ipc --uts --fork --kill-child -- bash "$0" --inside "$1" "$2" "$3"
}

prove() {  # USER COMMAND
  local command began=$SECONDS
  command="cd $(home_of "$1")/orchestrion && $2"
  echo "== as $1: $2"
  enter "$work/$1" "$1" "$command" || fail "== as $1: FAILED with exit code $? after $((SECONDS - began)) s: $2"
  echo "== as $1: done in $((SECONDS - began)) s: $2"
}

[ "${1:-}" = --inside ] && { shift; inside "$@"; }

users=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do users+=("$([ "$1" = root ] && echo root || echo tester)"); shift; done
[ $# -gt 0 ] && shift
[ ${#users[@]} -gt 0 ] || users=(root tester)
commands=("make run" "make run" "make test")
[ $# -gt 0 ] && commands=("$*")

make_base
for user in "${users[@]}"; do
  echo "== a new tree for $user"
  make_tree "$user"
  for command in "${commands[@]}"; do prove "$user" "$command"; done
done
