// A counter in Redis, with the client cached outside the handler, as everybody does.
import { setTimeout as sleep } from "node:timers/promises";
import Redis from "ioredis";

const WORK_MS = 60; // what the function does after the reply; longer than the kernel's delayed ACK (40 ms)

const options = JSON.parse(process.env.REDIS_OPTIONS ?? "{}");
const redis = new Redis({ host: process.env.SERVER_ADDRESS, port: 6379, ...options });
redis.on("ready", () => console.log("redis connection ready"));
redis.on("close", () => console.warn("redis connection closed"));
redis.on("reconnecting", (ms) => console.warn(`redis reconnecting in ${ms} ms`));
redis.on("error", (error) => console.error("redis error", error));

/** event: {key, count: how often, everyMs: with so long between, workMs, leave: close, but do not wait for the end} */
export async function handler({ key, count = 1, everyMs = 0, workMs = WORK_MS, leave = false }) {
  let value;
  for (let n = 0; n < count; n++) {
    const began = Date.now();
    value = await redis.incr(key);
    console.log(`INCR ${key} -> ${value} in ${Date.now() - began} ms`);
    if (everyMs) await sleep(everyMs);
  }
  await sleep(workMs);
  if (leave) {
    redis.disconnect();
    await sleep(1); // the FIN leaves, its answer has not come
  }
  return { value };
}
