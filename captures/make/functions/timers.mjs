// Counts seconds in the background, and compares with the clock: what every heartbeat, reaper and refresh relies on.
import { setTimeout as sleep } from "node:timers/promises";

const began = Date.now();
let ticks = 0;
setInterval(() => ticks++, 1000);

export async function handler({ workMs }) {
  await sleep(workMs);
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(`Calculated: ${seconds} seconds, Background Task: ${ticks} seconds`);
}
