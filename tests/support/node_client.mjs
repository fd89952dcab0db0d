// The official Socket.IO client, driven by one JSON object a line on stdin:
//   {id, do: "connect", url, token, options}    answers when connected, or with `refused` and its data
//   {id, do: "call", event, payload, timeout}   answers with the ack
//   {id, do: "emit", event, payload}            answers at once
//   {id, do: "burst", event, payloads}          emits all of them in one tick; answers with their acks
//   {id, do: "token", token}                    the token for the next reconnection
//   {id, do: "drop"}                            cuts the transport; the client then reconnects by itself
//   {id, do: "disconnect"}
// Answers are {id, result} or {id, refused}; what comes by itself is {event, data}, with the client's own
// `connect`, `disconnect` and `connect_error` as events "$connect", "$disconnect" and "$connect_error".
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

let socket;
let token;

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const commands = {
  connect({ id, url, token: first, options }) {
    token = first;
    socket = io(`${url}/encounters`, {
      forceNew: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 500,
      auth: (send) => send({ token }),
      ...options,
    });
    let answered = false;
    const answer = (line) => {
      if (!answered) say({ id, ...line });
      answered = true;
    };
    socket.onAny((event, data) => say({ event, data: data ?? null }));
    socket.on("connect", () => {
      answer({ result: socket.id });
      say({ event: "$connect", data: { recovered: socket.recovered } });
    });
    socket.on("disconnect", (reason) => say({ event: "$disconnect", data: reason }));
    socket.on("connect_error", (error) => {
      const data = error.data ?? { message: error.message };
      // While it retries by itself, this is not the end: only a refusal by the namespace is.
      if (!socket.active || !socket.io.reconnection()) answer({ refused: data });
      say({ event: "$connect_error", data });
    });
  },
  call({ id, event, payload, timeout }) {
    socket
      .timeout(timeout)
      .emitWithAck(event, payload)
      .then((result) => say({ id, result }))
      .catch((error) => say({ id, refused: { message: error.message } }));
  },
  emit({ id, event, payload }) {
    socket.emit(event, payload);
    say({ id, result: null });
  },
  burst({ id, event, payloads }) {
    const acks = payloads.map((payload) => socket.emitWithAck(event, payload));
    Promise.all(acks).then((result) => say({ id, result }));
  },
  token({ id, token: next }) {
    token = next;
    say({ id, result: null });
  },
  drop({ id }) {
    socket.io.engine.close();
    say({ id, result: null });
  },
  disconnect({ id }) {
    socket.disconnect();
    say({ id, result: null });
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on("close", () => process.exit(0));
