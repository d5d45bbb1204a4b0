// Loads for NATS JetStream, in the shapes of `gantry bench`: closed loops of acknowledged publishes, and a backlog received and
// acknowledged. Prints what `gantry bench -o json` prints, as far as bench-compare reads it.
//
//	nats-load first ADDRESS TOPIC                                 makes its stream, until a publish is acknowledged
//	nats-load topics ADDRESS TOPIC...                             makes their streams
//	nats-load send ADDRESS TOPIC CONNECTIONS IN_FLIGHT SECONDS    the first two seconds more are not measured
//	nats-load fill ADDRESS TOPIC CONNECTIONS IN_FLIGHT COUNT      the same by their number
//	nats-load receive ADDRESS TOPIC CONNECTIONS BATCH COUNT
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	warmUp   = 2 * time.Second
	askEvery = 2 * time.Millisecond
	limit    = 2 * time.Minute
	// A backlog that stops coming for so long is not whole.
	patience = 30 * time.Second
	bodySize = 1024
)

type sent struct {
	Acknowledged int64   `json:"acknowledged"`
	Rate         float64 `json:"rate"`
	Unsent       int64   `json:"unsent"`
}

type received struct {
	Distinct   int64   `json:"distinct"`
	Duplicates int64   `json:"duplicates"`
	Rate       float64 `json:"rate"`
	Missing    int64   `json:"missing"`
}

