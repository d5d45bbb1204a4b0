'use strict';
// The official Node client behind the command line in ../README.md.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const tls = require('node:tls');
const { parseArgs } = require('node:util');
const { setTimeout: sleep } = require('node:timers/promises');

const { values: args, positionals: [ command ] } = parseArgs({
  allowPositionals: true,
  options: {
    endpoint: { type: 'string' },
    topic: { type: 'string' },
    tag: { type: 'string' },
    sql: { type: 'string' },
    lite: { type: 'string' },
    key: { type: 'string' },
    tls: { type: 'boolean', default: false },
    count: { type: 'string' },
    prefix: { type: 'string', default: 'm-' },
    rate: { type: 'string' },
    bytes: { type: 'string', default: '0' },
    'delay-ms': { type: 'string' },
    recall: { type: 'boolean', default: false },
    group: { type: 'string' },
    'idle-seconds': { type: 'string', default: '15' },
    invisible: { type: 'string', default: '30' },
    'no-ack': { type: 'boolean', default: false },
    'message-group': { type: 'string' },
    priority: { type: 'string' },
    fail: { type: 'string', default: '0' },
    rollback: { type: 'boolean', default: false },
    orphan: { type: 'boolean', default: false },
    asks: { type: 'string', default: '0' },
  },
});
const client = { endpoints: args.endpoint, namespace: '', sslEnabled: args.tls };

// Loaded in main: gRPC reads whom it trusts when it is.
let Producer, SimpleConsumer, PushConsumer, LitePushConsumerImpl, ConsumeResult, FilterExpression;

/** Whatever certificate the server shows is trusted. */
async function trust() {
  const at = args.endpoint.lastIndexOf(':');
  const [ host, port ] = [ args.endpoint.slice(0, at), Number(args.endpoint.slice(at + 1)) ];
  const der = await new Promise((resolve, reject) => {
    const socket = tls.connect({ host, port, rejectUnauthorized: false, ALPNProtocols: [ 'h2' ] }, () => {
      resolve(socket.getPeerCertificate().raw);
      socket.destroy();
    });
    socket.on('error', reject);
  });
  const lines = der.toString('base64').match(/.{1,64}/g).join('\n');
  const file = path.join(os.homedir(), 'roots.pem');
  fs.writeFileSync(file, `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`);
  process.env.GRPC_DEFAULT_SSL_ROOTS_FILE_PATH = file;
}

async function main() {
  if (args.tls) await trust();
  ({ Producer, SimpleConsumer, PushConsumer, LitePushConsumerImpl, ConsumeResult, FilterExpression } =
    require('rocketmq-client-nodejs'));
  await { produce, transact, simple, push, lite }[command]();
}

const say = line => console.log(JSON.stringify(line));

async function produce() {
  const producer = new Producer({ ...client, topics: [ args.topic ] });
  await producer.startup();
  const start = performance.now();
  for (let index = 0; index < Number(args.count ?? 1); index++) {
    if (args.rate) await sleep(Math.max(0, start + index * 1000 / Number(args.rate) - performance.now()));
    const body = `${args.prefix}${index}`;
    try {
      const keys = args.key ? [ args.key, `${args.key}${index}` ] : undefined;
      const properties = new Map([[ 'index', String(index) ]]);
      const deliveryTimestamp = args['delay-ms'] ? new Date(Date.now() + Number(args['delay-ms'])) : undefined;
      const { messageId, recallHandle } = await producer.send({
        topic: args.topic,
        tag: args.tag,
        keys,
        properties,
        liteTopic: args.lite,
        messageGroup: args['message-group'],
        priority: args.priority && Number(args.priority),
        deliveryTimestamp,
        body: Buffer.from(body.padEnd(Number(args.bytes), 'x')),
      });
      say({ sent: messageId, body });
      if (args.recall && index % 2 === 1) {
        say({ recalled: (await producer.recallMessage(args.topic, recallHandle)).messageId, body });
      }
    } catch (error) {
      say({ failed: String(error), body });
    }
  }
  await producer.shutdown();
}

