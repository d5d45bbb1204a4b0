// The official Go client behind the command line in ../README.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	mq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

var (
	flags     = flag.NewFlagSet("client", flag.ExitOnError)
	endpoint  = flags.String("endpoint", "", "host:port")
	topic     = flags.String("topic", "", "")
	tag       = flags.String("tag", "", "")
	sql       = flags.String("sql", "", "")
	lite      = flags.String("lite", "", "")
	key       = flags.String("key", "", "")
	tls       = flags.Bool("tls", false, "")
	count     = flags.Int("count", 0, "")
	prefix    = flags.String("prefix", "m-", "")
	rate      = flags.Float64("rate", 0, "messages a second")
	bytes     = flags.Int("bytes", 0, "")
	delayMs   = flags.Int("delay-ms", 0, "")
	recall    = flags.Bool("recall", false, "")
	group     = flags.String("group", "", "")
	idle      = flags.Float64("idle-seconds", 15, "")
	invisible = flags.Int("invisible", 30, "seconds")
	noAck     = flags.Bool("no-ack", false, "")
	msgGroup  = flags.String("message-group", "", "")
	priority  = flags.Int("priority", -1, "")
	fails     = flags.Int("fail", 0, "attempts of each message")
	rollback  = flags.Bool("rollback", false, "")
	orphan    = flags.Bool("orphan", false, "")
	asks      = flags.Int("asks", 0, "")
	announce  = flags.Bool("announce", false, "")
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("produce, transact, simple, push or lite"))
	}
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	mq.ResetLogger()
	mq.EnableSsl = *tls
	switch os.Args[1] {
	case "produce":
		produce()
	case "transact":
		transact()
	case "simple":
		simple()
	case "push":
		push()
	case "lite":
		subscribeLite()
	default:
		fail(fmt.Errorf("produce, transact, simple, push or lite, not %q", os.Args[1]))
	}
}

func config() *mq.Config {
	return &mq.Config{Endpoint: *endpoint, ConsumerGroup: *group, Credentials: &credentials.SessionCredentials{}}
}

func produce() {
	producer, err := mq.NewProducer(config(), mq.WithTopics(*topic))
	fail(err)
	fail(producer.Start())
	start := time.Now()
	for index := range max(*count, 1) {
		if *rate > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(float64(index) / *rate * float64(time.Second)))))
		}
		body := fmt.Sprintf("%s%d", *prefix, index)
		padding := strings.Repeat("x", max(*bytes-len(body), 0))
		message := &mq.Message{Topic: *topic, Body: []byte(body + padding)}
		message.AddProperty("index", fmt.Sprint(index))
		if *tag != "" {
			message.SetTag(*tag)
		}
		if *lite != "" {
			message.SetLiteTopic(*lite)
		}
		if *msgGroup != "" {
			message.SetMessageGroup(*msgGroup)
		}
		if *priority >= 0 {
			fail(message.SetPriority(int32(*priority)))
		}
		if *key != "" {
			message.SetKeys(*key, fmt.Sprintf("%s%d", *key, index))
		}
		if *delayMs > 0 {
			message.SetDelayTimestamp(time.Now().Add(time.Duration(*delayMs) * time.Millisecond))
		}
		if *announce {
			say(map[string]any{"sending": body + padding})
		}
		receipts, err := producer.Send(context.Background(), message)
		if err != nil {
			say(map[string]any{"failed": err.Error(), "body": body})
			continue
		}
		say(map[string]any{"sent": receipts[0].MessageID, "body": body})
		if *recall && index%2 == 1 {
			id, err := producer.Recall(context.Background(), *topic, receipts[0].RecallHandle)
			if err != nil {
				say(map[string]any{"failed": err.Error(), "body": body})
			} else {
				say(map[string]any{"recalled": id, "body": body})
			}
		}
	}
	fail(producer.GracefulStop())
}

