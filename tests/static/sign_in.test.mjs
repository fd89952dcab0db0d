// Who is signed in, by a token that is pasted.
import assert from "node:assert/strict";
import test from "node:test";

import { readNextToken, readToken } from "../../static/api.js";

const tokenOf = (sub) => `h.${btoa(JSON.stringify({ sub, name: "Ana", exp: 1_800_000_000 }))}.s`;

test("a page goes on with a new token of the same person, and with nobody else's", () => {
  const ana = readToken(tokenOf("ana"));
  assert.deepEqual(readNextToken(tokenOf("ana"), ana), ana);
  assert.throws(() => readNextToken(tokenOf("ben"), ana), /somebody else’s/);
  assert.throws(() => readNextToken("no token", ana), /not an access token/);
});
