"""What a failed system call means to the caller: a code of Connect's, a status of HTTP, a sentence."""

from __future__ import annotations

import errno
import os

from .connect import RpcError

_CODES = {
    errno.ENOENT: "not_found",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EROFS: "permission_denied",
    errno.EEXIST: "already_exists",
    errno.ENOTDIR: "invalid_argument",
    errno.EISDIR: "invalid_argument",
    errno.EINVAL: "invalid_argument",
    errno.ENAMETOOLONG: "invalid_argument",
    errno.ELOOP: "invalid_argument",
    errno.ENXIO: "invalid_argument",
    errno.ENOTEMPTY: "failed_precondition",
    errno.EBUSY: "failed_precondition",
    errno.ETXTBSY: "failed_precondition",
    errno.EAGAIN: "failed_precondition",
    errno.EXDEV: "failed_precondition",
    errno.ENOTSUP: "failed_precondition",
    errno.ENOSPC: "resource_exhausted",
    errno.EDQUOT: "resource_exhausted",
    errno.EFBIG: "resource_exhausted",
    errno.EMFILE: "resource_exhausted",
    errno.ENFILE: "resource_exhausted",
    errno.ENOMEM: "resource_exhausted",
}
_SENTENCES = {
    errno.ENOENT: "file not found: {path}",
    errno.ELOOP: "{path} leads through a link that is not followed",
    errno.ENXIO: "{path} is not a regular file",
    errno.ENOSPC: "not enough disk space left for {path}",
    errno.EDQUOT: "not enough disk space left for {path}: the quota is used up",
    errno.EFBIG: "{path} would become larger than a file may be in this sandbox",
}


def sentence(error: OSError, path: str) -> str:
    """Say in one sentence what went wrong with `path`."""
    template = _SENTENCES.get(error.errno or 0)
    if template is not None:
        return template.format(path=path)
    return f"{path}: {(error.strerror or str(error)).lower()}"


def as_rpc(error: OSError, path: str) -> RpcError:
    """Return the error of a call about `path`."""
    return RpcError(_CODES.get(error.errno or 0, "internal"), sentence(error, path))


def http_status(error: OSError | RpcError) -> int:
    """Return the HTTP status that stands for an error about a file."""
    if isinstance(error, RpcError):
        return 400 if error.code == "invalid_argument" else error.status
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 507
    if error.errno == errno.EFBIG:
        return 413
    return RpcError(_CODES.get(error.errno or 0, "internal"), "").status


def printable(name: str) -> str:
    """Return a file name as text that JSON can carry: bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")
