// The other side of grpc.mjs: answers every key with the same bytes.
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

const server = new grpc.Server();
server.addService(service, { get: (call, reply) => reply(null, Buffer.from("hello")) });
server.bindAsync(`${process.env.SERVER_ADDRESS}:50051`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log("ready");
});
