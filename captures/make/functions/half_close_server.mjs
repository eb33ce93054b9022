// The other side of half_close.mjs: on port 7001 it answers for as long as it is asked to, on 7002 it closes its half and reads on.
import net from "node:net";

const options = { allowHalfOpen: true };
const stream = net.createServer(options, (socket) => {
  let request = "";
  socket.on("data", (chunk) => (request += chunk));
  socket.on("end", () => {
    let left = 2 * Number(/\d+/.exec(request)[0]);
    const timer = setInterval(() => {
      if (left-- > 0) return socket.write("y".repeat(200));
      clearInterval(timer);
      socket.end();
    }, 500);
  });
});
const sink = net.createServer(options, (socket) => {
  socket.resume();
  socket.end("ready to read\n");
});
const listen = (server, port) => new Promise((done) => server.listen(port, process.env.SERVER_ADDRESS, done));
await Promise.all([listen(stream, 7001), listen(sink, 7002)]);
console.log("ready");
