// The part of Lambda's Node.js runtime that can be seen in a log: it loads the handler, hands it one event at a
// time, and prefixes what the function prints.
//
//   stdin        one invocation per line: {"requestId", "event"}
//   $SERVICE_FD  one message per line, in order: {"log": {"timestamp", "message"}}, {"ready"}, {"response"}, {"error"}
//
// Logs and responses share one descriptor, so that nobody downstream can swap a last line and the end of its request.
import fs from "node:fs";
import readline from "node:readline";
import { format } from "node:util";

const service = Number(process.env.SERVICE_FD);
const send = (message) => fs.writeSync(service, JSON.stringify(message) + "\n");

// One variable for the whole process, set when an event is read and never cleared, as in the real runtime. So a
// callback that runs after a thaw, but before the next event is read, prints the id of the *previous* request,
// and what is printed before the first request says `undefined`.
let requestId;

const inJson = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";

function print(level, ...args) {
  const now = new Date();
  // A message of several lines stays one log event.
  const message = inJson ? record(now, level, args) : `${now.toISOString()}\t${requestId}\t${level}\t${format(...args)}\n`;
  send({ log: { timestamp: now.getTime(), message } });
}

// The JSON log format: a single error is an object, one beside other things is text and three fields.
function record(now, level, args) {
  const error = args.find((arg) => arg instanceof Error);
  const fields = error && { errorType: error.name, errorMessage: error.message, stackTrace: error.stack.split("\n") };
  const head = { timestamp: now.toISOString(), level, requestId };
  if (error && args.length === 1) return stringified({ ...head, message: { ...fields, ...error } }) ?? JSON.stringify({ ...head, message: fields });
  return JSON.stringify({ ...head, message: format(...args), ...fields });
}

const levels = { trace: "TRACE", debug: "DEBUG", log: "INFO", info: "INFO", warn: "WARN", error: "ERROR" };
for (const [method, level] of Object.entries(levels)) console[method] = (...args) => print(level, ...args);

// Some errors hold their request, which holds them.
function stringified(fields) {
  try {
    return JSON.stringify(fields);
  } catch {
    return undefined;
  }
}

function printInvokeError(error) {
  const { name, message, stack } = error; // not enumerable, unlike code, errno, syscall, address and port
  const plain = { errorType: name, errorMessage: message, trace: stack.split("\n") };
  const fields = { errorType: name, errorMessage: message, ...error, stack: stack.split("\n") };
  if (inJson) print("ERROR", error);
  else print("ERROR", "%s", `Invoke Error \t${stringified(fields) ?? JSON.stringify(plain)}`);
}

async function invoke(handler, { requestId: id, event }) {
  requestId = id;
  try {
    send({ response: (await handler(event)) ?? null });
  } catch (error) {
    printInvokeError(error);
    send({ error: error.message });
  }
}

const { handler } = await import(process.argv[2]);
send({ ready: true });
for await (const line of readline.createInterface({ input: process.stdin })) await invoke(handler, JSON.parse(line));
