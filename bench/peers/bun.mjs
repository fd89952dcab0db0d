// Socket.IO on Bun, with its own engine: bun bun.mjs.
import { Server as Engine } from "@socket.io/bun-engine";
import { Server } from "socket.io";
import { serveSessions } from "./session.mjs";

const io = new Server();
const engine = new Engine({ path: "/socket.io/" });
io.bind(engine);
let pool = null;
if (process.env.DATABASE_URL) {
  const { default: pg } = await import("pg");
  pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
}
serveSessions(io, pool);
process.on("SIGUSR2", () => Bun.gc(true));
Bun.serve({ port: Number(process.env.PORT), hostname: "127.0.0.1", ...engine.handler() });
console.log("ready");
