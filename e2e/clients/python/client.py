"""The official Python client behind the command line in ../README.md."""

import argparse
import json
import math
import os
import ssl
import sys
import tempfile
import threading
import time


def trust(endpoint):
    """Whatever certificate the server shows is trusted: gRPC reads whom it trusts when it is loaded."""
    host, port = endpoint.rsplit(":", 1)
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as roots:
        roots.write(ssl.get_server_certificate((host, int(port))))
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = roots.name


if "--tls" in sys.argv:
    trust(sys.argv[sys.argv.index("--endpoint") + 1])

from rocketmq import (  # noqa: E402
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    LitePushConsumer,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)
from rocketmq.grpc_protocol import FilterType  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["produce", "transact", "simple", "push", "lite"])
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--tag")
    parser.add_argument("--sql")
    parser.add_argument("--lite")
    parser.add_argument("--key")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--count", type=int)
    parser.add_argument("--prefix", default="m-")
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--delay-ms", type=int)
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--group")
    parser.add_argument("--idle-seconds", type=float, default=15)
    parser.add_argument("--invisible", type=int, default=30)
    parser.add_argument("--no-ack", action="store_true")
    parser.add_argument("--message-group")
    parser.add_argument("--priority", type=int)
    parser.add_argument("--fail", type=int, default=0)
    parser.add_argument("--rollback", action="store_true")
    parser.add_argument("--orphan", action="store_true")
    parser.add_argument("--asks", type=int, default=0)
    arguments = parser.parse_args()
    configuration = ClientConfiguration(arguments.endpoint, Credentials())
    commands = {"produce": produce, "transact": transact, "simple": simple, "push": push, "lite": lite}
    commands[arguments.command](arguments, configuration)


def produce(arguments, configuration):
    producer = Producer(configuration, (arguments.topic,), tls_enable=arguments.tls)
    producer.startup()
    start = time.monotonic()
    for index in range(arguments.count or 1):
        if arguments.rate:
            time.sleep(max(0, start + index / arguments.rate - time.monotonic()))
        body = f"{arguments.prefix}{index}"
        message = Message()
        message.topic = arguments.topic
        message.body = body.encode().ljust(arguments.bytes, b"x")
        message.add_property("index", str(index))
        if arguments.tag:
            message.tag = arguments.tag
        if arguments.lite:
            message.lite_topic = arguments.lite
        if arguments.message_group:
            message.message_group = arguments.message_group
        if arguments.priority is not None:
            message.priority = arguments.priority
        if arguments.key:
            # The setter adds one.
            message.keys = arguments.key
            message.keys = f"{arguments.key}{index}"
        if arguments.delay_ms:
            # It says milliseconds, and means seconds.
            message.delivery_timestamp = math.ceil(time.time() + arguments.delay_ms / 1000)
        try:
            receipt = producer.send(message)
            say({"sent": receipt.message_id, "body": body})
            if arguments.recall and index % 2:
                say({"recalled": producer.recall_message(arguments.topic, receipt.recall_handle), "body": body})
        except Exception as error:
            say({"failed": str(error) or type(error).__name__, "body": body})
    producer.shutdown()


def transact(arguments, configuration):
    asked = threading.Semaphore(0)

    class Checker(TransactionChecker):
        def check(self, message):
            say({"asked": message.message_id, "body": message.body.decode()})
            asked.release()
            return TransactionResolution.ROLLBACK if arguments.rollback else TransactionResolution.COMMIT

    producer = Producer(configuration, (arguments.topic,), checker=Checker(), tls_enable=arguments.tls)
    producer.startup()
    for index in range(arguments.count or 1):
        body = f"{arguments.prefix}{index}"
        message = Message()
        message.topic = arguments.topic
        message.body = body.encode()
        try:
            transaction = producer.begin_transaction()
            receipt = producer.send(message, transaction)
            if not arguments.orphan:
                transaction.rollback() if arguments.rollback else transaction.commit()
            say({"sent": receipt.message_id, "body": body})
        except Exception as error:
            say({"failed": str(error) or type(error).__name__, "body": body})
    if arguments.asks:
        for _ in range(arguments.asks):
            asked.acquire(timeout=arguments.idle_seconds)
        # The answer to the last question is on its way.
        time.sleep(0.5)
    producer.shutdown()


def simple(arguments, configuration):
    consumer = SimpleConsumer(
        configuration, arguments.group, subscriptions(arguments), await_duration=5, tls_enable=arguments.tls
    )
    consumer.startup()
    progress = Progress(arguments)
    while not progress.over():
        try:
            messages = consumer.receive(32, arguments.invisible)
        except Exception as error:
            print("receive:", error, file=sys.stderr)
            time.sleep(0.2)
            continue
        for message in messages or []:
            progress.received(message)
            if not arguments.no_ack:
                try:
                    consumer.ack(message)
                except Exception as error:
                    print("ack:", error, file=sys.stderr)
    consumer.shutdown()


def push(arguments, configuration):
    progress = Progress(arguments)
    consumer = PushConsumer(
        configuration,
        arguments.group,
        listener(arguments, progress),
        subscriptions(arguments),
        tls_enable=arguments.tls,
    )
    consumer.startup()
    progress.wait()
    consumer.shutdown()


def lite(arguments, configuration):
    progress = Progress(arguments)
    consumer = LitePushConsumer(
        configuration,
        arguments.group,
        arguments.topic,
        listener(arguments, progress),
        tls_enable=arguments.tls,
    )
    consumer.startup()
    for lite_topic in arguments.lite.split(","):
        consumer.subscribe_lite(lite_topic)
    progress.wait()
    consumer.shutdown()


def listener(arguments, progress):
    class Listener(MessageListener):
        def consume(self, message):
            progress.received(message)
            fails = arguments.no_ack or message.delivery_attempt <= arguments.fail
            return ConsumeResult.FAILURE if fails else ConsumeResult.SUCCESS

    return Listener()


def subscriptions(arguments):
    if arguments.sql:
        return {arguments.topic: FilterExpression(arguments.sql, FilterType.SQL)}
    return {arguments.topic: FilterExpression(arguments.tag or "*")}


class Progress:
    """Prints each delivery and knows when the program has seen enough."""

    def __init__(self, arguments):
        self.count = arguments.count or float("inf")
        self.idle = arguments.idle_seconds
        self.seen = set()
        self.last = time.monotonic()
        self.changed = threading.Condition()

    def received(self, message):
        with self.changed:
            self.last = time.monotonic()
            self.seen.add(message.message_id)
            say(
                {
                    "received": message.message_id,
                    "body": message.body.decode(),
                    "attempt": message.delivery_attempt,
                    "tag": message.tag,
                }
            )
            self.changed.notify_all()

    def over(self):
        return len(self.seen) >= self.count or time.monotonic() >= self.last + self.idle

    def wait(self):
        with self.changed:
            while not self.over():
                self.changed.wait(self.last + self.idle - time.monotonic())


def say(line):
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
