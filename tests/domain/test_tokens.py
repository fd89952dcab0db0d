"""Tokens: what is accepted, what is refused and how it is said, and an issuer's keys over their life."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import keys as keys_module
from domain import tokens
from domain.errors import Unauthenticated, Unavailable
from domain.keys import Keys, fetcher
from domain.tokens import JwksVerifier, SecretVerifier, issue

SECRET = "a secret of at least thirty-two bytes"
ISSUER = "https://issuer.example"
AUDIENCE = "encounters"


def claims(**changes: Any) -> dict[str, Any]:
    base = {"sub": "u1", "role": "student", "name": "Ada Lovelace", "exp": int(time.time()) + 60}
    return {key: value for key, value in (base | changes).items() if value is not None}


def signed(headers: dict[str, Any] | None = None, /, **changes: Any) -> str:
    return jwt.encode(claims(**changes), SECRET, "HS256", headers=headers)


def by_hand(header: dict[str, Any], payload: bytes, secret: bytes) -> str:
    """A token that no library would make."""

    def part(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    signing_input = part(json.dumps(header).encode()) + b"." + part(payload)
    signature = hmac.new(secret, signing_input, hashlib.sha256).digest()
    return (signing_input + b"." + part(signature)).decode()


async def refused(verifier: tokens.Verifier, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.message.startswith("This token ")
    assert caught.value.message.endswith(".")
    return caught.value


class TestSharedSecret:
    async def test_a_good_token_tells_who_presents_it(self) -> None:
        identity = await SecretVerifier(SECRET).verify(signed(role="tutor", email="ada@example.org"))
        assert (identity.user_id, identity.role) == ("u1", "teacher")
        assert (identity.first_name, identity.last_name, identity.email) == (
            "Ada",
            "Lovelace",
            "ada@example.org",
        )
        assert identity.expires_at == pytest.approx(time.time() + 60, abs=30)

    async def test_an_issued_token_is_accepted(self) -> None:
        token = issue(
            SECRET,
            user_id="u2",
            role="admin",
            name="Grace Hopper",
            email="grace@example.org",
            ttl_seconds=5,
            issuer=ISSUER,
            audience=AUDIENCE,
        )
        identity = await SecretVerifier(SECRET, ISSUER, AUDIENCE).verify(token)
        assert (identity.user_id, identity.role, identity.last_name) == ("u2", "admin", "Hopper")

    async def test_issuing_leaves_out_what_is_not_given(self) -> None:
        token = issue(SECRET, user_id="u2", role="parent", ttl_seconds=5)
        assert jwt.decode(token, SECRET, ["HS256"]).keys() == {"sub", "role", "iat", "exp"}

    @pytest.mark.parametrize(
        ("token", "code", "said"),
        [
            pytest.param(lambda: "", "invalid_token", "no valid JSON Web Token", id="empty"),
            pytest.param(lambda: "abc", "invalid_token", "no valid JSON Web Token", id="not a token"),
            pytest.param(lambda: "a.b.c", "invalid_token", "no valid JSON Web Token", id="three parts of nothing"),
            pytest.param(
                lambda: "é.\udc80.c",
                "invalid_token",
                "no valid JSON Web Token",
                id="not ASCII, not even text",
            ),
            pytest.param(lambda: signed() + "x", "invalid_token", "", id="longer signature"),
            pytest.param(lambda: signed(pad="x" * 9000), "invalid_token", "longer than 8192", id="too long"),
            pytest.param(
                lambda: jwt.encode(claims(), "another secret, as long as the first", "HS256"),
                "invalid_token",
                "signature",
                id="another secret",
            ),
            pytest.param(lambda: jwt.encode(claims(), "", "none"), "invalid_token", "signed", id="alg none"),
            pytest.param(lambda: jwt.encode(claims(), SECRET * 2, "HS512"), "invalid_token", "signed", id="HS512"),
            pytest.param(
                lambda: by_hand(
                    {"alg": "HS256", "crit": ["x"], "x": 1}, json.dumps(claims()).encode(), SECRET.encode()
                ),
                "invalid_token",
                "crit",
                id="unknown crit",
            ),
            pytest.param(
                lambda: by_hand({"alg": "HS256", "crit": ["b64"], "b64": True}, b"{}", SECRET.encode()),
                "invalid_token",
                "crit",
                id="known crit",
            ),
            pytest.param(
                lambda: by_hand({"alg": "HS256", "kid": 7}, json.dumps(claims()).encode(), SECRET.encode()),
                "invalid_token",
                "",
                id="kid is no string",
            ),
            pytest.param(
                lambda: by_hand({"alg": "HS256"}, b"[" * 3000, SECRET.encode()),
                "invalid_token",
                "",
                id="deep JSON",
            ),
            pytest.param(
                lambda: by_hand({"alg": "HS256"}, b'["sub"]', SECRET.encode()),
                "invalid_token",
                "",
                id="a list",
            ),
            pytest.param(lambda: signed(exp=int(time.time())), "token_expired", "expired", id="expires now"),
            pytest.param(lambda: signed(exp=int(time.time()) - 1), "token_expired", "expired", id="no leeway"),
            pytest.param(lambda: signed(exp=-1), "token_expired", "expired", id="before 1970"),
            pytest.param(lambda: signed(exp=None), "invalid_token", "'exp'", id="no exp"),
            pytest.param(lambda: signed(exp="9999999999"), "invalid_token", "'exp'", id="exp is a string"),
            pytest.param(lambda: signed(exp=True), "invalid_token", "'exp'", id="exp is true"),
            pytest.param(lambda: signed(exp=10**400), "invalid_token", "'exp'", id="exp beyond a float"),
            pytest.param(lambda: signed(exp=float("nan")), "invalid_token", "no valid", id="exp is NaN"),
            pytest.param(lambda: signed(exp=float("inf")), "invalid_token", "no valid", id="exp is infinite"),
            pytest.param(lambda: signed(nbf=int(time.time()) + 60), "invalid_token", "not valid yet", id="nbf"),
            pytest.param(lambda: signed(iat=int(time.time()) + 60), "invalid_token", "not valid yet", id="iat"),
            pytest.param(lambda: signed(nbf="soon"), "invalid_token", "", id="nbf is no number"),
            pytest.param(lambda: signed(sub=7), "invalid_token", "", id="sub is no string"),
            pytest.param(lambda: signed(sub=None), "invalid_token", "'sub'", id="no sub"),
            pytest.param(lambda: signed(role="king"), "invalid_token", "'role'", id="unknown role"),
        ],
    )
    async def test_a_bad_token_is_refused(self, token: Callable[[], str], code: str, said: str) -> None:
        error = await refused(SecretVerifier(SECRET), token())
        assert error.code == code
        assert said in error.message

    async def test_an_issuers_clock_may_be_a_little_ahead(self) -> None:
        ahead = int(time.time()) + 3
        await SecretVerifier(SECRET).verify(signed(nbf=ahead, iat=ahead))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"aud": AUDIENCE}, "'iss'"),
            ({"iss": "https://other.example", "aud": AUDIENCE}, "'iss'"),
            ({"iss": [ISSUER], "aud": AUDIENCE}, "'iss'"),
            ({"iss": ISSUER}, "'aud'"),
            ({"iss": ISSUER, "aud": "other"}, "'aud'"),
            ({"iss": ISSUER, "aud": ["other"]}, "'aud'"),
        ],
    )
    async def test_issuer_and_audience_are_required_where_set(self, changes: dict[str, Any], said: str) -> None:
        # PyJWT itself refuses to make a token whose `iss` is a list.
        payload = json.dumps(claims(**changes)).encode()
        token = by_hand({"alg": "HS256"}, payload, SECRET.encode())
        error = await refused(SecretVerifier(SECRET, ISSUER, AUDIENCE), token)
        assert error.code == "invalid_token"
        assert said in error.message

    async def test_one_of_several_audiences_is_enough(self) -> None:
        await SecretVerifier(SECRET, ISSUER, AUDIENCE).verify(signed(iss=ISSUER, aud=["other", AUDIENCE]))

    async def test_issuer_and_audience_are_free_where_not_set(self) -> None:
        await SecretVerifier(SECRET).verify(signed(iss="anyone", aud="anything"))

    async def test_the_demo_takes_a_token_without_expiry(self) -> None:
        identity = await SecretVerifier(SECRET, require_exp=False).verify(signed(exp=None))
        assert identity.expires_at is None

    async def test_the_demo_still_refuses_an_expired_token(self) -> None:
        error = await refused(SecretVerifier(SECRET, require_exp=False), signed(exp=1))
        assert error.code == "token_expired"

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda token: token + "=", id="padded"),
            pytest.param(lambda token: token + "AAAA", id="a longer signature"),
            pytest.param(lambda token: token[:-1], id="a shorter signature"),
            pytest.param(lambda token: token.rpartition(".")[0] + ".", id="no signature"),
            pytest.param(lambda token: token.replace(".", "..", 1), id="four parts"),
            pytest.param(lambda token: token.replace(".", ".\n", 1), id="white space"),
            pytest.param(lambda token: token[:-1] + chr(ord(token[-1]) + 1), id="another spelling of the last bits"),
        ],
    )
    async def test_a_token_has_one_spelling(self, spoil: Callable[[str], str]) -> None:
        await SecretVerifier(SECRET).verify(signed())
        assert (await refused(SecretVerifier(SECRET), spoil(signed()))).code == "invalid_token"

    @settings(max_examples=300)
    @given(st.data())
    async def test_nothing_is_accepted_that_pyjwt_refuses(self, data: st.DataObject) -> None:
        values = st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.text(max_size=3)),
            st.sampled_from(["HS256", "none", "RS256", ISSUER, AUDIENCE, 1, 1e9, 9e9, "b64", ["b64"], False]),
        )  # fmt: skip
        header = {"alg": "HS256"} | data.draw(
            st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "x"]), values, max_size=2)
        )
        payload = claims(iss=ISSUER, aud=AUDIENCE) | data.draw(
            st.dictionaries(st.sampled_from(["iss", "aud", "iat", "nbf", "exp", "sub", "x"]), values, max_size=2)
        )
        token = by_hand(header, json.dumps(payload).encode(), SECRET.encode())
        for _ in range(data.draw(st.integers(0, 2))):
            place = data.draw(st.integers(0, len(token) - 1))
            token = token[:place] + data.draw(st.sampled_from("AZaz09-_.=+/ é")) + token[place + 1 :]
        try:
            await SecretVerifier(SECRET, ISSUER, AUDIENCE).verify(token)
        except Unauthenticated:
            return
        jwt.decode(token, SECRET, ["HS256"], issuer=ISSUER, audience=AUDIENCE, leeway=tokens.CLOCK_SECONDS)


class TestRemembering:
    async def test_a_token_is_verified_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        verifier = SecretVerifier(SECRET)
        token = signed()
        first = await verifier.verify(token)
        monkeypatch.setattr(tokens, "_parts", None)
        assert await verifier.verify(token) is first

    async def test_a_remembered_token_expires_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        verifier = SecretVerifier(SECRET)
        token = signed()
        await verifier.verify(token)
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
        for _ in range(2):
            assert (await refused(verifier, token)).code == "token_expired"

    async def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tokens, "MAX_REMEMBERED", 3)
        verifier = SecretVerifier(SECRET)
        for number in range(10):
            await verifier.verify(signed(sub=f"u{number}"))
        assert len(verifier._remembered._identities) == 3


class Issuer:
    """An issuer's key endpoint, over real HTTP, whose keys and moods a test sets."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[Any, str]] = {}
        self.requests = 0
        self.answer: Callable[[], web.StreamResponse] | None = None
        self.slow = 0.0
        self.extra: list[Any] = []
        self.url = ""

    def add(self, kid: str, algorithm: str) -> None:
        private: Any
        match algorithm:
            case "RS256":
                private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            case "ES256":
                private = ec.generate_private_key(ec.SECP256R1())
            case _:
                private = ed25519.Ed25519PrivateKey.generate()
        self.keys[kid] = (private, algorithm)

    def sign(self, kid: str, /, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        private, algorithm = self.keys[kid]
        headers = {"kid": kid} if headers is None else headers
        return jwt.encode(claims(iss=ISSUER, aud=AUDIENCE) | changes, private, algorithm, headers=headers)

    def public(self, kid: str) -> dict[str, Any]:
        private, algorithm = self.keys[kid]
        to_jwk: Any = jwt.get_algorithm_by_name(algorithm).to_jwk
        return {**to_jwk(private.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": algorithm}

    async def handle(self, _request: web.Request) -> web.StreamResponse:
        self.requests += 1
        await asyncio.sleep(self.slow)
        if self.answer is not None:
            return self.answer()
        return web.json_response({"keys": [*self.extra, *map(self.public, self.keys)]})


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/jwks.json", issuer.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    issuer.url = f"http://{host}:{port}/jwks.json"
    yield issuer
    await runner.cleanup()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(issuer: Issuer, clock: Clock) -> AsyncIterator[JwksVerifier]:
    async with aiohttp.ClientSession() as session:
        verifier = JwksVerifier(issuer.url, ISSUER, AUDIENCE, fetcher(session))
        verifier._keys._clock = clock
        yield verifier
        await verifier.close()


async def settled(verifier: JwksVerifier) -> None:
    """Wait for a fetch in the background."""
    flight = verifier._keys._flight
    if flight is not None:
        await flight


class TestPublishedKeys:
    @pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
    async def test_a_token_of_each_kind_is_accepted(
        self, issuer: Issuer, verifier: JwksVerifier, algorithm: str
    ) -> None:
        issuer.add("k1", algorithm)
        assert (await verifier.verify(issuer.sign("k1"))).user_id == "u1"

    async def test_many_tokens_need_one_fetch(self, issuer: Issuer, verifier: JwksVerifier) -> None:
        issuer.add("k1", "ES256")
        issuer.slow = 0.05
        presented = [issuer.sign("k1", sub=f"u{number}") for number in range(20)]
        identities = await asyncio.gather(*map(verifier.verify, presented))
        assert {identity.user_id for identity in identities} == {f"u{number}" for number in range(20)}
        assert issuer.requests == 1

    async def test_a_new_key_is_found_at_once(self, issuer: Issuer, verifier: JwksVerifier, clock: Clock) -> None:
        issuer.add("k1", "ES256")
        await verifier.verify(issuer.sign("k1"))
        clock.now += 11
        issuer.add("k2", "EdDSA")
        issuer.slow = 0.05
        presented = [issuer.sign("k2", sub=f"u{number}") for number in range(20)]
        await asyncio.gather(*map(verifier.verify, presented))
        assert issuer.requests == 2

    async def test_made_up_key_ids_fetch_at_most_once_in_ten_seconds(
        self, issuer: Issuer, verifier: JwksVerifier, clock: Clock
    ) -> None:
        issuer.add("k1", "ES256")
        await verifier.verify(issuer.sign("k1"))
        for _ in range(3):
            clock.now += 10
            before = issuer.requests
            made_up = [issuer.sign("k1", {"kid": f"x{number}"}) for number in range(10)]
            results = await asyncio.gather(*map(verifier.verify, made_up), return_exceptions=True)
            assert all(isinstance(result, Unauthenticated) for result in results)
            assert issuer.requests == before + 1

    async def test_a_withdrawn_key_no_longer_vouches_even_for_remembered_tokens(
        self, issuer: Issuer, verifier: JwksVerifier, clock: Clock
    ) -> None:
        issuer.add("k1", "ES256")
        token = issuer.sign("k1")
        await verifier.verify(token)
        del issuer.keys["k1"]
        issuer.add("k2", "ES256")
        clock.now += 301
        await verifier.verify(token)  # begins the refresh, in the background
        await settled(verifier)
        assert "does not publish" in (await refused(verifier, token)).message

    async def test_a_key_replaced_under_its_name_no_longer_vouches(
        self, issuer: Issuer, verifier: JwksVerifier, clock: Clock
    ) -> None:
        issuer.add("k1", "ES256")
        token = issuer.sign("k1")
        await verifier.verify(token)
        issuer.add("k1", "ES256")
        clock.now += 301
        await verifier.verify(token)
        await settled(verifier)
        assert "signature" in (await refused(verifier, token)).message

    async def test_old_keys_go_on_working_for_an_hour_while_the_issuer_is_away(
        self, issuer: Issuer, verifier: JwksVerifier, clock: Clock
    ) -> None:
        issuer.add("k1", "ES256")
        remembered = issuer.sign("k1")
        await verifier.verify(remembered)
        issuer.answer = lambda: web.Response(status=500)
        clock.now += 3599
        await verifier.verify(issuer.sign("k1", sub="u2"))
        await settled(verifier)
        clock.now += 11
        for token in (remembered, issuer.sign("k1", sub="u3")):
            with pytest.raises(Unavailable) as caught:
                await verifier.verify(token)
            assert 1 <= (caught.value.retry_after or 0) <= 10
        issuer.answer = None
        clock.now += 10
        await verifier.verify(remembered)

    async def test_an_unknown_key_is_no_verdict_while_the_issuer_is_away(
        self, issuer: Issuer, verifier: JwksVerifier, clock: Clock
    ) -> None:
        issuer.add("k1", "ES256")
        await verifier.verify(issuer.sign("k1"))
        issuer.add("k2", "ES256")
        issuer.answer = lambda: web.Response(status=503)
        clock.now += 11
        with pytest.raises(Unavailable):
            await verifier.verify(issuer.sign("k2"))
        await verifier.verify(issuer.sign("k1"))

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(lambda: web.Response(status=404), id="404"),
            pytest.param(lambda: web.Response(text="<html>"), id="no JSON"),
            pytest.param(lambda: web.Response(text="[1]"), id="a list"),
            pytest.param(lambda: web.json_response({"keys": {"a": 1}}), id="keys is no list"),
            pytest.param(lambda: web.json_response({"keys": []}), id="no key"),
            pytest.param(lambda: web.json_response({"keys": [7, {}, {"kty": "RSA", "n": 1}]}), id="bad keys"),
            pytest.param(lambda: web.json_response({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), id="a secret"),
            pytest.param(lambda: web.Response(body=b" " * (300 * 1024)), id="too large"),
        ],
    )
    async def test_without_keys_it_cannot_be_told(
        self, issuer: Issuer, verifier: JwksVerifier, clock: Clock, answer: Callable[[], web.StreamResponse]
    ) -> None:
        issuer.add("k1", "ES256")
        issuer.answer = answer
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                await verifier.verify(issuer.sign("k1"))
            assert caught.value.retry_after == 10
        assert issuer.requests == 1
        issuer.answer = None
        clock.now += 10
        await verifier.verify(issuer.sign("k1"))

    async def test_an_issuer_that_hangs_is_given_up(
        self, issuer: Issuer, verifier: JwksVerifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keys_module, "FETCH_SECONDS", 0.05)
        issuer.add("k1", "ES256")
        issuer.slow = 0.5
        with pytest.raises(Unavailable):
            await verifier.verify(issuer.sign("k1"))

    async def test_one_request_given_up_leaves_the_fetch_to_the_others(
        self, issuer: Issuer, verifier: JwksVerifier
    ) -> None:
        issuer.add("k1", "ES256")
        issuer.slow = 0.1
        impatient = asyncio.create_task(verifier.verify(issuer.sign("k1", sub="a")))
        patient = asyncio.create_task(verifier.verify(issuer.sign("k1", sub="b")))
        await asyncio.sleep(0.02)
        impatient.cancel()
        assert (await patient).user_id == "b"
        assert issuer.requests == 1

    async def test_without_a_key_id_the_only_key_of_the_algorithm_is_meant(
        self, issuer: Issuer, verifier: JwksVerifier, clock: Clock
    ) -> None:
        issuer.add("k1", "ES256")
        issuer.add("k2", "RS256")
        await verifier.verify(issuer.sign("k1", {}))
        issuer.add("k3", "ES256")
        clock.now += 301
        await verifier._keys._refresh()
        await refused(verifier, issuer.sign("k3", {}))

    async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(
        self, issuer: Issuer, verifier: JwksVerifier
    ) -> None:
        issuer.add("k1", "RS256")
        await verifier.verify(issuer.sign("k1"))
        public = issuer.keys["k1"][0].public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        payload = json.dumps(claims(iss=ISSUER, aud=AUDIENCE)).encode()
        for secret in (pem, pem.strip(), json.dumps(issuer.public("k1")).encode()):
            error = await refused(verifier, by_hand({"alg": "HS256", "kid": "k1"}, payload, secret))
            assert "signed in a way" in error.message

    async def test_a_key_serves_its_own_algorithm_only(self, issuer: Issuer, verifier: JwksVerifier) -> None:
        issuer.add("k1", "RS256")
        issuer.add("k2", "ES256")
        await refused(verifier, issuer.sign("k2", {"kid": "k1"}))

    async def test_encryption_and_weak_keys_are_not_used(self, issuer: Issuer, verifier: JwksVerifier) -> None:
        issuer.add("good", "ES256")
        issuer.add("enc", "ES256")
        issuer.extra.append({**issuer.public("enc"), "use": "enc"})
        encrypting = issuer.keys.pop("enc")
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        to_jwk: Any = jwt.get_algorithm_by_name("RS256").to_jwk
        issuer.extra.append({**to_jwk(weak.public_key(), as_dict=True), "kid": "weak"})
        await verifier.verify(issuer.sign("good"))
        issuer.keys = {"enc": encrypting}
        await refused(verifier, issuer.sign("enc"))

    @pytest.mark.parametrize("changes", [{"iss": "other"}, {"aud": "other"}, {"exp": 1}, {"nbf": 9999999999}])
    async def test_claims_are_checked_as_with_a_secret(
        self, issuer: Issuer, verifier: JwksVerifier, changes: dict[str, Any]
    ) -> None:
        issuer.add("k1", "EdDSA")
        await refused(verifier, issuer.sign("k1", **changes))

    async def test_another_failure_of_fetching_is_not_swallowed(self) -> None:
        async def fetch(_url: str) -> bytes:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await Keys("http://issuer.example", fetch).ensure()
