// Sends a request, closes its half and reads on; or uploads to a server that has closed its half.
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** event: {half: "client" or "server", seconds} */
export async function handler({ half, seconds }) {
  const port = half === "client" ? 7001 : 7002;
  const socket = net.connect({ host: process.env.SERVER_ADDRESS, port, allowHalfOpen: true });
  let bytes = 0;
  socket.on("data", (chunk) => (bytes += chunk.length));
  const ended = new Promise((resolve) => socket.once("end", resolve));
  if (half === "client") {
    socket.end(`send for ${seconds} s\n`);
  } else {
    for (let n = 0; n < seconds * 2; n++) {
      socket.write("x".repeat(200));
      await sleep(500);
    }
    socket.end();
  }
  await ended;
  console.log(`${half} closed first, ${bytes} bytes read`);
}
