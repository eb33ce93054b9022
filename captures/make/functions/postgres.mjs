// Orders in PostgreSQL by pg, with the pool outside the handler.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const WORK_MS = 60; // what the function does after the reply; longer than the kernel's delayed ACK (40 ms)

const pool = new pg.Pool({
  host: process.env.SERVER_ADDRESS,
  user: "app",
  database: "postgres",
  max: 1,
  ...JSON.parse(process.env.POOL_OPTIONS ?? "{}"),
});
pool.on("error", (error) => console.error("idle client", error));

/** event: {sql, each: connect for this request only} */
export async function handler({ sql = "select count(*) from pg_class", each = false }) {
  const began = Date.now();
  const client = each ? new pg.Client({ host: process.env.SERVER_ADDRESS, user: "app", database: "postgres" }) : pool;
  if (each) await client.connect();
  await client.query(sql);
  if (each) await client.end();
  console.log(`query ok in ${Date.now() - began} ms`);
  await sleep(WORK_MS);
}
