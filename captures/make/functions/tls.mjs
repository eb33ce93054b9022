// Fetches a page by TLS, on a connection of its own each time.
import https from "node:https";

function get(options) {
  return new Promise((resolve, reject) => {
    const request = https.get({ host: process.env.SERVER_ADDRESS, agent: false, ...options }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    });
    request.on("timeout", () => request.destroy(new Error("request timed out")));
    request.on("error", reject);
  });
}

/** event: options of https.get */
export async function handler(options) {
  const began = Date.now();
  try {
    console.log(`GET https ${await get(options)} in ${Date.now() - began} ms`);
  } catch (error) {
    console.error(`GET https failed after ${Date.now() - began} ms`, error);
  }
}
