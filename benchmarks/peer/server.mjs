// What the notifier is measured beside: the simplest fair broadcast with `ws`. Every line that comes in on
// `feed` goes to every open WebSocket as one message. A client that says something gets the newest line back,
// as one that comes back gets what it missed. Prints its two ports, and ends with its input.
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { WebSocket, WebSocketServer } from "ws";

const HOST = "127.0.0.1";

const sockets = new WebSocketServer({ host: HOST, port: 0, perMessageDeflate: false, backlog: 4096 });
let newest = Buffer.alloc(0);

function broadcast(line) {
  newest = Buffer.from(line); // once for all: a string would be encoded anew for every client
  for (const socket of sockets.clients) {
    if (socket.readyState === WebSocket.OPEN) socket.send(newest, { binary: false });
  }
}

sockets.on("connection", (socket) => {
  socket.on("message", () => socket.send(newest, { binary: false }));
  socket.on("error", () => socket.terminate());
});

const feed = createServer((source) => createInterface({ input: source }).on("line", broadcast));

sockets.on("listening", () => {
  feed.listen(0, HOST, () => {
    console.log(JSON.stringify({ port: sockets.address().port, feed: feed.address().port }));
  });
});

process.stdin.on("end", () => process.exit()).resume();