func transact() {
	total := max(*count, 1)
	asked := make(chan bool, 1000)
	check := func(message *mq.MessageView) mq.TransactionResolution {
		say(map[string]any{"asked": message.GetMessageId(), "body": string(message.GetBody())})
		asked <- true
		if *rollback {
			return mq.ROLLBACK
		}
		return mq.COMMIT
	}
	checker := mq.WithTransactionChecker(&mq.TransactionChecker{Check: check})
	producer, err := mq.NewProducer(config(), checker, mq.WithTopics(*topic))
	fail(err)
	fail(producer.Start())
	for index := range total {
		body := fmt.Sprintf("%s%d", *prefix, index)
		transaction := producer.BeginTransaction()
		receipts, err := producer.SendWithTransaction(context.Background(),
			&mq.Message{Topic: *topic, Body: []byte(body)}, transaction)
		if err == nil && !*orphan {
			if *rollback {
				err = transaction.RollBack()
			} else {
				err = transaction.Commit()
			}
		}
		if err != nil {
			say(map[string]any{"failed": err.Error(), "body": body})
		} else {
			say(map[string]any{"sent": receipts[0].MessageID, "body": body})
		}
	}
	if *asks > 0 {
		deadline := time.After(time.Duration(*idle * float64(time.Second)))
		for range *asks {
			select {
			case <-asked:
			case <-deadline:
			}
		}
		// The answer to the last question is on its way.
		time.Sleep(500 * time.Millisecond)
	}
	fail(producer.GracefulStop())
}

func subscriptions() map[string]*mq.FilterExpression {
	if *sql != "" {
		return map[string]*mq.FilterExpression{*topic: mq.NewFilterExpressionWithType(*sql, mq.SQL92)}
	}
	if *tag == "" {
		return map[string]*mq.FilterExpression{*topic: mq.SUB_ALL}
	}
	return map[string]*mq.FilterExpression{*topic: mq.NewFilterExpression(*tag)}
}

func simple() {
	consumer, err := mq.NewSimpleConsumer(config(), mq.WithSimpleAwaitDuration(5*time.Second),
		mq.WithSimpleSubscriptionExpressions(subscriptions()))
	fail(err)
	fail(consumer.Start())
	ctx, progress := context.Background(), newProgress()
	for !progress.over() {
		// An empty poll is an error too: MESSAGE_NOT_FOUND.
		messages, err := consumer.Receive(ctx, 32, time.Duration(*invisible)*time.Second)
		if err != nil {
			fmt.Fprintln(os.Stderr, "receive:", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		for _, message := range messages {
			progress.received(message)
			if *noAck {
				continue
			}
			if err := consumer.Ack(ctx, message); err != nil {
				fmt.Fprintln(os.Stderr, "ack:", err)
			}
		}
	}
	fail(consumer.GracefulStop())
}

func push() {
	progress := newProgress()
	consumer, err := mq.NewPushConsumer(config(), mq.WithPushAwaitDuration(5*time.Second),
		mq.WithPushSubscriptionExpressions(subscriptions()),
		mq.WithPushMessageListener(listener(progress)))
	fail(err)
	fail(consumer.Start())
	for !progress.over() {
		time.Sleep(20 * time.Millisecond)
	}
	fail(consumer.GracefulStop())
}

func subscribeLite() {
	progress := newProgress()
	lites := mq.NewLitePushConsumerConfig(*topic, time.Duration(*invisible)*time.Second)
	consumer, err := mq.NewLitePushConsumer(config(), lites, mq.WithPushAwaitDuration(5*time.Second),
		mq.WithPushMessageListener(listener(progress)))
	fail(err)
	fail(consumer.Start())
	for _, name := range strings.Split(*lite, ",") {
		fail(consumer.SubscribeLite(name))
	}
	for !progress.over() {
		time.Sleep(20 * time.Millisecond)
	}
	fail(consumer.GracefulStop())
}

func listener(progress *progress) mq.MessageListener {
	return &mq.FuncMessageListener{Consume: func(message *mq.MessageView) mq.ConsumerResult {
		progress.received(message)
		if *noAck || int(message.GetDeliveryAttempt()) <= *fails {
			return mq.FAILURE
		}
		return mq.SUCCESS
	}}
}

// progress prints each delivery and knows when the program has seen enough.
type progress struct {
	lock sync.Mutex
	seen map[string]bool
	last time.Time
}

func newProgress() *progress {
	return &progress{seen: map[string]bool{}, last: time.Now()}
}

func (p *progress) received(message *mq.MessageView) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.last = time.Now()
	p.seen[message.GetMessageId()] = true
	say(map[string]any{
		"received": message.GetMessageId(),
		"body":     string(message.GetBody()),
		"attempt":  message.GetDeliveryAttempt(),
		"tag":      message.GetTag(),
	})
}

func (p *progress) over() bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	enough := math.MaxInt
	if *count > 0 {
		enough = *count
	}
	return len(p.seen) >= enough || time.Since(p.last).Seconds() >= *idle
}

func say(line map[string]any) {
	text, err := json.Marshal(line)
	fail(err)
	fmt.Println(string(text))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAILED", err)
		os.Exit(1)
	}
}
