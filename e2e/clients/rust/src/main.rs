//! The official Rust client behind the command line in `../README.md`. It has no push consumer, and it logs to
//! standard output, between our lines.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::error::Error;
use std::time::{Duration, Instant};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use rocketmq::model::transaction::{Transaction, TransactionResolution};
use rocketmq::{Producer, SimpleConsumer};

struct Arguments {
    command: String,
    rest: Vec<String>,
}

impl Arguments {
    fn flag(&self, name: &str) -> bool {
        self.rest.iter().any(|word| word == name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let at = self.rest.iter().position(|word| word == name)?;
        self.rest.get(at + 1).map(String::as_str)
    }

    fn needed(&self, name: &str) -> Result<&str, Box<dyn Error>> {
        self.text(name)
            .ok_or_else(|| format!("{name} is missing").into())
    }

    fn number(&self, name: &str, default: f64) -> Result<f64, Box<dyn Error>> {
        match self.text(name) {
            Some(text) => Ok(text.parse()?),
            None => Ok(default),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let arguments = Arguments {
        command: words.next().unwrap_or_default(),
        rest: words.collect(),
    };
    match arguments.command.as_str() {
        "produce" => produce(&arguments).await,
        "transact" => transact(&arguments).await,
        "simple" => simple(&arguments).await,
        "push" => Err("the Rust client has no push consumer".into()),
        other => Err(format!("produce, transact, simple or push, not {other:?}").into()),
    }
}

fn client(arguments: &Arguments) -> Result<ClientOption, Box<dyn Error>> {
    let mut option = ClientOption::default();
    option.set_access_url(arguments.needed("--endpoint")?);
    option.set_enable_tls(arguments.flag("--tls"));
    option.set_long_polling_timeout(Duration::from_secs(8));
    Ok(option)
}

async fn produce(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let topic = arguments.needed("--topic")?;
    let prefix = arguments.text("--prefix").unwrap_or("m-");
    let count = arguments.number("--count", 1.0)? as u64;
    let rate = arguments.number("--rate", 0.0)?;
    let padded = arguments.number("--bytes", 0.0)? as usize;
    let mut option = ProducerOption::default();
    option.set_topics(vec![topic]);
    let mut producer = Producer::new(option, client(arguments)?)?;
    producer.start().await?;
    let start = Instant::now();
    for index in 0..count {
        if rate > 0.0 {
            let due = start + Duration::from_secs_f64(index as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        let body = format!("{prefix}{index}");
        let mut bytes = body.clone().into_bytes();
        bytes.resize(bytes.len().max(padded), b'x');
        let mut message = MessageBuilder::builder()
            .set_topic(topic)
            .set_body(bytes);
        if let Some(tag) = arguments.text("--tag") {
            message = message.set_tag(tag);
        }
        if let Some(group) = arguments.text("--message-group") {
            message = message.set_message_group(group);
        }
        match producer.send(message.build()?).await {
            Ok(receipt) => println!(
                "{{\"sent\":{:?},\"body\":{body:?}}}",
                receipt.message_id()
            ),
            Err(error) => println!(
                "{{\"failed\":{:?},\"body\":{body:?}}}",
                one_line(&error.to_string())
            ),
        }
    }
    producer.shutdown().await?;
    Ok(())
}

async fn transact(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let topic = arguments.needed("--topic")?;
    let prefix = arguments.text("--prefix").unwrap_or("m-");
    let count = arguments.number("--count", 1.0)? as u64;
    let (rollback, orphan) = (arguments.flag("--rollback"), arguments.flag("--orphan"));
    let mut option = ProducerOption::default();
    option.set_topics(vec![topic]);
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    let checker = move |_, message: rocketmq::model::message::MessageView| {
        let body = String::from_utf8_lossy(message.body()).into_owned();
        println!(
            "{{\"asked\":{:?},\"body\":{body:?}}}",
            message.message_id()
        );
        let _ = asked.send(());
        match rollback {
            true => TransactionResolution::ROLLBACK,
            false => TransactionResolution::COMMIT,
        }
    };
    let mut producer =
        Producer::new_transaction_producer(option, client(arguments)?, Box::new(checker))?;
    producer.start().await?;
    for index in 0..count {
        let body = format!("{prefix}{index}");
        let message =
            MessageBuilder::transaction_message_builder(topic, body.clone().into_bytes()).build()?;
        let ended = async {
            let transaction = producer.send_transaction_message(message).await?;
            let id = transaction.message_id().to_string();
            match (orphan, rollback) {
                (true, _) => {}
                (false, true) => transaction.rollback().await?,
                (false, false) => transaction.commit().await?,
            }
            Ok::<_, rocketmq::error::ClientError>(id)
        };
        match ended.await {
            Ok(id) => println!("{{\"sent\":{id:?},\"body\":{body:?}}}"),
            Err(error) => println!(
                "{{\"failed\":{:?},\"body\":{body:?}}}",
                one_line(&error.to_string())
            ),
        }
    }
    let asks = arguments.number("--asks", 0.0)? as u64;
    if asks > 0 {
        let idle = Duration::from_secs_f64(arguments.number("--idle-seconds", 15.0)?);
        for _ in 0..asks {
            let _ = tokio::time::timeout(idle, questions.recv()).await;
        }
        // The answer to the last question is on its way.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    producer.shutdown().await?;
    Ok(())
}

async fn simple(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let topic = arguments.needed("--topic")?;
    let count = arguments.number("--count", f64::INFINITY)?;
    let idle = Duration::from_secs_f64(arguments.number("--idle-seconds", 15.0)?);
    let invisible = Duration::from_secs_f64(arguments.number("--invisible", 30.0)?);
    let filter = FilterExpression::new(FilterType::Tag, arguments.text("--tag").unwrap_or("*"));
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![topic]);
    option.set_consumer_group(arguments.needed("--group")?);
    let mut consumer = SimpleConsumer::new(option, client(arguments)?)?;
    consumer.start().await?;
    let mut seen = HashSet::new();
    let mut last = Instant::now();
    while (seen.len() as f64) < count && last.elapsed() < idle {
        let messages = match consumer.receive_with(topic, &filter, 32, invisible).await {
            Ok(messages) => messages,
            Err(error) => {
                eprintln!("receive: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        for message in messages {
            last = Instant::now();
            seen.insert(message.message_id().to_string());
            let body = String::from_utf8_lossy(message.body()).into_owned();
            let tag = message
                .tag()
                .map_or("null".to_string(), |tag| format!("{tag:?}"));
            println!(
                "{{\"received\":{:?},\"body\":{body:?},\"attempt\":{},\"tag\":{tag}}}",
                message.message_id(),
                message.delivery_attempt()
            );
            if !arguments.flag("--no-ack") {
                if let Err(error) = consumer.ack(&message).await {
                    eprintln!("ack: {error}");
                }
            }
        }
    }
    consumer.shutdown().await?;
    Ok(())
}

/// Rust's own quoting is JSON's as long as nothing but quotes and backslashes needs it.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                ' '
            }
        })
        .collect()
}
