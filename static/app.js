/**
 * Where the page starts. Its address says who and where: `/?as=<user_id>&session=<room>` signs a person of the
 * demonstration in and opens the room; `/?session=<room>` opens it for whoever this tab is signed in as; `/` asks.
 */

import * as api from "./api.js";
import { showEntry, showUnreachable } from "./entry.js";
import { dropOld } from "./films.js";
import { goToStart, showNotice } from "./notice.js";
import { openRoom } from "./room.js";

const DROP_OLD_MS = 60 * 60 * 1_000;

async function signInAs(userId) {
  const known = api.stored.get();
  if (known?.demo && known.userId === userId && new Date(known.expiresAt) > Date.now()) return known;
  const signIn = await api.demoSignIn(userId);
  api.stored.set(signIn);
  return signIn;
}

async function start() {
  const address = new URLSearchParams(location.search);
  const as = address.get("as");
  const ref = address.get("session");

  let demo;
  try {
    demo = await api.demo();
  } catch (error) {
    return showUnreachable(error.message);
  }

  if (ref && (as ? demo : api.stored.get())) {
    try {
      return openRoom({ ref, signIn: as ? await signInAs(as) : api.stored.get(), demo });
    } catch (error) {
      return showNotice({
        icon: "warning", title: "You could not be signed in", text: error.message,
        actions: [{ label: "Back to the start", primary: true, act: goToStart }],
      });
    }
  }

  showEntry({
    demo, ref, chosen: as ?? api.stored.get()?.userId,
    async join(signIn, room) {
      api.stored.set(signIn);
      const next = new URLSearchParams(signIn.demo ? { as: signIn.userId, session: room } : { session: room });
      history.pushState(null, "", `/?${next}`);
      openRoom({ ref: room, signIn, demo });
    },
  });
}

addEventListener("popstate", () => location.reload());
dropOld();
setInterval(dropOld, DROP_OLD_MS);
start();
