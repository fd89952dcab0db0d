"""The page's pure modules, tested in their own language."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import tools

HERE = Path(__file__).parent
SECONDS = 60


@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.name)
def test_the_tests_of_the_page_pass(file: Path) -> None:
    run = subprocess.run(
        [tools.node(), "--test", "--test-reporter=spec", file],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
