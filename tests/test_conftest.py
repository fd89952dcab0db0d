"""What is asked of every test: that it is called the same in each run."""

from __future__ import annotations

from uuid import uuid4

from tests.conftest import changes_with_each_run


def test_a_test_called_by_a_uuid_that_its_file_does_not_hold_is_found() -> None:
    unknown = uuid4()
    source = f'@pytest.mark.parametrize("id", ["{unknown}", str(uuid4())])'

    assert not changes_with_each_run(f"test_a[{unknown}-pg15]", source)
    assert changes_with_each_run(f"test_a[{uuid4()}]", source)
    assert changes_with_each_run(f"test_a[x-{uuid4().hex}-pg15]", source)
