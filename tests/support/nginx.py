"""A real nginx in front of servers, as deployments have it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests import tools
from tests.support.processes import HOST, Process, answers, free_port

#: What every configuration needs so that nginx stays in `@folder@` and in the foreground.
AROUND = """
daemon off;
@user@
pid @folder@/nginx.pid;
error_log stderr info;
worker_processes 1;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path @folder@/body;
    proxy_temp_path @folder@/proxy;
    fastcgi_temp_path @folder@/fastcgi;
    uwsgi_temp_path @folder@/uwsgi;
    scgi_temp_path @folder@/scgi;
    @http@
}
"""


class Nginx:
    """One nginx on a free port. `http` stands inside its ``http`` block, with `@port@` for the port."""

    def __init__(self, folder: Path, http: str) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        place = folder / f"nginx-{self.port}"
        place.mkdir()
        values = {
            "@http@": http,
            "@folder@": str(place),
            "@port@": str(self.port),
            "@user@": "user root;" if os.geteuid() == 0 else "",
        }
        text = AROUND
        for name, value in values.items():
            text = text.replace(name, value)
        config = place / "nginx.conf"
        config.write_text(text, "utf-8")
        self._process = Process(
            [tools.nginx(), "-p", place, "-c", config, "-e", "stderr"], log=place / "log", cwd=place
        )

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process.spawn()
        self._process.wait_until(lambda: answers(self.port))

    def stop(self) -> None:
        """An orderly stop that cuts every connection."""
        self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. Nothing if it does not run."""
        self._process.kill()

    def log(self) -> str:
        """What it said."""
        return self._process.log()
