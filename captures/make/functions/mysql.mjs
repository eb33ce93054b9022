// Orders in MariaDB by mysql2, with the connection outside the handler.
import { setTimeout as sleep } from "node:timers/promises";
import mysql from "mysql2/promise";

const WORK_MS = 60; // what the function does after the reply; longer than the kernel's delayed ACK (40 ms)

const options = JSON.parse(process.env.MYSQL_OPTIONS ?? "{}");
let connection;

export async function handler({ sql = "select 1" }) {
  const began = Date.now();
  if (!connection) {
    connection = await mysql.createConnection({
      host: process.env.SERVER_ADDRESS,
      user: "app",
      database: "shop",
      ...options,
    });
    connection.on("error", (error) => {
      console.error("mysql connection", error);
      connection = undefined;
    });
  }
  await connection.query(sql);
  console.log(`query ok in ${Date.now() - began} ms`);
  await sleep(WORK_MS);
}
