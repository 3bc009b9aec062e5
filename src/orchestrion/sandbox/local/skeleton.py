"""The bare system that every sandbox starts from: made once, of the host's without what is private in it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

from orchestrion.sandbox.local.launcher.identity import USER
from orchestrion.sandbox.local.places import remove_tree

_VERSION = 2
_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DIRECTORIES = (
    "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr",
    "var/cache", "var/lib", "var/log", "var/spool", "var/tmp", "workspace", "home/user", "opt/orchestrion",
)  # fmt: skip
_STICKY = ("tmp", "var/tmp")
# What of the host's /etc is nobody's secret and programs want. Keys and passwords are in none of them.
_ETC = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "fonts", "ssl/certs", "ssl/openssl.cnf",
    "ca-certificates.conf", "localtime", "timezone", "mime.types", "protocols", "services", "bash_completion",
    "debian_version", "os-release", "ImageMagick-6", "ImageMagick-7", "java-11-openjdk", "java-17-openjdk",
    "java-21-openjdk", "perl", "python3", "python3.11", "python3.12", "python3.13", "R",
)  # fmt: skip
_PATH = "/opt/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOLOGIN = "/usr/sbin/nologin"
_PAM = "account sufficient pam_permit.so\nsession optional pam_permit.so\n"
_SUDOERS = f"""Defaults env_keep += "HTTP_PROXY HTTPS_PROXY http_proxy https_proxy NO_PROXY no_proxy"
Defaults env_keep += "ANTHROPIC_BASE_URL ANTHROPIC_API_KEY OPENAI_BASE_URL OPENAI_API_KEY"
Defaults !use_pty, secure_path="{_PATH}"
root ALL=(ALL:ALL) ALL
user ALL=(ALL:ALL) NOPASSWD: ALL
"""
_PROFILE = f"""case ":$PATH:" in
*:/opt/python/bin:*) ;;
*) PATH="{_PATH}${{PATH:+:$PATH}}" ;;
esac
export PATH
[ -n "$BASH_VERSION" ] && [ -n "$PS1" ] && . /etc/bash.bashrc
:
"""


def etc_files() -> dict[str, str]:
    """Return the files of /etc that are made, not the host's: its users are none of a sandbox's business."""
    shell = "/bin/bash"
    prompt = r"PS1='\u@\h:\w\$ '"
    return {
        "passwd": f"root:x:0:0:root:/root:{shell}\nuser:x:{USER}:{USER}:user:/home/user:{shell}\n"
        f"nobody:x:65534:65534:nobody:/nonexistent:{_NOLOGIN}\n",
        "group": f"root:x:0:\ntty:x:5:\nsudo:x:27:user\nusers:x:100:user\nuser:x:{USER}:\nnogroup:x:65534:\n",
        "shadow": "root:*:20000:0:99999:7:::\nuser:*:20000:0:99999:7:::\n",
        "hosts": "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost\n",
        "hostname": "sandbox\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
        # No network but the gateway's proxy, which resolves names itself: who asks here is told no at once.
        "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        "sudoers": _SUDOERS,
        "pam.d/sudo": f"auth sufficient pam_permit.so\n{_PAM}",
        "pam.d/su": f"auth sufficient pam_rootok.so\n{_PAM}",
        "profile": _PROFILE,
        "bash.bashrc": f'[ -z "$PS1" ] || {prompt}\n',
        "environment": "",
        "machine-id": "",
        "shells": "/bin/sh\n/bin/bash\n",
        "fstab": "",
    }


_HOME_FILES = {
    ".bashrc": "[ -z \"$PS1\" ] || alias ls='ls --color=auto'\n",
    ".profile": '[ -n "$BASH_VERSION" ] && [ -f ~/.bashrc ] && . ~/.bashrc\n:\n',
    ".bash_logout": "",
}


def build(parent: Path, mounts: list[str]) -> Path:
    """Return a directory with the system's bare bones; it is made if there is none of that kind yet.

    Args:
        parent: Where these directories are kept.
        mounts: Further directories inside that must exist, to mount something on.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    gives = _may_give(parent)
    path = parent / _key(mounts, gives)
    lock = os.open(parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = parent / f"{path.name}.part"
            remove_tree(part)
            _fill(part, mounts, gives)
            part.rename(path)
    finally:
        os.close(lock)
    return path


def _may_give(parent: Path) -> bool:
    """Say whether files can be given to the sandbox's user: root in a container may lack that right."""
    with tempfile.TemporaryFile(dir=parent) as file:
        try:
            os.fchown(file.fileno(), USER, USER)
        except OSError:
            return False
    return os.geteuid() == 0


def _key(mounts: list[str], gives: bool) -> str:
    """Name the system after all that it is made of."""
    seen: list[object] = [_VERSION, sorted(mounts), etc_files(), os.geteuid(), gives]
    for name in _ETC:
        with contextlib.suppress(OSError):
            found = Path("/etc", name).stat()
            seen.append([name, found.st_mtime_ns, found.st_size])
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def _fill(root: Path, mounts: list[str], gives: bool) -> None:
    root.mkdir(mode=0o755)
    for name in (*_DIRECTORIES, *(mount.lstrip("/") for mount in mounts)):
        _directories(root, name)
    for name in _STICKY:
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o755)
    _link_usr(root)
    _copy_etc(root / "etc")
    for name, text in etc_files().items():
        _write(root / "etc" / name, text)
    (root / "etc" / "sudoers").chmod(0o440)
    # An ordinary user's sandbox has that user alone, who would be its owner.
    (root / "etc" / "shadow").chmod(0o600 if os.geteuid() == 0 else 0)
    _fill_home(root / "home" / "user", gives)
    _write(root / "root" / ".bashrc", _HOME_FILES[".bashrc"])


def _directories(root: Path, name: str) -> None:
    place = root
    for part in Path(name).parts:
        place = place / part
        if not place.is_dir():
            place.mkdir()
            place.chmod(0o755)


def _link_usr(root: Path, host: Path = Path("/")) -> None:
    for name in _USR_LINKS:
        if (host / name).exists() and (host / "usr" / name).is_dir():
            (root / name).symlink_to(f"usr/{name}")


def _copy_etc(etc: Path, host: Path = Path("/etc")) -> None:
    for name in _ETC:
        source, target = host / name, etc / name
        with contextlib.suppress(OSError, shutil.Error):
            target.parent.mkdir(mode=0o755, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=_unreadable, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target, follow_symlinks=name != "localtime")


def _unreadable(folder: str, names: list[str]) -> set[str]:
    """Leave out what not everybody may read: it may be a secret."""
    return {name for name in names if not _is_public(Path(folder, name))}


def _is_public(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) or bool(found.st_mode & stat.S_IROTH)


def _fill_home(home: Path, gives: bool) -> None:
    for name, text in _HOME_FILES.items():
        _write(home / name, text)
    if gives:
        for path in (home, *home.iterdir()):
            os.chown(path, USER, USER)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o644)
