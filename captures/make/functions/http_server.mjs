// An HTTP service behind nginx: `/poll` is answered after 4 seconds.
import http from "node:http";

const server = http.createServer((request, response) => {
  setTimeout(() => response.end("hello\n"), request.url === "/poll" ? 4000 : 0);
});
server.listen(8080, "127.0.0.1", () => console.log("ready"));
