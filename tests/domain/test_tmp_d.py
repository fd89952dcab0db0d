import asyncio, time
from uuid import UUID
import pytest
from domain import chat
from domain.access import Member
from domain.reactions import react
from store import users
from domain.identity import Identity
from tests.support.lessons import book, database_pool, member
from tests.support.rooms import join, workers

async def test_burst(database: str) -> None:
    async with database_pool(database) as pool, workers(pool, 1) as (live,):
        session_id, other = await book(pool), await book(pool)
        message, _ = await chat.send(live, member(session_id, "kid"), text="x", client_id=None)
        people = [f"p{n}" for n in range(500)]
        for one in people:
            await users.upsert_from_token(pool, Identity(user_id=one, role="student", first_name=one))
        def of(u): return Member(session_id=session_id, room_name="r", user_id=u, name=u, role="student", is_host=False)
        waits=[]
        done=asyncio.Event()
        async def chatting():
            while not done.is_set():
                t=time.perf_counter()
                await chat.send(live, member(other, "kid"), text="x", client_id=None)
                waits.append(time.perf_counter()-t); await asyncio.sleep(0.01)
        task=asyncio.create_task(chatting()); await asyncio.sleep(0.2); n=len(waits)
        t=time.perf_counter()
        await asyncio.gather(*(react(live, of(u), str(message.id), "👍", reacted=True) for u in people))
        print("burst", time.perf_counter()-t)
        done.set(); await task
        w=sorted(waits[n:]); print("chat waits", len(w), w[len(w)//2], w[-1], "before", sorted(waits[:n])[n//2])
