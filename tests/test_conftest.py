"""What is asked of every test: that it is called the same in each run, and when it runs."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tests.conftest import changes_with_each_run, spread


def test_a_test_called_by_a_uuid_that_its_file_does_not_hold_is_found() -> None:
    unknown = uuid4()
    source = f'@pytest.mark.parametrize("id", ["{unknown}", str(uuid4())])'

    assert not changes_with_each_run(f"test_a[{unknown}-pg15]", source)
    assert changes_with_each_run(f"test_a[{uuid4()}]", source)
    assert changes_with_each_run(f"test_a[x-{uuid4().hex}-pg15]", source)


def test_files_that_look_at_browsers_run_evenly_among_the_others() -> None:
    files = {Path(f"{count}"): count for count in range(1, 101)}
    watching = {Path("10"), Path("20"), Path("30"), Path("40")}
    order = spread(files, watching)
    assert set(order) == set(files)
    others = [path for path in order if path not in watching]
    assert others == sorted(others, key=lambda path: -files[path]), "what takes long does not come last"
    assert [order.index(Path(name)) for name in ("40", "30", "20", "10")] == [1, 26, 51, 76]