type latency struct {
	Of   string  `json:"of"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

type outcome struct {
	Sent      *sent     `json:"sent,omitempty"`
	Received  *received `json:"received,omitempty"`
	Latencies []latency `json:"latencies"`
	Errors    []string  `json:"errors"`
}

func main() {
	result, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-load:", err)
		os.Exit(1)
	}
}

func run(arguments []string) (outcome, error) {
	result := outcome{Latencies: []latency{}, Errors: []string{}}
	usage := errors.New("first, topics, send, fill or receive, ADDRESS TOPIC ...: see the head of main.go")
	if len(arguments) < 3 {
		return result, usage
	}
	command, address, topic := arguments[0], "nats://"+arguments[1], arguments[2]
	switch command {
	case "first":
		return result, first(address, topic)
	case "topics":
		return result, makeStreams(address, arguments[2:])
	}
	var numbers [3]int
	if len(arguments) != 3+len(numbers) {
		return result, usage
	}
	for i, word := range arguments[3:] {
		number, err := strconv.Atoi(word)
		if err != nil || number <= 0 {
			return result, fmt.Errorf("%q is no number above 0", word)
		}
		numbers[i] = number
	}
	streams, closeAll, err := connect(address, numbers[0])
	if err != nil {
		return result, err
	}
	defer closeAll()
	switch command {
	case "send":
		start := time.Now().Add(warmUp)
		return send(streams, topic, numbers[1], start, start.Add(time.Duration(numbers[2])*time.Second), math.MaxInt64)
	case "fill":
		start := time.Now()
		return send(streams, topic, numbers[1], start, start.Add(limit), int64(numbers[2]))
	case "receive":
		return receive(streams, topic, numbers[1], int64(numbers[2]))
	}
	return result, usage
}

// first waits for the server, makes the stream of a topic, and publishes one message.
func first(address, topic string) error {
	for began := time.Now(); ; time.Sleep(askEvery) {
		err := makeStreams(address, []string{topic})
		if err == nil {
			err = publishOne(address, topic)
		}
		if err == nil || time.Since(began) > limit {
			return err
		}
	}
}

func publishOne(address, topic string) error {
	streams, closeAll, err := connect(address, 1)
	if err != nil {
		return err
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = streams[0].Publish(ctx, topic, []byte("first"))
	return err
}

// makeStreams makes a stream of each topic that keeps messages in files; one that is there stays.
func makeStreams(address string, topics []string) error {
	streams, closeAll, err := connect(address, 1)
	if err != nil {
		return err
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, topic := range topics {
		config := jetstream.StreamConfig{Name: topic, Subjects: []string{topic}, Storage: jetstream.FileStorage}
		if _, err := streams[0].CreateOrUpdateStream(ctx, config); err != nil {
			return err
		}
	}
	return nil
}

func connect(address string, connections int) ([]jetstream.JetStream, func(), error) {
	var clients []*nats.Conn
	closeAll := func() {
		for _, client := range clients {
			client.Close()
		}
	}
	var streams []jetstream.JetStream
	for range connections {
		client, err := nats.Connect(address, nats.Name("bench"))
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		clients = append(clients, client)
		stream, err := jetstream.New(client)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		streams = append(streams, stream)
	}
	return streams, closeAll, nil
}

// send keeps so many publishes under way on each connection: each acknowledgement is followed by the next.
func send(streams []jetstream.JetStream, topic string, inFlight int, start, end time.Time, count int64) (outcome, error) {
	result := outcome{Latencies: []latency{}, Errors: []string{}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Until(end)+limit)
	defer cancel()
	body := make([]byte, bodySize)
	var begun, acknowledged atomic.Int64
	took := make([][]time.Duration, len(streams)*inFlight)
	failures := make(chan error, len(took))
	var workers sync.WaitGroup
	for worker := range took {
		stream := streams[worker%len(streams)]
		workers.Go(func() {
			for time.Now().Before(end) && begun.Add(1) <= count {
				at := time.Now()
				if _, err := stream.Publish(ctx, topic, body); err != nil {
					failures <- err
					return
				}
				acknowledged.Add(1)
				if !at.Before(start) {
					took[worker] = append(took[worker], time.Since(at))
				}
			}
		})
	}
	workers.Wait()
	seconds := time.Since(start).Seconds()
	select {
	case err := <-failures:
		return result, err
	default:
	}
	all := slices.Concat(took...)
	result.Sent = &sent{Acknowledged: acknowledged.Load(), Rate: float64(len(all)) / seconds}
	result.Latencies = append(result.Latencies, percentiles("send", all))
	return result, nil
}

// receive takes so many messages from the beginning of a topic, and acknowledges each.
func receive(streams []jetstream.JetStream, topic string, batch int, count int64) (outcome, error) {
	result := outcome{Latencies: []latency{}, Errors: []string{}}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	config := jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1}
	if _, err := streams[0].CreateOrUpdateConsumer(ctx, topic, config); err != nil {
		return result, err
	}
	var distinct, duplicates, last atomic.Int64
	whole := make(chan struct{})
	start := time.Now()
	last.Store(start.UnixNano())
	for _, stream := range streams {
		consumer, err := stream.Consumer(ctx, topic, config.Durable)
		if err != nil {
			return result, err
		}
		consuming, err := consumer.Consume(func(message jetstream.Msg) {
			if about, err := message.Metadata(); err == nil && about.NumDelivered > 1 {
				duplicates.Add(1)
			} else if distinct.Add(1) == count {
				close(whole)
			}
			last.Store(time.Now().UnixNano())
			// What is not acknowledged comes again, and is counted then.
			_ = message.Ack()
		}, jetstream.PullMaxMessages(batch))
		if err != nil {
			return result, err
		}
		defer consuming.Stop()
	}
	waiting := time.NewTicker(time.Second)
	defer waiting.Stop()
	for arriving := true; arriving; {
		select {
		case <-whole:
			arriving = false
		case <-waiting.C:
			arriving = time.Since(time.Unix(0, last.Load())) < patience
		}
	}
	seconds := time.Unix(0, last.Load()).Sub(start).Seconds()
	came := distinct.Load()
	result.Received = &received{Distinct: came, Duplicates: duplicates.Load(), Rate: float64(came) / seconds, Missing: count - came}
	return result, nil
}

func percentiles(of string, took []time.Duration) latency {
	slices.Sort(took)
	at := func(share float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return float64(took[min(int(float64(len(took))*share), len(took)-1)]) / float64(time.Millisecond)
	}
	return latency{Of: of, P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1)}
}
