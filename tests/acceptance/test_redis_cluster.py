"""Two servers with a Redis Cluster between them."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.conftest import Arrange, Sit, Start
from tests.acceptance.lessons import rest, until
from tests.support.cluster import RedisCluster

LESSONS = 6


async def test_lessons_on_every_node_go_on_while_one_is_away(
    tmp_path: Path, start: Start, arrange: Arrange, sit: Sit
) -> None:
    cluster = RedisCluster(tmp_path)
    try:
        cluster.start()
        one, two = await start(2, REDIS_URL=cluster.url)

        async def ready() -> bool:
            return (await rest(one.url, "GET", "/readyz")).status == 200

        await until(ready, "the bus is there")
        lessons = [await arrange(one.url) for _ in range(LESSONS)]
        students = [await sit(one.url, lesson, lesson.student) for lesson in lessons]
        teachers = [await sit(two.url, lesson, lesson.teacher) for lesson in lessons]
        assert cluster.calls("ssubscribe") >= 2 * LESSONS

        for student, teacher in zip(students, teachers, strict=True):
            asked = await student.say("What is a derivative?")
            assert await teacher.hears("newMessage", id=asked["id"]) == asked
        assert cluster.calls("spublish") >= LESSONS

        cluster.nodes[0].kill()
        for student, teacher in zip(students, teachers, strict=True):
            said = await student.say("Is anybody there?")
            assert await teacher.hears("newMessage", id=said["id"]) == said
        cluster.nodes[0].start()
        await until(ready, "the bus is whole again")
        for teacher in teachers:
            assert teacher.seqs == [1, 2]
    finally:
        cluster.close()
