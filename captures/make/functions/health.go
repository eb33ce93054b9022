// Asks a gRPC server for its health, with the channel outside the handler; called with "serve", it is that server.
//
// A program is its own runtime (`provided.al2023`): it reads invocations and answers as bootstrap.py documents, and what it
// prints goes to the log line by line, without a request's id.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	protocol "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	port     = ":50051"
	deadline = 5 * time.Second
	work     = 60 * time.Millisecond // after the reply; longer than the kernel's delayed ACK (40 ms)
)

func main() {
	if len(os.Args) > 1 {
		serve()
	}
	channel, err := grpc.Dial(os.Getenv("SERVER_ADDRESS")+port, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	answerInvocations(protocol.NewHealthClient(channel))
}

func serve() {
	listener, err := net.Listen("tcp", port)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	protocol.RegisterHealthServer(server, health.NewServer())
	fmt.Println("ready")
	log.Fatal(server.Serve(listener))
}

func answerInvocations(client protocol.HealthClient) {
	descriptor, _ := strconv.Atoi(os.Getenv("SERVICE_FD"))
	service := json.NewEncoder(os.NewFile(uintptr(descriptor), "service"))
	service.Encode(map[string]bool{"ready": true})
	for events := bufio.NewScanner(os.Stdin); events.Scan(); {
		if err := handle(client); err != nil {
			// What lambda-go prints about an error that a handler returns.
			record, _ := json.Marshal(map[string]string{"errorMessage": err.Error(), "errorType": fmt.Sprintf("%T", err)})
			log.Print(string(record))
			service.Encode(map[string]string{"error": err.Error()})
			continue
		}
		service.Encode(map[string]string{"response": "ok"})
	}
}

func handle(client protocol.HealthClient) error {
	limited, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	began := time.Now()
	reply, err := client.Check(limited, &protocol.HealthCheckRequest{})
	if err != nil {
		return err
	}
	log.Printf("%v in %d ms", reply.Status, time.Since(began).Milliseconds())
	time.Sleep(work)
	return nil
}
