// The other side of grpc.mjs: answers every key with the same bytes, `sleep N` after N milliseconds.
import grpc from "@grpc/grpc-js";

const bytes = (value) => value;
const service = {
  get: {
    path: "/cache.Cache/Get",
    requestStream: false,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  },
};

function get(call, reply) {
  const [, ms] = /^sleep (\d+)$/.exec(call.request.toString()) ?? [];
  setTimeout(() => reply(null, Buffer.from("hello")), Number(ms ?? 0));
}

const server = new grpc.Server(JSON.parse(process.env.SERVER_OPTIONS ?? "{}"));
server.addService(service, { get });
server.bindAsync(`${process.env.SERVER_ADDRESS}:50051`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log("ready");
});
