// Asks an HTTP service, with a keep-alive agent outside the handler.
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const WORK_MS = 60; // what the function does after the reply; longer than the kernel's delayed ACK (40 ms)

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function get(path) {
  const { promise, resolve, reject } = Promise.withResolvers?.() ?? withResolvers();
  const request = http.get({ host: process.env.SERVER_ADDRESS, path, agent }, (response) => {
    response.resume();
    response.on("end", () => resolve(response.statusCode));
  });
  request.on("error", reject);
  return promise;
}

function withResolvers() {
  const it = {};
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }));
  return it;
}

/** event: {requests: [{path, pauseMs: idle so long before it}]} */
export async function handler({ requests }) {
  for (const { path = "/", pauseMs = 0 } of requests) {
    await sleep(pauseMs);
    const began = Date.now();
    try {
      const status = await get(path);
      console.log(`GET ${path} ${status} in ${Date.now() - began} ms, after ${pauseMs} ms`);
    } catch (error) {
      console.error(`GET ${path} failed after ${pauseMs} ms`, error);
    }
  }
  await sleep(WORK_MS);
}
