// What the page makes of what it is answered, whatever it sends.
import assert from "node:assert/strict";
import test from "node:test";

import { announce, append, conclude, giveUp, isOver, metadata, standOf, trying } from "../../static/tus.js";
import { answerRequests } from "./requests.mjs";

const token = () => "t";

/** What is asked, each answered by the next of `answers`. */
function answering(...answers) {
  const asked = [];
  answerRequests((request) => {
    asked.push({ method: request.method, path: request.path, headers: request.headers, body: request.body });
    request.end({ status: 200, headers: {}, ...answers.shift() });
  });
  return asked;
}

test("metadata is Base64 of UTF-8, and what is not known is left out", () => {
  assert.equal(metadata({ kind: "recording", filename: "Übung.webm", recording_id: null }), "kind cmVjb3JkaW5n,filename w5xidW5nLndlYm0=");
});

test("a file is announced with its length, or with the word that its end will tell", async () => {
  const asked = answering({ headers: { Location: "/uploads/1" } }, { headers: { Location: "http://school.test/uploads/2" } });
  assert.equal(await announce(token, { about: {}, length: 5 }), "/uploads/1");
  assert.equal(await announce(token, { about: {} }), "/uploads/2");
  assert.equal(asked[0].headers["Upload-Length"], "5");
  assert.equal(asked[1].headers["Upload-Defer-Length"], "1");
  assert.ok(!("Upload-Length" in asked[1].headers));
});

test("how far an upload has come is told with its length, once that is said", async () => {
  answering({ headers: { "Upload-Offset": "3" } }, { headers: { "Upload-Offset": "3", "Upload-Length": "3" } });
  assert.deepEqual(await standOf(token, "/uploads/1"), { offset: 3, length: null });
  assert.deepEqual(await standOf(token, "/uploads/1"), { offset: 3, length: 3 });
});

test("an upload ends where it stands, and of nothing no file is made", async () => {
  const asked = answering({ status: 204, headers: { "Upload-Offset": "7" } }, { status: 204 });
  await conclude(token, "/uploads/1", 7);
  await conclude(token, "/uploads/1", 0);
  assert.deepEqual(asked.map(({ method }) => method), ["PATCH", "DELETE"]);
  assert.deepEqual([asked[0].headers["Upload-Offset"], asked[0].headers["Upload-Length"], asked[0].body], ["7", "7", null]);
});

test("an answer without what the server says in headers is none", async () => {
  answering({ status: 201 }, { status: 200 }, { status: 204 });
  await assert.rejects(announce(token, { about: {} }), { status: 0 });
  await assert.rejects(standOf(token, "/uploads/1"), { status: 0 });
  await assert.rejects(append(token, "/uploads/1", 0, new Blob(["x"])), { status: 0 });
});

test("an upload that the server does not know is forgotten; what a proxy says of it is no such word", async () => {
  answering({ status: 404, text: JSON.stringify({ error: "upload_not_found", status_code: 404 }) }, { status: 404, text: "<html>" });
  await giveUp(token, "/uploads/1");
  await assert.rejects(giveUp(token, "/uploads/1"), { status: 404 });
});

test("pauses between tries grow to a most, and the server's own wish counts more", async () => {
  const waited = [];
  const failures = [...Array(6).fill({ status: 503 }), { status: 503, retryAfterMs: 7 }];
  await trying(async () => { if (failures.length) throw failures.shift(); }, { wait: async (ms) => { waited.push(ms); } });
  assert.deepEqual(waited, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 7]);
});

test("what may pass, and what a proxy alone has said, keeps the upload; the server's own refusal ends it", () => {
  const over = (status, code) => isOver({ status, code });
  for (const [status, code] of [[0, "no_answer"], [502, "unknown"], [500, "internal"], [504, "unknown"], [401, "unauthenticated"], [413, "unknown"],
    [403, "unknown"], [409, "offset_mismatch"], [409, "upload_finished"], [423, "upload_locked"]]) {
    assert.equal(over(status, code), false, `${status} ${code}`);
  }
  for (const [status, code] of [[404, "upload_not_found"], [415, "unsupported_media_type"], [409, "recording_has_file"], [413, "file_too_large"]]) {
    assert.equal(over(status, code), true, `${status} ${code}`);
  }
});

