// What films have to send, in a browser's database that does not do as it should.
import assert from "node:assert/strict";
import test from "node:test";

/** The module as a page that has just been opened has it, and the request for its database. */
async function opened(name) {
  const request = {};
  globalThis.indexedDB = { open: () => request };
  globalThis.IDBKeyRange = { bound: () => null };
  return { request, unsent: await import(`../../static/unsent.js?${name}`) };
}

test("a database that does not open is not waited for for long", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { unsent } = await opened("hangs");
  const pieces = unsent.keptPieces("/uploads/1");
  context.mock.timers.tick(5_000);
  assert.deepEqual(await pieces, []);
});

test("a database that another page keeps from opening is not waited for", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { request, unsent } = await opened("blocked");
  const pieces = unsent.keptPieces("/uploads/1");
  request.onblocked();
  assert.deepEqual(await pieces, []);
});

test("a page lets go of the database when another wants to change or delete it", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { request, unsent } = await opened("changes");
  let isClosed = false;
  const pieces = unsent.keptPieces("/uploads/1");
  request.result = { close() { isClosed = true; } };
  request.onsuccess();
  await pieces;
  request.result.onversionchange();
  assert.ok(isClosed);
});
