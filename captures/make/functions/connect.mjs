// Opens a TCP connection for each request, as health checks and drivers do.
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

function connect(host, port, hello, timeoutMs) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port });
    const timer = timeoutMs && setTimeout(() => socket.destroy(new Error("gave up")), timeoutMs);
    socket.once(hello ? "data" : "connect", () => {
      clearTimeout(timer);
      socket.end(resolve());
    });
    socket.on("error", reject);
  });
}

/** event: {ports: connect to them, one every `everyMs` or all at once, timeoutMs, host, hello: wait for the server's first bytes} */
export async function handler({ ports, everyMs = 0, timeoutMs, host = process.env.SERVER_ADDRESS, hello = false }) {
  const attempts = ports.map(async (port, n) => {
    await sleep(n * everyMs);
    const began = Date.now();
    try {
      await connect(host, port, hello, timeoutMs);
      console.log(`${host}:${port} connected in ${Date.now() - began} ms`);
    } catch (error) {
      console.error(`${host}:${port} failed after ${Date.now() - began} ms`, error);
    }
  });
  await Promise.all(attempts);
}
