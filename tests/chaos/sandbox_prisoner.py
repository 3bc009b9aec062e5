"""Makes two sandboxes, attacks out of one, and prints as JSON what succeeded and what the host sees.

A program of its own, so that a test can run it as another user. Called with: data directory, the sandbox's Python,
whether code may become root, the file of the attacks.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.local.records import Records
from orchestrion.sandbox.protocols import SandboxSpec

NAMESPACES = ("mnt", "net", "pid", "user", "uts", "ipc", "cgroup")


async def main(home: Path, python: Path, root: bool, script: str) -> dict[str, Any]:
    provider = LocalProvider(home, python, pool=0)
    state = await provider.probe()
    if not state.ok:
        return {"skip": f"{state.detail} {state.remedy}"}
    try:
        return await attack(provider, home, root, script)
    finally:
        for info in await provider.known():
            await provider.remove(info.id)
        await provider.aclose()


async def attack(provider: LocalProvider, home: Path, root: bool, script: str) -> dict[str, Any]:
    workspaces = [home / "workspaces" / name for name in ("one", "two")]
    for path in workspaces:
        path.mkdir(parents=True, exist_ok=True)
    secret = home / "secret"
    secret.write_text("of the host")
    (workspaces[1] / "private").write_text("of the other session")
    one, two = [
        await provider.create(SandboxSpec(session_id=path.name, workspace=path, root=root)) for path in workspaces
    ]
    await two.run_command("sleep 5417 & echo mine > ~/private")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        name = f"orchestrion-test-{os.getpid()}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        rw = home / "sandboxes" / two.id / "rw"
        told: dict[str, Any] = {
            "secrets": [str(secret), str(workspaces[1] / "private"), str(rw), str(home / "sandboxes" / two.id)],
            "ports": [tcp.getsockname()[1]],
            "abstract": name,
            "marks": ["sleep 5417"],
            "sudo": root,
        }
        attacks = {}
        (workspaces[0] / "attacks.py").write_text(Path(script).read_text())
        for user in ("user", "root") if root else ("user",):
            await one.run_command("rm -f /tmp/control", user=user)
            done = await one.run_command(f"python attacks.py '{json.dumps(told)}'", user=user, timeout=100)
            attacks[user] = json.loads(done.stdout) if done.exit_code == 0 else {"failed": done.stdout + done.stderr}
    if root:
        await one.run_command("cp /usr/bin/id id; chmod 4755 id; mkdir deep; touch deep/x", user="root")
    alive = await one.run_command("id -u")
    owners = sorted({path.lstat().st_uid for path in workspaces[0].rglob("*") if path.suffix != ".py"})
    return {"attacks": attacks, "lives": alive.stdout.strip(), "owners": owners, **outside(home, one.id, two.id)}


def outside(home: Path, *ids: str) -> dict[str, Any]:
    """Return what the host sees of the sandboxes: users and namespaces of their processes 1."""
    pids = [Records(home / "sandboxes").read(name).pid for name in ids]
    users = []
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        users.append([line.split()[1:] for line in lines if line.startswith(("Uid:", "Gid:"))])
    shared = []
    if os.geteuid() == 0:
        for name in NAMESPACES:
            inodes = [os.stat(f"/proc/{pid}/ns/{name}").st_ino for pid in (os.getpid(), *pids)]
            if len(set(inodes)) != len(inodes):
                shared.append(name)
    return {"users": users, "shared": shared}


if __name__ == "__main__":
    arguments = sys.argv
    found = asyncio.run(main(Path(arguments[1]), Path(arguments[2]), arguments[3] == "root", arguments[4]))
    print(json.dumps(found))
