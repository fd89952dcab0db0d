"""The room page's video through a real relay: coturn, set up as docs/turnserver.conf says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Route

from meetings.ice import turn_credentials
from tests.acceptance.lessons import rest, until
from tests.acceptance.windows import PARENT, SMALL, STUDENT, TEACHER, Gather
from tests.support.turn import SECRET, Turn

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: As in a network that lets nothing through but what goes to the relay. `calls` are the page's connections.
RELAYED = (
    SMALL
    + """
    window.calls = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(wanted) {
        super({ ...wanted, iceTransportPolicy: "relay" });
        calls.push(this);
      }
      setConfiguration(wanted) { super.setConfiguration({ ...wanted, iceTransportPolicy: "relay" }); }
    };
"""
)
#: The kinds of the candidates, ours and theirs, between which each of the page's connections goes.
PATHS = """
    async () => Promise.all(calls.filter((one) => one.connectionState === "connected").map(async (one) => {
      const stats = [...(await one.getStats()).values()];
      const { selectedCandidatePairId } = stats.find(({ type }) => type === "transport");
      const pair = stats.find(({ id }) => id === selectedCandidatePairId);
      const typeOf = (wanted) => stats.find(({ id }) => id === wanted).candidateType;
      return [typeOf(pair.localCandidateId), typeOf(pair.remoteCandidateId)];
    }))
"""
#: What a relay says to `iceServers`: "relay" for a way through it, or the code of its refusal.
ASK = """
    async (iceServers) => {
      const connection = new RTCPeerConnection({ iceServers });
      const answers = new Set();
      connection.onicecandidateerror = ({ errorCode }) => answers.add(errorCode);
      connection.onicecandidate = ({ candidate }) => candidate?.type && answers.add(candidate.type);
      connection.addTransceiver("audio");
      await connection.setLocalDescription();
      await new Promise((resolve) => {
        connection.onicegatheringstatechange = () => connection.iceGatheringState === "complete" && resolve();
      });
      connection.close();
      return [...answers];
    }
"""


@dataclass
class ShortPasses:
    """Passes whose credentials end `seconds` after they are given; pages renew them as soon as they ever do."""

    seconds: int
    given: int = 0
    #: The end of those that were given last.
    ends_at: datetime | None = None

    def have_ended(self) -> bool:
        return self.ends_at is not None and datetime.now(UTC) > self.ends_at

    async def hand_out(self, route: Route) -> None:
        """What a page hears that asks for its pass."""
        if route.request.method != "POST":
            await route.continue_()
            return
        answer = await route.fetch()
        given = await answer.json()
        now = datetime.now(UTC)
        self.ends_at = now + timedelta(seconds=self.seconds)
        self.given += 1
        for server in given["data"]["iceServers"]:
            server["username"], server["credential"] = turn_credentials(SECRET, "who", self.ends_at)
        await route.fulfill(response=answer, json={**given, "expires_at": now.isoformat()})


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Turn]:
    """A coturn of this test's own."""
    turn = Turn(tmp_path)
    try:
        turn.start()
        yield turn
    finally:
        turn.kill()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_two_people_whose_networks_let_nothing_else_through_meet_at_the_relay(
    gather: Gather, relay: Turn, transport: str
) -> None:
    lesson = await gather(workers=1, ICE_SERVERS=relay.ice_servers(transport))
    teacher, student = [await lesson.enter(user_id, script=RELAYED) for user_id in (TEACHER, STUDENT)]
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    for viewer in (teacher, student):
        assert await viewer.page.evaluate(PATHS) == [["relay", "relay"]]


async def test_a_relay_opens_nothing_to_who_comes_without_credentials_of_now(gather: Gather, relay: Turn) -> None:
    lesson = await gather(workers=1, ICE_SERVERS=relay.ice_servers())
    url, token = lesson.servers[0].url, await lesson.token(STUDENT)
    given = await rest(url, "POST", f"/sessions/{lesson.room_name}/token?tab=asks", token=token)
    assert given.status == 200, given
    (server,) = given.body["data"]["iceServers"]
    viewer = await lesson.enter(STUDENT, script=RELAYED)

    async def answers(username: str, credential: str) -> list[object]:
        asked = [{**server, "username": username, "credential": credential}]
        said: list[object] = await viewer.page.evaluate(ASK, asked)
        return said

    assert await answers(server["username"], server["credential"]) == ["relay"]
    later = server["username"].replace(server["username"].partition(":")[0], "4102444800")
    assert await answers(later, server["credential"]) == [401], "an end of one's own choice"
    a_second_ago = datetime.now(UTC) - timedelta(seconds=1)
    assert await answers(*turn_credentials(SECRET, STUDENT, a_second_ago)) == [401], "those that have ended"
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    assert await answers(*turn_credentials("another secret", STUDENT, in_an_hour)) == [401], "signed by somebody else"


async def test_credentials_that_end_end_nothing_and_with_the_next_ones_all_meet_again(
    gather: Gather, relay: Turn
) -> None:
    lesson = await gather(workers=1, ICE_SERVERS=relay.ice_servers())
    passes = ShortPasses(seconds=10)
    teacher, student = [await lesson.enter(user_id, script=RELAYED) for user_id in (TEACHER, STUDENT)]
    for viewer in (teacher, student):
        await viewer.page.route("**/token?tab=*", passes.hand_out)
        await viewer.join_video()
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    await until(passes.have_ended, "the credentials have ended")
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    assert passes.given == 2
    # The relay forgets everybody; what the pages have opens nothing until they have got the next passes.
    relay.kill()
    relay.start()
    passes.seconds = 3600
    await until(lambda: passes.given == 4, "both have got another pass")
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    parent = await lesson.enter(PARENT, script=RELAYED)
    await parent.join_video()
    await parent.sees(TEACHER, STUDENT)
    for viewer in (teacher, student, parent):
        assert await viewer.page.evaluate(PATHS) == [["relay", "relay"]] * 2
