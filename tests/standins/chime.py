"""The Amazon Chime SDK and the part of S3 that goes with it, held to botocore's own service models.

A request is read, and each of its members checked, as the operation's input shape has it; answers are checked against
its output shape, and errors have the names and statuses that the model gives them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

import botocore.session
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Middleware
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.validate import ParamValidator

from tests.standins.faults import Faults

REGION = "eu-central-1"
BUCKET = "school-recordings"
ACCESS_KEY_ID = "AKIDEXAMPLE"
SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ACCOUNT = "123456789012"
#: How far off the time of a signature may be.
CLOCK_SKEW = timedelta(minutes=5)
#: What tests put into the environment, where AWS' clients look for it.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


class Refused(Exception):
    """An error of the model: its shape's name."""

    def __init__(self, name: str, message: str = "") -> None:
        super().__init__(message)
        self.name, self.message = name, message


@dataclass(slots=True)
class Meeting:
    shown: dict[str, Any]
    token: str
    attendees: dict[str, dict[str, Any]] = field(default_factory=dict)


@cache
def documented() -> list[tuple[Any, re.Pattern[str]]]:
    """The operations, each with the path that it is asked for by."""
    session = botocore.session.get_session()
    return [
        (operation, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.http["requestUri"].split("?")[0])))
        for service in ("chime-sdk-meetings", "chime-sdk-media-pipelines")
        for model in (session.get_service_model(service),)
        for operation in map(model.operation_model, model.operation_names)
    ]


