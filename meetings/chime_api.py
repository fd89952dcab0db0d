"""Calls to the Amazon Chime SDK and to S3: how long, and what comes back as an error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from botocore.parsers import ResponseParserError

from meetings.provider import ProviderAway, ProviderError, ProviderFailed, RoomGone

#: The longest piece of AWS' own words that an error repeats.
MAX_INFO_CHARACTERS: Final = 200

#: What comes of reading an answer that has something else in the place of what should be there.
_NONSENSE: Final = (KeyError, TypeError, AttributeError, ValueError)
GONE: Final = frozenset({"NotFoundException", "NoSuchKey", "404"})
_BUSY: Final = frozenset(
    {
        "ThrottlingException",
        "ThrottledClientException",
        "ServiceUnavailableException",
        "ServiceFailureException",
        "SlowDown",
    }
)


@asynccontextmanager
async def bounded(seconds: float, gone: ProviderError | None = None) -> AsyncIterator[None]:
    """Bound what happens to so many seconds, and turn botocore's errors into ours; `gone` is for what is not there."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except ClientError as error:
        raise refusal(error, gone) from error
    except NoCredentialsError as error:
        raise ProviderFailed("There are no AWS credentials for the video provider chime.") from error
    except (ParamValidationError, ResponseParserError, *_NONSENSE) as error:
        # botocore's parsers take it for granted that an object is one.
        raise ProviderFailed("The video provider chime was asked, or answered, what makes no sense.") from error
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise ProviderAway("The video provider chime cannot be reached, or did not answer in time.") from error


def refusal(error: ClientError, gone: ProviderError | None) -> ProviderError:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in GONE:
        return gone or RoomGone("The video provider chime does not have this meeting any more.")
    if code in _BUSY or status == 429 or status >= 500:
        return ProviderAway("The video provider chime has no room at the moment.")
    if status in (401, 403):
        return ProviderFailed("The video provider chime does not accept the AWS credentials, or they may not do this.")
    info = str(error.response.get("Error", {}).get("Message", ""))[:MAX_INFO_CHARACTERS]
    said = "".join(character for character in f"{status} {code[:80]}: {info}" if character.isprintable())
    return ProviderFailed(f"The video provider chime refused: {said.rstrip(': .')}.")


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def understood() -> Iterator[None]:
    """What lacks a part that it must have, or has another in its place, raises ProviderFailed."""
    try:
        yield
    except _NONSENSE as error:
        raise ProviderFailed("The video provider chime answered what cannot be read.") from error


def text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no text")
    return value


def plain(value: Any) -> dict[str, Any]:
    """A structure of botocore's as JSON has it: without the parts of the envelope."""
    return {key: part for key, part in dict(value).items() if key != "ResponseMetadata"}


def request_token(kind: str, name: str) -> str:
    """The same for the same, so that a second request finds what the first one made; 64 characters."""
    return hashlib.sha256(f"{kind} {name}".encode()).hexdigest()
