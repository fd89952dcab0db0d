// The session room as a Socket.IO server in JavaScript would have it: S1's gateway and service, without a framework.
import { createHmac, timingSafeEqual } from "node:crypto";

const { JWT_SECRET } = process.env;

export const QUERIES = {
  membership: {
    name: "membership",
    text: `SELECT b.id, b.parent_id, b.tutor_id, s.parent_id AS student_parent_id
           FROM bookings b LEFT JOIN users s ON s.id = b.student_id WHERE b.id = $1`,
  },
  person: { name: "person", text: "SELECT first_name, last_name FROM users WHERE id = $1" },
  insert: {
    name: "insert",
    text: "INSERT INTO session_messages (session_id, user_id, text) VALUES ($1, $2, $3) RETURNING id, created_at",
  },
};

/** The `sub` of an HS256 token that is signed with JWT_SECRET and not expired. */
export function verify(token) {
  const [head, body, signature] = token.split(".");
  const wanted = createHmac("sha256", JWT_SECRET).update(`${head}.${body}`).digest();
  const given = Buffer.from(signature, "base64url");
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) throw new Error("invalid token");
  const claims = JSON.parse(Buffer.from(body, "base64url").toString());
  if (claims.exp * 1000 < Date.now()) throw new Error("expired token");
  return claims.sub;
}

/** Serve `/encounters`. Without a pool nothing is looked up or stored, and a message goes out as it came. */
export function serveSessions(io, pool) {
  const namespace = io.of("/encounters");
  namespace.use((socket, next) => {
    try {
      socket.data.userId = verify(socket.handshake.auth.token);
      next();
    } catch (error) {
      next(error);
    }
  });
  namespace.on("connection", (socket) => {
    const { userId } = socket.data;
    socket.on("joinSession", ({ sessionId }, ack) => {
      socket.join(`session-${sessionId}`);
      ack({ ok: true });
    });
    socket.on("sendMessage", async ({ sessionId, text }, ack) => {
      const message = pool ? await store(pool, sessionId, userId, text) : passOn(sessionId, userId, text);
      namespace.to(`session-${sessionId}`).emit("newMessage", message);
      ack({ ok: true, message });
    });
  });
}

async function store(pool, sessionId, userId, text) {
  const booking = (await pool.query({ ...QUERIES.membership, values: [sessionId] })).rows[0];
  if (!booking) throw new Error("Session not found");
  const person = (await pool.query({ ...QUERIES.person, values: [userId] })).rows[0];
  const { id, created_at } = (await pool.query({ ...QUERIES.insert, values: [sessionId, userId, text] })).rows[0];
  const from = `${person.first_name} ${person.last_name}`.trim();
  return { id, session_id: sessionId, from, user_id: userId, text, created_at };
}

let passed = 0;

function passOn(sessionId, userId, text) {
  const id = `00000000-0000-4000-8000-${String((passed += 1)).padStart(12, "0")}`;
  return { id, session_id: sessionId, from: "Somebody", user_id: userId, text, created_at: new Date() };
}
