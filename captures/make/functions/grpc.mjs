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

/** Compute for so long, and let nothing else run: no timer, no socket. */
function block(ms) {
  for (const end = Date.now() + ms; Date.now() < end; );
}

/**
 * event: {deadlines: [ms of each call], key, until: wait for a trace line with this text, blockMs: then compute so
 * long, workMs: then work so long, forget: start the calls and do not wait for them}
 */
export async function handler({ deadlines, key = "greeting", until, blockMs = 0, workMs = WORK_MS, forget = false }) {
  const results = [];
  for (const deadlineMs of deadlines) results.push(forget ? void get(key, deadlineMs) : await get(key, deadlineMs));
  if (until) {
    await printed(until);
    await sleep(1); // printed is not sent: let the socket have it
  }
  if (blockMs) block(blockMs);
  if (workMs) await sleep(workMs);
  return { results };
}
