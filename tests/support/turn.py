"""A real coturn, as deployments have it: docs/turnserver.conf."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests import tools
from tests.support.processes import HOST, Process, answers, free_port

SECRET = "what coturn and the server share"
#: Of the example, what each installation has of its own.
_OWN = re.compile(r"^(listening-port|tls-listening-port|cert|pkey|static-auth-secret)=.*\n", re.MULTILINE)


class Turn:
    """One coturn on a free port of loopback, that shares `SECRET`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        place = folder / f"coturn-{self.port}"
        place.mkdir()
        example = (tools.ROOT / "docs" / "turnserver.conf").read_text("utf-8")
        text, replaced = _OWN.subn("", example)
        assert replaced == 5, "the example has them all"
        own = {
            "listening-ip": HOST,
            "relay-ip": HOST,
            "listening-port": self.port,
            "static-auth-secret": SECRET,
            "userdb": place / "turndb",
            "pidfile": place / "pid",
        }
        flags = ["no-tls", "no-dtls", "allow-loopback-peers"]
        lines = [text, *(f"{name}={value}" for name, value in own.items()), *flags, ""]
        config = place / "turnserver.conf"
        config.write_text("\n".join(lines), "utf-8")
        self._process = Process([tools.coturn(), "-c", config], log=place / "log", cwd=place)

    def ice_servers(self, transport: str = "udp") -> str:
        """The setting ICE_SERVERS of a server that uses it."""
        return json.dumps([{"urls": f"turn:{HOST}:{self.port}?transport={transport}", "secret": SECRET}])

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process.spawn()
        self._process.wait_until(lambda: answers(self.port))

    def kill(self) -> None:
        """SIGKILL, which forgets all that is relayed. Nothing if it does not run."""
        self._process.kill()
