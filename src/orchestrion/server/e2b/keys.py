"""Who may use the endpoint: the configured keys, and one of the endpoint's own in the form that SDKs expect."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from orchestrion.server.security import owner_of


def kept_secret(path: Path, make: str) -> str:
    """Return what a file holds that only its owner can read; it is written with `make` if it is not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600, exist_ok=False)
    try:
        draft.write_text(f"{make}\n")
        # A link fails where a file is already, so that two processes agree on one secret.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text().strip()


class Keys:
    """The keys that are let in.

    Args:
        folder: Where the generated key is kept.
        configured: Further keys.
    """

    def __init__(self, folder: Path, configured: Sequence[str]) -> None:
        self.own = kept_secret(folder / "key", f"e2b_{secrets.token_hex(20)}")
        self._all = (self.own, *configured)
        self._traffic = kept_secret(folder / "traffic-secret", secrets.token_hex(32)).encode()

    def owner(self, given: str | None) -> str | None:
        """Return whose sandboxes this key may see; None if it is none of ours."""
        sent = (given or "").encode()
        fits = [key for key in self._all if hmac.compare_digest(key.encode(), sent)]
        return owner_of(fits[0]) if fits else None

    def traffic_token(self, sandbox_id: str) -> str:
        """Return the token that a private sandbox's ports demand; the same after a restart."""
        return hmac.new(self._traffic, sandbox_id.encode(), "sha256").hexdigest()[:40]
