// History with fastify and pg: S1's getMessages, with an index and a page of 50. node history.mjs
import fastify from "fastify";
import pg from "pg";
import { QUERIES, verify } from "./session.mjs";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const app = fastify();

const PAGE = {
  name: "page",
  text: `SELECT m.id, m.text, m.created_at, m.user_id, u.first_name, u.last_name
         FROM session_messages m JOIN users u ON u.id = m.user_id
         WHERE m.session_id = $1 ORDER BY m.created_at DESC LIMIT 50`,
};

app.get("/sessions/:id/messages", async (request, reply) => {
  let userId;
  try {
    userId = verify(request.headers.authorization.slice("Bearer ".length));
  } catch (error) {
    return reply.code(401).send({ error: error.message });
  }
  const { id } = request.params;
  const booking = (await pool.query({ ...QUERIES.membership, values: [id] })).rows[0];
  if (!booking) return reply.code(404).send({ error: "Session not found" });
  if (![booking.parent_id, booking.student_parent_id, booking.tutor_id].includes(userId)) {
    return reply.code(403).send({ error: "Access denied to this session" });
  }
  const { rows } = await pool.query({ ...PAGE, values: [id] });
  return rows.reverse().map((row) => ({
    id: row.id,
    session_id: id,
    from: `${row.first_name} ${row.last_name}`.trim(),
    user_id: row.user_id,
    text: row.text,
    created_at: row.created_at,
  }));
});

await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
console.log("ready");