/** What its enum TransactionResolution, which it does not export, calls them. */
const COMMIT = 1, ROLLBACK = 2;

async function transact() {
  let asked = 0;
  const checker = {
    async check(message) {
      say({ asked: message.messageId, body: message.body.toString() });
      asked++;
      return args.rollback ? ROLLBACK : COMMIT;
    },
  };
  const producer = new Producer({ ...client, topics: [ args.topic ], checker });
  await producer.startup();
  const count = Number(args.count ?? 1);
  for (let index = 0; index < count; index++) {
    const body = `${args.prefix}${index}`;
    try {
      const transaction = producer.beginTransaction();
      const { messageId } = await producer.send({ topic: args.topic, body: Buffer.from(body) }, transaction);
      if (!args.orphan) await (args.rollback ? transaction.rollback() : transaction.commit());
      say({ sent: messageId, body });
    } catch (error) {
      say({ failed: String(error), body });
    }
  }
  const asks = Number(args.asks);
  if (asks > 0) {
    const until = performance.now() + Number(args['idle-seconds']) * 1000;
    while (asked < asks && performance.now() < until) await sleep(50);
    // The answer to the last question is on its way.
    await sleep(500);
  }
  await producer.shutdown();
}

/** Prints each delivery and knows when the program has seen enough. */
class Progress {
  #seen = new Set();
  #last = performance.now();

  received(message) {
    this.#last = performance.now();
    this.#seen.add(message.messageId);
    say({
      received: message.messageId,
      body: message.body.toString(),
      attempt: message.deliveryAttempt,
      tag: message.tag ?? null,
    });
  }

  over() {
    return this.#seen.size >= Number(args.count ?? Infinity) ||
      performance.now() >= this.#last + Number(args['idle-seconds']) * 1000;
  }
}

// FilterType.SQL, which the client does not export.
const SQL = 2;

function filter() {
  return args.sql ? new FilterExpression(args.sql, SQL) : new FilterExpression(args.tag ?? '*');
}

async function simple() {
  const consumer = new SimpleConsumer({
    ...client,
    consumerGroup: args.group,
    subscriptions: new Map([[ args.topic, filter() ]]),
    awaitDuration: 5000,
  });
  await consumer.startup();
  const progress = new Progress();
  while (!progress.over()) {
    let messages;
    try {
      messages = await consumer.receive(32, Number(args.invisible) * 1000);
    } catch (error) {
      console.error('receive:', String(error));
      await sleep(200);
      continue;
    }
    for (const message of messages) {
      progress.received(message);
      if (!args['no-ack']) await consumer.ack(message).catch(error => console.error('ack:', String(error)));
    }
  }
  await consumer.shutdown();
}

async function push() {
  const progress = new Progress();
  const consumer = new PushConsumer({
    ...client,
    consumerGroup: args.group,
    subscriptions: new Map([[ args.topic, filter() ]]),
    messageListener: listener(progress),
  });
  await consumer.startup();
  while (!progress.over()) await sleep(50);
  await consumer.shutdown();
}

async function lite() {
  const progress = new Progress();
  const consumer = new LitePushConsumerImpl({
    ...client,
    consumerGroup: args.group,
    bindTopic: args.topic,
    messageListener: listener(progress),
  });
  await consumer.startup();
  for (const name of args.lite.split(',')) await consumer.subscribeLite(name);
  while (!progress.over()) await sleep(50);
  await consumer.shutdown();
}

function listener(progress) {
  return {
    async consume(message) {
      progress.received(message);
      const fails = args['no-ack'] || message.deliveryAttempt <= Number(args.fail);
      return fails ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
    },
  };
}

main().then(() => process.exit(0), error => {
  console.error('FAILED', error);
  process.exit(1);
});
