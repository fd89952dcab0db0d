/**
 * The REST calls of this page, and who is signed in.
 *
 * @typedef {{token: string, userId: ?string, name: ?string, expiresAt: ?string, demo: boolean}} SignIn
 */

import { keep, kept } from "./storage.js";

/** What the server said, or that it said nothing. `message` is a sentence for a person. */
export class ServerError extends Error {
  /** @param {{error?: string, message?: string, status_code?: number, retry_after?: number}} body */
  constructor(body) {
    super(body.message ?? "Something went wrong. Please try again.");
    this.code = body.error ?? "unknown";
    this.status = body.status_code ?? 0;
    this.retryAfterMs = (body.retry_after ?? 0) * 1000;
  }

  static unreachable() {
    return new ServerError({ error: "no_answer", message: "The server cannot be reached." });
  }

  /** A refusal. @param {?string} retryAfter the header  @param {object} document what stands in its body, if anything */
  static of(status, retryAfter, document) {
    return new ServerError({ status_code: status, message: `The server answered ${status}.`, retry_after: Number(retryAfter) || 0, ...document });
  }

  /** Trying the same again later may well succeed. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status === 503;
  }
}

const ANSWER_MS = 15_000;

async function answerOf(path, { method = "GET", token = null, body = undefined } = {}) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(ANSWER_MS),
    });
  } catch {
    throw ServerError.unreachable();
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw ServerError.of(response.status, response.headers.get("Retry-After"), answer);
  return { answer, next: /<([^>]*)>; rel="next"/.exec(response.headers.get("Link") ?? "")?.[1] ?? null };
}

const call = async (path, options) => (await answerOf(path, options)).answer;

const at = encodeURIComponent;

/** `{people, lessons}` of a server run with --demo; null on any other. */
export async function demo() {
  try {
    return await call("/demo");
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** @returns {Promise<SignIn>} */
export async function demoSignIn(userId) {
  const { token, expires_at: expiresAt, user } = await call("/demo/sign-in", { method: "POST", body: { user_id: userId } });
  return { token, userId: user.user_id, name: user.name, expiresAt, demo: true };
}

/** A pasted token as a sign-in. Its claims are only shown; the server is the one that checks them. @returns {SignIn} */
export function readToken(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.codePointAt(0))));
    const expiresAt = claims.exp ? new Date(claims.exp * 1000).toISOString() : null;
    return { token, userId: claims.sub ?? null, name: claims.name ?? null, expiresAt, demo: false };
  } catch {
    throw new ServerError({ error: "not_a_token", message: "This is not an access token. It has three parts with dots between them." });
  }
}

/** As `readToken`, where the page goes on with it: it is the same person's, as all that this page keeps and sends. @returns {SignIn} */
export function readNextToken(token, { userId }) {
  const next = readToken(token);
  if (next.userId === userId) return next;
  throw new ServerError({ error: "another_person", message: "This access token is somebody else’s. To come in as them, leave the lesson first." });
}

export const HISTORY_PAGE = 200;

/** The newest messages, or those before a seq, ascending. */
export function history(token, ref, before = null) {
  const cursor = before === null ? "" : `&before=${before}`;
  return call(`/sessions/${at(ref)}/messages?limit=${HISTORY_PAGE}${cursor}`, { token });
}

/** `[{message_id, emoji}]`: what one has reacted with to the messages of such a page. */
export function ownReactions(token, ref, before = null) {
  const cursor = before === null ? "" : `&before=${before}`;
  return call(`/sessions/${at(ref)}/reactions/mine?limit=${HISTORY_PAGE}${cursor}`, { token });
}

/** One message, wherever it stands. */
export function message(token, ref, id) {
  return call(`/sessions/${at(ref)}/messages/${at(id)}`, { token });
}

/** Makes the lesson live. */
export function start(token, lesson) {
  return lesson.kind === "booking"
    ? call(`/sessions/${at(lesson.id)}`, { method: "PUT", token, body: { status: "active" } })
    : call(`/live-sessions/${at(lesson.id)}/start`, { method: "PATCH", token });
}

/** userId → name of those who were removed and not let back in. For the host. */
export async function barred(token, ref) {
  const people = await call(`/sessions/${at(ref)}/participants`, { token });
  return Object.fromEntries(people.filter((person) => person.wasKicked).map((person) => [person.userId, person.name]));
}

const PEOPLE_PAGE = 1_000;

/** Everybody who is online, piece by piece, as Persons (see state.js). */
export async function* online(token, ref) {
  let path = `/sessions/${at(ref)}/participants?online=true&limit=${PEOPLE_PAGE}`;
  while (path) {
    const { answer, next } = await answerOf(path, { token });
    const people = answer.map(({ userId, name, role, micAllowed, cameraAllowed, handRaised, joinedAt }) =>
      ({ userId, name, role: role === "instructor" ? "teacher" : role, micAllowed, cameraAllowed, handRaised, joinedAt }));
    yield { people, complete: next === null };
    path = next;
  }
}

/** The newest recordings of a lesson, as the server lists them. */
export function recordings(token, ref) {
  return call(`/sessions/${at(ref)}/recordings`, { token });
}

export function removeRecording(token, ref, id) {
  return call(`/sessions/${at(ref)}/recordings/${at(id)}`, { method: "DELETE", token });
}

/**
 * `{required, consents: {userId → whether they agree}, children: [{userId, name}]}`: consents of everybody to the host,
 * to others of those whom they decide for, who are themselves and the children.
 */
export async function consents(token, ref) {
  const found = { required: false, consents: {}, children: [] };
  for (let path = `/sessions/${at(ref)}/recording-consent`; path;) {
    const { answer, next } = await answerOf(path, { token });
    for (const { user_id: userId, agreed } of answer.people) found.consents[userId] = agreed;
    found.required = answer.required;
    found.children = answer.children.map(({ user_id: userId, name }) => ({ userId, name }));
    path = next;
  }
  return found;
}

export function decide(token, ref, userId, agreed) {
  return call(`/sessions/${at(ref)}/recording-consent`, { method: "PUT", token, body: { agreed, user_id: userId } });
}

export function letBackIn(token, ref, userId) {
  return call(`/sessions/${at(ref)}/participants/${at(userId)}`, { method: "PATCH", token, body: { wasKicked: false } });
}

/** Somebody's name, or "" where it is not to be had. */
export async function nameOf(token, userId) {
  try {
    return (await call(`/profiles?user_id=${at(userId)}`, { token })).profile.name ?? "";
  } catch {
    return "";
  }
}

/** What lets `tab` into the lesson's video: `{provider, url, token, data, meeting_id, expires_at, people, …}`. */
export function meetingPass(token, ref, tab) {
  return call(`/sessions/${at(ref)}/token?tab=${at(tab)}`, { method: "POST", token });
}

/** Gives the pass back: `tab` is not in the video any more. Also from a page that closes. */
export async function leaveMeeting(token, ref, tab) {
  await fetch(`/sessions/${at(ref)}/token?tab=${at(tab)}`, { method: "DELETE", headers: { Authorization: `Bearer ${token}` }, keepalive: true });
}

const KEY = "encounters.sign-in";

/** Per tab, so that two tabs can be two people. */
export const stored = {
  /** @returns {?SignIn} */
  get: () => kept("sessionStorage", KEY),
  set: (signIn) => keep("sessionStorage", KEY, signIn),
  clear: () => keep("sessionStorage", KEY, null),
};