class ChimeStandin:
    """The server. `faults` says what goes wrong; `conflicts`: how many CreateMeetings meet another one."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.meetings: dict[str, Meeting] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.concatenations: list[dict[str, Any]] = []
        self.objects: dict[str, bytes] = {}
        self.conflicts = 0
        self.url = ""
        self._tokens: dict[str, Any] = {}
        self._operations = documented()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application(middlewares=[cast("Middleware", self.faults.middleware)])
        app.router.add_route("*", "/{path:.*}", self._serve)
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            try:
                yield
            finally:
                self.faults.close()

    def forget_tokens(self) -> None:
        """Time passes: what was asked for by a token is made anew."""
        self._tokens.clear()

    # What people do

    def join(self, meeting_id: str, token: str | None) -> dict[str, Any] | None:
        """The attendee whom the token lets into that meeting; None for who is not let in."""
        meeting = self.meetings.get(meeting_id)
        if meeting is None:
            return None
        return next((one for one in meeting.attendees.values() if one["JoinToken"] == token), None)

    def end_meeting(self, meeting_id: str) -> None:
        """Five minutes without anybody, or its end: every pipeline stops with it."""
        ended = self.meetings.pop(meeting_id)
        for capture in self.pipelines.values():
            if capture["SourceArn"] == ended.shown["MeetingArn"]:
                capture["Status"] = "Stopped"

    def finish(self, recording_id: str) -> None:
        """The concatenation that waited for this capture wrote its file, and the capture is forgotten."""
        capture = self.pipelines.pop(recording_id)
        for one in self.concatenations:
            source = one["Sources"][0]["MediaCapturePipelineSourceConfiguration"]["MediaPipelineArn"]
            if source == capture["MediaPipelineArn"]:
                destination = one["Sinks"][0]["S3BucketSinkConfiguration"]["Destination"]
                folder = destination.removeprefix(f"arn:aws:s3:::{BUCKET}/")
                self.objects[f"{folder}/composited-video/{uuid.uuid4()}.mp4"] = b"a film"  # the pipeline's id

    # The wire

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith(f"/{BUCKET}"):
            return await self._serve_object(request)
        for operation, pattern in self._operations:
            match = pattern.fullmatch(request.raw_path.split("?")[0])
            if match is None or request.method != operation.http["method"]:
                continue
            query = dict(parse_qsl(urlsplit(operation.http["requestUri"]).query))
            if query.get("operation") != request.query.get("operation"):
                continue  # one path may stand for several
            try:
                await check_signature(request, "chime")
                answer = self._answer(operation, await _parameters(request, operation, match.groupdict()))
            except Refused as refused:
                return _error(operation, refused)
            if answer is None:
                return web.Response(status=204)
            assert set(answer) <= set(operation.output_shape.members), "an answer that is not documented"
            return web.json_response(answer, status=operation.http.get("responseCode", 200))
        return web.Response(status=404)

    def _answer(self, operation: Any, parameters: dict[str, Any]) -> dict[str, Any] | None:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation.name).lower()
        handler: Callable[..., dict[str, Any] | None] = getattr(self, name)
        return handler(**parameters)

    # The operations

    def create_meeting(self, **wanted: Any) -> dict[str, Any]:
        if self.conflicts:
            self.conflicts -= 1
            raise Refused("ConflictException", "multiple requests")
        made = self._tokens.get(wanted["ClientRequestToken"])
        if made is None:
            if wanted["ExternalMeetingId"].startswith("aws:"):
                raise Refused("BadRequestException", "the prefix aws: is reserved")
            meeting_id = str(uuid.uuid4())
            placement = {
                "AudioHostUrl": "audio.example:3478",
                "AudioFallbackUrl": "wss://audio.example:443/calls",
                "SignalingUrl": "wss://signal.example/control",
                "TurnControlUrl": "https://turn.example/v2/turn_sessions",
            }
            made = self._tokens[wanted["ClientRequestToken"]] = {
                "MeetingId": meeting_id,
                "ExternalMeetingId": wanted["ExternalMeetingId"],
                "MediaRegion": wanted["MediaRegion"],
                "MediaPlacement": placement,
                "MeetingArn": f"arn:aws:chime:us-east-1:{ACCOUNT}:meeting/{meeting_id}",
            }
            self.meetings[meeting_id] = Meeting(made, wanted["ClientRequestToken"])
        return {"Meeting": made}

    def delete_meeting(self, MeetingId: str) -> None:  # noqa: N803
        self._meeting(MeetingId)
        self.end_meeting(MeetingId)

    def create_attendee(self, MeetingId: str, ExternalUserId: str, Capabilities: Any = None) -> dict[str, Any]:  # noqa: N803
        meeting = self._meeting(MeetingId)
        if ExternalUserId.startswith("aws:"):
            raise Refused("BadRequestException", "the prefix aws: is reserved")
        for one in meeting.attendees.values():
            if one["ExternalUserId"] == ExternalUserId:
                return {"Attendee": one}
        attendee_id = str(uuid.uuid4())
        everything = dict.fromkeys(("Audio", "Video", "Content"), "SendReceive")
        meeting.attendees[attendee_id] = {
            "ExternalUserId": ExternalUserId,
            "AttendeeId": attendee_id,
            "JoinToken": uuid.uuid4().hex,
            "Capabilities": Capabilities or everything,
        }
        return {"Attendee": dict(meeting.attendees[attendee_id])}

    def list_attendees(self, MeetingId: str, MaxResults: int = 20, NextToken: str = "0") -> dict[str, Any]:  # noqa: N803
        everybody = list(self._meeting(MeetingId).attendees.values())
        start = int(NextToken)
        page = [{k: v for k, v in one.items() if k != "JoinToken"} for one in everybody[start : start + MaxResults]]
        more = {"NextToken": str(start + MaxResults)} if start + MaxResults < len(everybody) else {}
        return {"Attendees": page, **more}

    def update_attendee_capabilities(self, MeetingId: str, AttendeeId: str, Capabilities: Any) -> dict[str, Any]:  # noqa: N803
        attendee = self._meeting(MeetingId).attendees.get(AttendeeId)
        if attendee is None:
            raise Refused("NotFoundException")
        attendee["Capabilities"] = Capabilities
        return {"Attendee": {k: v for k, v in attendee.items() if k != "JoinToken"}}

    def delete_attendee(self, MeetingId: str, AttendeeId: str) -> None:  # noqa: N803
        if self._meeting(MeetingId).attendees.pop(AttendeeId, None) is None:
            raise Refused("NotFoundException")

    def create_media_capture_pipeline(self, **wanted: Any) -> dict[str, Any]:
        made = self._tokens.get(wanted["ClientRequestToken"])
        if made is None:
            self._meeting(wanted["SourceArn"].rpartition("/")[2])
            running = [one for one in self.pipelines.values() if one["SourceArn"] == wanted["SourceArn"]]
            if any(one["Status"] == "InProgress" for one in running):
                raise Refused("ResourceLimitExceededException", "one capture pipeline per meeting")
            if not wanted["SinkArn"].startswith(f"arn:aws:s3:::{BUCKET}"):
                raise Refused("BadRequestException", "no such bucket")
            pipeline_id = str(uuid.uuid4())
            made = self._tokens[wanted["ClientRequestToken"]] = self.pipelines[pipeline_id] = {
                "MediaPipelineId": pipeline_id,
                "MediaPipelineArn": f"arn:aws:chime:us-east-1:{ACCOUNT}:media-pipeline/{pipeline_id}",
                "SourceArn": wanted["SourceArn"],
                "SinkArn": wanted["SinkArn"],
                "Status": "InProgress",
                "CreatedTimestamp": "2026-11-21T19:00:00Z",
            }
            folder = wanted["SinkArn"].removeprefix(f"arn:aws:s3:::{BUCKET}/")
            for number in range(3):
                self.objects[f"{folder}/composited-video/{number}.mp4"] = b"five seconds"
        return {"MediaCapturePipeline": made}

    def get_media_capture_pipeline(self, MediaPipelineId: str) -> dict[str, Any]:  # noqa: N803
        return {"MediaCapturePipeline": self._pipeline(MediaPipelineId)}

    def delete_media_capture_pipeline(self, MediaPipelineId: str) -> None:  # noqa: N803
        self._pipeline(MediaPipelineId)["Status"] = "Stopping"

    def create_media_concatenation_pipeline(self, **wanted: Any) -> dict[str, Any]:
        if wanted["ClientRequestToken"] not in self._tokens:
            self._tokens[wanted["ClientRequestToken"]] = wanted
            self.concatenations.append(wanted)
        return {"MediaConcatenationPipeline": {"MediaPipelineId": str(uuid.uuid4()), "Status": "Initializing"}}

    def _meeting(self, meeting_id: str) -> Meeting:
        if meeting_id not in self.meetings:
            raise Refused("NotFoundException", "The meeting was not found")
        return self.meetings[meeting_id]

    def _pipeline(self, pipeline_id: str) -> dict[str, Any]:
        if pipeline_id not in self.pipelines:
            raise Refused("NotFoundException", "The pipeline was not found")
        return self.pipelines[pipeline_id]

    # S3

    async def _serve_object(self, request: web.Request) -> web.StreamResponse:
        key = request.path.removeprefix(f"/{BUCKET}").lstrip("/")
        if "X-Amz-Signature" not in request.query:
            await check_signature(request, "s3")
        if request.method == "GET" and not key:
            prefix = request.query["prefix"]
            found = [one for one in sorted(self.objects) if one.startswith(prefix)]
            contents = "".join(f"<Contents><Key>{escape(one)}</Key><Size>1</Size></Contents>" for one in found)
            return web.Response(
                text=f"<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{len(found)}</KeyCount>"
                f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>",
                content_type="application/xml",
            )
        if request.method == "POST" and "delete" in request.query:
            for one in re.findall("<Key>([^<]+)</Key>", await request.text()):
                self.objects.pop(unescape(one), None)
            return web.Response(text="<DeleteResult></DeleteResult>", content_type="application/xml")
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if key not in self.objects:
            return web.Response(
                status=404, text="<Error><Code>NoSuchKey</Code></Error>", content_type="application/xml"
            )
        return web.Response(body=self.objects[key], content_type="video/mp4")


async def check_signature(request: web.Request, service: str) -> None:
    """The request was signed with the secret key, as it came: method, path, query, body and what headers it names."""
    scope = re.match(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$",
        request.headers.get("Authorization", ""),
    )
    if scope is None or (scope[1], scope[3], scope[4]) != (ACCESS_KEY_ID, REGION, service):
        raise Refused("UnauthorizedException", "The request is not signed for this service")
    names = scope[5].split(";")
    signed_at = request.headers.get("X-Amz-Date", "")
    if "host" not in names or "x-amz-date" not in names or not signed_at.startswith(scope[2]):
        raise Refused("UnauthorizedException", "The request does not sign what it must")
    at = datetime.strptime(signed_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(datetime.now(UTC) - at) > CLOCK_SKEW:
        raise Refused("UnauthorizedException", "Signature expired")
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = signer(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY), service, REGION)
    again = AWSRequest(
        method=request.method,
        url=f"http://{request.host}{request.raw_path}",
        headers={name: request.headers[name] for name in names if name in request.headers},
        data=await request.read(),
    )
    again.context["timestamp"] = signed_at
    if not hmac.compare_digest(
        auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again), scope[6]
    ):
        raise Refused("UnauthorizedException", "The signature does not match")
    said = request.headers.get("X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD")
    if said not in ("UNSIGNED-PAYLOAD", hashlib.sha256(await request.read()).hexdigest()):
        raise Refused("UnauthorizedException", "The body is another one than was signed")


async def _parameters(request: web.Request, operation: Any, labels: dict[str, str]) -> dict[str, Any]:
    raw = await request.read()
    parameters: dict[str, Any] = msgspec.json.decode(raw) if raw else {}
    for name, shape in operation.input_shape.members.items():
        location = shape.serialization.get("location")
        wire_name = shape.serialization.get("name", name)
        if location == "uri":
            parameters[name] = unquote(labels[wire_name])
        elif location == "querystring" and wire_name in request.query:
            value = request.query[wire_name]
            parameters[name] = int(value) if shape.type_name == "integer" else value
    report = ParamValidator().validate(parameters, operation.input_shape)
    problems = [report.generate_report()] if report.has_errors() else list(_problems(parameters, operation.input_shape))
    if problems:
        raise Refused("BadRequestException", "; ".join(problems))
    return parameters


def _problems(value: Any, shape: Any, path: str = "") -> Iterator[str]:
    """What the model forbids, and botocore sends all the same: longest, most, patterns, words, unknown members."""
    if shape.type_name == "structure":
        for name, part in value.items():
            if name not in shape.members:
                yield f"{path}.{name} is unknown"
            else:
                yield from _problems(part, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        if len(value) > shape.metadata.get("max", len(value)):
            yield f"{path} is too long"
        for part in value:
            yield from _problems(part, shape.member, f"{path}[]")
    elif shape.type_name == "string":
        if not shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value)):
            yield f"{path} is too short or too long"
        if "pattern" in shape.metadata and not re.fullmatch(shape.metadata["pattern"], value):
            yield f"{path} does not match"
        if getattr(shape, "enum", None) and value not in shape.enum:
            yield f"{path} is none of its words"
    elif shape.type_name == "integer" and value > shape.metadata.get("max", value):
        yield f"{path} is too large"


def _error(operation: Any, refused: Refused) -> web.Response:
    documented = {shape.name: shape for shape in operation.error_shapes}
    # The two models have two names for the same.
    name = refused.name if refused.name in documented else refused.name.replace("Exception", "ClientException")
    if name not in documented:
        name = "BadRequestException"
    return web.json_response(
        {"Code": name.removesuffix("Exception"), "Message": refused.message},
        status=documented[name].metadata["error"]["httpStatusCode"],
        headers={"x-amzn-ErrorType": name},
    )
