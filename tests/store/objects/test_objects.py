"""What every place for files promises: a folder, and two servers that speak S3's language."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from store.objects import bucket, local, s3_upload
from store.objects.local import LocalStore
from store.objects.objects import CACHE_CONTROL, ObjectMissing, ObjectsAway, ObjectStore, Upload, in_thread
from store.objects.s3 import S3Store
from store.objects.s3_upload import PART_BYTES
from tests.store.objects.conftest import NewStore
from tests.support.buckets import BUCKET, ENVIRONMENT, S3Servers
from tests.support.processes import HOST, free_port
from tests.support.recorder import WAIT_SECONDS

KEY = "recordings/0190c0de.webm"


async def put(store: ObjectStore, key: str, data: bytes) -> None:
    upload = await store.resume(key, await store.begin(key, "video/webm"))
    for start in range(0, len(data), 100_000):
        await upload.write(data[start : start + 100_000])
    await upload.finish()


async def kept(upload: Upload) -> str:
    """Its state, as the request ends."""
    state = await upload.keep()
    upload.drop()
    return state


async def finish(store: ObjectStore, state: str) -> None:
    upload = await store.resume(KEY, state)
    await upload.write(b"more")
    await upload.finish()


async def got(store: ObjectStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, start, end)])


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, and no second try."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)


@pytest.mark.parametrize("size", [0, 1, 100_000, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 12_345])
async def test_what_was_put_is_read_back(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)

    await put(store, KEY, data)

    assert await got(store, KEY) == data
    stat = await store.stat(KEY)
    assert stat is not None
    assert stat.size == size
    assert '"' not in stat.etag
    assert stat.etag


@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 5), (999_999, 1_000_000), (1_000, 900_000), (500_000, None)])
async def test_a_range_is_read_without_the_rest(store: ObjectStore, start: int, end: int | None) -> None:
    data = os.urandom(1_000_000)
    await put(store, KEY, data)

    assert await got(store, KEY, start, end) == data[start:end]


async def test_another_content_has_another_etag(store: ObjectStore) -> None:
    await put(store, KEY, b"one")
    first = await store.stat(KEY)
    await put(store, KEY, b"two")
    second = await store.stat(KEY)

    assert first is not None
    assert second is not None
    assert first.etag != second.etag


async def test_an_upload_that_is_not_finished_cannot_be_read(store: ObjectStore) -> None:
    upload = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    await upload.write(b"half")
    await kept(upload)

    assert await store.stat(KEY) is None
    with pytest.raises(ObjectMissing):
        await got(store, KEY)


@pytest.mark.parametrize("seed", range(2))
async def test_an_upload_cut_anywhere_goes_on_at_another_worker(new_store: NewStore, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(2 * PART_BYTES + 54_321)
    state = await new_store().begin(KEY, "video/webm")
    at = 0
    while at < len(data):
        upload = await new_store().resume(KEY, state)
        assert upload.offset == at
        piece = data[at : at + chance.randint(1, PART_BYTES + 1_000_000)]
        for start in range(0, len(piece), 300_000):
            await upload.write(piece[start : start + 300_000])
        assert upload.offset == at + len(piece)
        state = await kept(upload)
        at += len(piece)
    last = await new_store().resume(KEY, state)
    await last.finish()

    assert await got(new_store(), KEY) == data


async def test_a_worker_that_dies_before_its_state_is_noted_loses_no_byte_of_the_one_before(
    new_store: NewStore,
) -> None:
    data = os.urandom(PART_BYTES + 3_000_000)
    upload = await new_store().resume(KEY, await new_store().begin(KEY, "video/webm"))
    await upload.write(data[:2_000_000])
    noted = await kept(upload)
    dies = await new_store().resume(KEY, noted)
    await dies.write(data[2_000_000:])
    await kept(dies)

    again = await new_store().resume(KEY, noted)

    # A folder has one file, and knows how long it is; in S3 the state says where to go on.
    assert again.offset in (2_000_000, len(data))
    await again.write(data[again.offset :])
    await again.finish()
    assert await got(new_store(), KEY) == data


async def test_an_upload_that_was_given_up_is_gone_and_leaves_nothing(store: ObjectStore) -> None:
    upload = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    await upload.write(os.urandom(100_000))
    state = await kept(upload)

    await store.give_up(KEY, state)
    await store.give_up(KEY, state)

    with pytest.raises(ObjectMissing):
        await finish(store, state)
    assert await store.stat(KEY) is None


async def test_a_deleted_file_is_gone_and_deleting_it_again_is_no_error(store: ObjectStore) -> None:
    await put(store, KEY, b"bytes")

    await store.delete(KEY)
    await store.delete(KEY)

    assert await store.stat(KEY) is None


async def test_a_key_from_elsewhere_reaches_nothing(store: ObjectStore) -> None:
    for key in ("../outside", "/etc/passwd", "a//b", "a/../b", "", "A", "a\x00b", "x" * 300):
        for reach in (store.stat, store.delete, lambda key: store.begin(key, "text/plain")):
            with pytest.raises(ValueError, match="not a key"):
                await reach(key)


async def test_a_signed_link_serves_the_file_under_our_headers(store: ObjectStore) -> None:
    await put(store, KEY, b"0123456789")

    link = await store.link(KEY, seconds=60, content_type="video/webm", disposition='inline; filename="a.webm"')

    if isinstance(store, LocalStore):
        assert link is None, "the server serves it itself"
        return
    assert link is not None
    signed = URL(link, encoded=True)
    async with aiohttp.ClientSession() as browser, browser.get(signed) as answer:
        assert answer.status == 200
        assert await answer.read() == b"0123456789"
        assert answer.headers["Content-Type"] == "video/webm"
        assert answer.headers["Content-Disposition"] == 'inline; filename="a.webm"'
        assert answer.headers["Cache-Control"] == CACHE_CONTROL


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("region", "bucket", "origin"),
    [
        ("eu-central-1", "lessons", "https://lessons.s3.eu-central-1.amazonaws.com"),
        ("cn-north-1", "lessons", "https://lessons.s3.cn-north-1.amazonaws.com.cn"),
        ("eu-central-1", "les.sons", "https://s3.eu-central-1.amazonaws.com"),
    ],
)
async def test_links_lead_to_the_buckets_own_host_in_its_region(
    region: str, bucket: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    store = S3Store(bucket)
    try:
        assert await store.origin() == origin
        link = await store.link(KEY, seconds=60, content_type="video/webm", disposition="inline")
    finally:
        await store.close()
    assert link is not None
    assert link.startswith(f"{origin}/")


async def test_a_place_that_is_there_says_so(store: ObjectStore) -> None:
    await store.check()


async def is_away(store: ObjectStore, why: str) -> None:
    """It says so to whoever asks, and to whoever has a file."""
    try:
        with pytest.raises(ObjectsAway, match=why):
            await store.check()
        with pytest.raises(ObjectsAway):
            await store.begin(KEY, "video/webm")
        with pytest.raises(ObjectsAway):
            await got(store, KEY)
    finally:
        await store.close()


@pytest.mark.usefixtures("aws")
async def test_a_bucket_that_cannot_be_reached_is_away() -> None:
    await is_away(S3Store("lessons", endpoint_url=f"http://{HOST}:{free_port()}"), "cannot be reached")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("kind", ["moto", "rclone"])
async def test_a_bucket_that_does_not_exist_is_away_and_named(s3_servers: S3Servers, kind: str) -> None:
    await is_away(S3Store("les-sons", endpoint_url=await s3_servers.url(kind)), "there is no bucket les-sons")


@pytest.mark.usefixtures("aws")
async def test_a_bucket_of_others_is_away_and_says_why(s3_servers: S3Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    url = await s3_servers.url("rclone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-key")
    await is_away(S3Store(BUCKET, endpoint_url=url), f"{BUCKET} may not be used")


@pytest.mark.usefixtures("aws")
async def test_a_bucket_without_credentials_is_away_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    await is_away(S3Store(BUCKET, endpoint_url=f"http://{HOST}:{free_port()}"), "Unable to locate credentials")


@pytest.mark.usefixtures("aws")
async def test_a_bucket_that_does_not_answer_is_away_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "READ_SECONDS", 0.1)
    with socket.create_server((HOST, 0)) as silent:
        await is_away(S3Store(BUCKET, endpoint_url=f"http://{HOST}:{silent.getsockname()[1]}"), "Read timeout")


async def test_a_folder_that_cannot_be_written_to_is_away(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file stands where the folder should")

    with pytest.raises(ObjectsAway, match="cannot be kept"):
        await LocalStore(tmp_path / "files").check()


async def test_a_folder_writes_what_it_gathered_and_no_more_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GATHERED_BYTES", 1_000)
    store = LocalStore(tmp_path)
    upload = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    for _ in range(10):
        await upload.write(b"x" * 300)

    lying = sum(path.stat().st_size for path in (tmp_path / "incoming").iterdir())
    assert 3_000 - 1_000 <= lying <= 3_000
    await upload.finish()


class School:
    """An owner of folders."""

    def __init__(self, name: str = "a-school", *, has_files: bool = False) -> None:
        self._name = name
        self._has_files = has_files

    async def name(self) -> str:
        return self._name

    async def has_files(self) -> bool:
        return self._has_files


async def test_a_share_that_is_not_mounted_is_away_and_nothing_is_missing_from_it(tmp_path: Path) -> None:
    root, unmounted = tmp_path / "files", tmp_path / "unmounted"
    await LocalStore(root, School()).check()
    store = LocalStore(root, School(has_files=True))
    await put(store, KEY, b"bytes")
    late = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    state = await kept(await store.resume(KEY, await store.begin(KEY, "video/webm")))
    root.rename(unmounted)
    root.mkdir()

    acts: list[Callable[[], Awaitable[object]]] = [
        store.check,
        lambda: store.stat(KEY),
        lambda: got(store, KEY),
        lambda: store.delete(KEY),
        lambda: store.begin(KEY, "video/webm"),
        lambda: store.resume(KEY, state),
        lambda: store.give_up(KEY, state),
        lambda: store.clear(before=datetime.now(UTC)),
        lambda: store.source(KEY, seconds=60),
        late.finish,
    ]
    for act in acts:
        with pytest.raises(ObjectsAway, match="is it mounted"):
            await act()
    assert [path.name for path in root.iterdir() if path.name != "objects"] == []

    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir()
    root.rmdir()
    unmounted.rename(root)
    assert await got(store, KEY) == b"bytes"
    assert (await kept(await store.resume(KEY, state))) == state


async def test_a_folder_of_another_installation_is_away(tmp_path: Path) -> None:
    await LocalStore(tmp_path / "files", School("one")).check()
    with pytest.raises(ObjectsAway, match="says two"):
        await LocalStore(tmp_path / "files", School("two")).check()
    await LocalStore(tmp_path / "files", School("one", has_files=True)).check()


async def test_what_is_above_a_folder_for_files_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(ObjectsAway):
        await LocalStore(tmp_path / "mnt" / "files", School()).check()
    assert not (tmp_path / "mnt").exists()


async def test_what_is_no_file_ends_no_clearing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await store.begin(KEY, "video/webm")
    (store.incoming / "0-a-folder").mkdir()

    await store.clear(before=datetime.now(UTC) + timedelta(seconds=60))

    assert [path.name for path in store.incoming.iterdir()] == ["0-a-folder"]


# moto answers such a part with a 500.
@pytest.mark.parametrize("new_store", ["local", "rclone"], indirect=True)
async def test_an_upload_that_was_swept_meanwhile_is_missing_to_whoever_goes_on(new_store: NewStore) -> None:
    store = new_store()
    state = await store.begin(KEY, "video/webm")
    late = await new_store().resume(KEY, state)
    await store.give_up(KEY, state)

    await late.write(b"later")
    with pytest.raises(ObjectMissing):
        await late.finish()
    assert await store.stat(KEY) is None


async def test_an_upload_whose_end_got_no_answer_can_be_ended_again(new_store: NewStore) -> None:
    store = new_store()
    if not isinstance(store, S3Store):
        pytest.skip("a folder always answers")
    upload = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    await upload.write(b"all of it")

    await upload.finish()
    await upload.finish()
    assert await got(store, KEY) == b"all of it"


async def test_when_a_file_was_written_can_be_said_in_http(store: ObjectStore) -> None:
    await put(store, KEY, b"x")

    stat = await store.stat(KEY)
    assert stat is not None
    assert stat.modified_at.tzinfo is UTC


@pytest.mark.parametrize("new_store", ["rclone"], indirect=True)
@pytest.mark.parametrize("end", ["part", "finish", "drop"])
async def test_only_so_many_uploads_gather_much_of_a_part_at_a_time_and_the_next_waits_for_its_turn(
    new_store: NewStore, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "MAX_GATHERING", 1)
    monkeypatch.setattr(s3_upload, "GATHERED_BYTES", 1_000)
    monkeypatch.setattr(s3_upload, "PART_BYTES", 4_000)
    store = new_store()
    first = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    await first.write(bytes(2_000))
    crowded = store.crowded
    assert crowded
    next_key = f"{KEY}.next"
    second = await store.resume(next_key, await store.begin(next_key, "video/webm"))
    await second.write(b"2" * 999)
    waits = asyncio.create_task(second.write(b"2"))
    await asyncio.sleep(0)
    assert not waits.done()

    if end == "part":
        await first.write(bytes(2_000))
    elif end == "finish":
        await first.finish()
    else:
        first.drop()

    await waits
    monkeypatch.setattr(s3_upload, "TURN_SECONDS", 0.01)
    with pytest.raises(ObjectsAway, match="too many"):
        await put(store, f"{KEY}.third", bytes(2_000))
    await second.finish()
    first.drop()
    assert not store.crowded
    assert await got(store, next_key) == b"2" * 1_000


@pytest.mark.parametrize("new_store", ["rclone"], indirect=True)
async def test_a_hundred_slow_uploads_keep_nobody_waiting_and_take_little_memory(new_store: NewStore) -> None:
    store, piece = new_store(), os.urandom(100_000)
    state = await store.begin(KEY, "video/webm")
    tracemalloc.start()
    try:
        uploads = [await store.resume(KEY, state) for _ in range(100)]
        for upload in uploads:
            for _ in range(10):
                await upload.write(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100 * s3_upload.GATHERED_BYTES
    for upload in uploads[1:]:
        upload.drop()
    await uploads[0].finish()
    assert await got(store, KEY) == piece * 10


@pytest.mark.parametrize("new_store", ["rclone"], indirect=True)
async def test_what_an_old_holder_keeps_late_takes_nothing_from_the_one_who_went_on(new_store: NewStore) -> None:
    data = os.urandom(100_000)
    noted = await new_store().begin(KEY, "video/webm")
    old, new = await new_store().resume(KEY, noted), await new_store().resume(KEY, noted)
    await old.write(data[:60_000])
    await new.write(data)
    state = await kept(new)

    await kept(old)

    again = await new_store().resume(KEY, state)
    assert again.offset == len(data)
    await again.finish()
    assert await got(new_store(), KEY) == data


@pytest.mark.parametrize("new_store", ["rclone"], indirect=True)
async def test_what_was_kept_before_does_not_stay_for_ever_beside_a_slow_upload(new_store: NewStore) -> None:
    store = new_store()
    assert isinstance(store, S3Store)
    upload = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    for _ in range(5):
        await upload.write(b"x" * 1_000)
        state = await upload.keep()
        assert await upload.keep() == state
    again = await new_store().resume(KEY, state)
    assert again.offset == 5_000
    again.drop()
    with pytest.raises(ObjectMissing):
        await new_store().resume(KEY, state.replace('"beside":5000', '"beside":3000'))
    await upload.finish()
    assert await got(store, KEY) == b"x" * 5_000


@pytest.mark.parametrize("new_store", ["rclone"], indirect=True)
async def test_an_upload_that_cannot_go_on_takes_nobodys_turn(
    new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "MAX_GATHERING", 1)
    monkeypatch.setattr(s3_upload, "GATHERED_BYTES", 1)
    monkeypatch.setattr(s3_upload, "TURN_SECONDS", 0.01)
    store = new_store()
    upload = await store.resume(KEY, await store.begin(KEY, "video/webm"))
    await upload.write(b"half")
    state = await kept(upload)
    await store.give_up(KEY, state)

    for _ in range(2):
        with pytest.raises(ObjectMissing):
            await store.resume(KEY, state)


async def test_who_is_cancelled_waits_for_the_thread_that_uses_their_file() -> None:
    began, may_end = threading.Event(), threading.Event()

    def use() -> None:
        began.set()
        may_end.wait(WAIT_SECONDS)

    using = asyncio.create_task(in_thread(use))
    await asyncio.to_thread(began.wait, WAIT_SECONDS)
    using.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    ended = using.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert not ended


async def test_a_file_that_was_opened_for_somebody_who_is_gone_is_closed(tmp_path: Path) -> None:
    began, may_open = threading.Event(), threading.Event()
    opened: list[FileIO] = []

    def work() -> FileIO:
        began.set()
        may_open.wait(WAIT_SECONDS)
        opened.append((tmp_path / "file").open("xb", buffering=0))
        return opened[0]

    opening = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, WAIT_SECONDS)
    opening.cancel()
    may_open.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert opened[0].closed
