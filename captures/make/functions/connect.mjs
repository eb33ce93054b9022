// Opens a TCP connection for each request, as health checks and drivers do.
import net from "node:net";

function connect(host, port, hello) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port });
    socket.once(hello ? "data" : "connect", () => socket.end(resolve()));
    socket.on("error", reject);
  });
}

/** event: {ports: connect to them, all at once, timeoutMs, host, hello: wait for the server's first bytes} */
export async function handler({ ports, timeoutMs, host = process.env.SERVER_ADDRESS, hello = false }) {
  const attempts = ports.map(async (port) => {
    const began = Date.now();
    const timer = timeoutMs && new Promise((_, reject) => setTimeout(() => reject(new Error("gave up")), timeoutMs));
    try {
      await Promise.race([connect(host, port, hello), ...(timer ? [timer] : [])]);
      console.log(`${host}:${port} connected in ${Date.now() - began} ms`);
    } catch (error) {
      console.error(`${host}:${port} failed after ${Date.now() - began} ms`, error);
    }
  });
  await Promise.all(attempts);
}
