// A cache behind gRPC, with the channel cached outside the handler. Messages are raw bytes: no .proto file needed.
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";

const WORK_MS = 60; // what the function does after the last packet; longer than the kernel's delayed ACK (40 ms)

let watch = () => {};
const print = console.error;
console.error = (...args) => {
  print(...args);
  watch(String(args[0]));
};

/** Resolves as soon as grpc-js prints a line with `text` (its traces go to console.error). */
function printed(text) {
  return new Promise((resolve) => {
    watch = (line) => line.includes(text) && resolve();
  });
}

const bytes = (value) => value;
const Cache = grpc.makeGenericClientConstructor({
  get: {
    path: "/cache.Cache/Get",
    requestStream: false,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  },
});
const cache = new Cache(
  `${process.env.SERVER_ADDRESS}:50051`,
  grpc.credentials.createInsecure(),
  JSON.parse(process.env.CHANNEL_OPTIONS ?? "{}"),
);

async function get(key, deadlineMs) {
  const began = Date.now();
  const call = promisify(cache.get).bind(cache);
  try {
    await call(Buffer.from(key), { deadline: began + deadlineMs });
    console.log(`cache get ${key} ok in ${Date.now() - began} ms`);
    return "hit";
  } catch (error) {
    console.error(`cache get ${key} failed after ${Date.now() - began} ms: ${error.message}`);
    return "fallback";
  }
}

/** event: {deadlines: [ms of each call], until: wait for a trace line with this text, workMs: then work so long} */
export async function handler({ deadlines, until, workMs = WORK_MS }) {
  const results = [];
  for (const deadlineMs of deadlines) results.push(await get("greeting", deadlineMs));
  if (until) await printed(until);
  if (workMs) await sleep(workMs);
  return { results };
}
