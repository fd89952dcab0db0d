"""Real servers that speak S3's language, on loopback: moto's, and rclone's over a folder."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import mkdtemp

from aiobotocore.session import get_session

from tests.support.processes import HOST, Process, answers, free_port

BUCKET = "lessons"
ACCESS_KEY = "an-access-key"
SECRET_KEY = "a-secret-key-of-the-tests"
#: What a client of theirs needs in its environment.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Servers:
    """One server of each kind for all tests, started when it is first asked for: do not stop them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, S3Server] = {}

    async def url(self, kind: str) -> str:
        """Where it is, with its bucket: "moto" or "rclone". The environment must hold ENVIRONMENT."""
        if kind not in self._servers:
            server = S3Server(kind, Path(mkdtemp(dir=self._folder)))
            await asyncio.to_thread(server.start)
            self._servers[kind] = server
            if kind == "moto":
                async with get_session().create_client("s3", endpoint_url=server.url) as s3:
                    await s3.create_bucket(Bucket=BUCKET)
        return self._servers[kind].url

    def kill(self) -> None:
        for server in self._servers.values():
            server.kill()


class S3Server:
    """One server with an empty bucket, which may stop and start again. moto forgets then, rclone does not."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        programs = Path(sys.executable).parent
        (folder / BUCKET).mkdir()
        command: list[str | Path] = (
            [programs / "moto_server", "-H", HOST, "-p", str(self.port)]
            if kind == "moto"
            else [
                programs / "rclone", "serve", "s3", "--addr", f"{HOST}:{self.port}",
                "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", folder / "rclone.conf", folder,
            ]
        )  # fmt: skip
        self._process = Process(command, log=folder / f"{kind}-{self.port}.log", cwd=folder)

    def start(self) -> None:
        self._process.spawn()
        self._process.wait_until(lambda: answers(self.port))

    def kill(self) -> None:
        self._process.kill()
