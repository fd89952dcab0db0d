// Socket.IO on Node.js: node --expose-gc node.mjs. With WORKERS above 1, a cluster with Socket.IO's Redis adapter.
import cluster from "node:cluster";
import { createServer } from "node:http";
import pg from "pg";
import { Server } from "socket.io";
import { serveSessions } from "./session.mjs";

const { PORT, DATABASE_URL, REDIS_URL } = process.env;
const workers = Number(process.env.WORKERS ?? 1);

async function serve() {
  const server = createServer();
  const io = new Server(server);
  if (REDIS_URL) {
    const { createAdapter } = await import("@socket.io/redis-adapter");
    const { createClient } = await import("redis");
    const publisher = createClient({ url: REDIS_URL });
    const subscriber = publisher.duplicate();
    await Promise.all([publisher.connect(), subscriber.connect()]);
    io.adapter(createAdapter(publisher, subscriber));
  }
  serveSessions(io, DATABASE_URL ? new pg.Pool({ connectionString: DATABASE_URL, max: 10 }) : null);
  process.on("SIGUSR2", () => globalThis.gc?.());
  await new Promise((resolve) => server.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 4096 }, resolve));
}

if (workers > 1 && cluster.isPrimary) {
  let listening = 0;
  cluster.on("listening", () => {
    listening += 1;
    if (listening === workers) console.log("ready");
  });
  for (let i = 0; i < workers; i += 1) cluster.fork();
} else {
  await serve();
  if (cluster.isPrimary) console.log("ready");
}
