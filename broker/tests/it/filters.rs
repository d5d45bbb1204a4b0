//! Conditions in SQL: what they take, what they skip, and what they are told when they are none.

use std::sync::Arc;
use std::time::Duration;

use proto::control::{DescribeGroupRequest, SubscriptionConflict, SubscriptionFilter};
use proto::v2::settings::PubSub;
use proto::v2::telemetry_command::Command;
use proto::v2::*;
use store::disk::MemoryDisk;
use tokio_stream::iter;

use crate::backlog::{pull, pulled};
use crate::house::page;
use crate::rig::*;

const OK: i32 = Code::Ok as i32;
const NOT_FOUND: i32 = Code::MessageNotFound as i32;

pub(crate) fn sql(expression: &str) -> Option<FilterExpression> {
    Some(FilterExpression { r#type: FilterType::Sql as i32, expression: expression.to_owned() })
}

fn with_properties(id: &str, properties: &[(&str, &str)]) -> Message {
    let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Message { user_properties: properties.collect(), ..message("orders", id) }
}

/// Five orders of different prices; the one without a price has a tag.
async fn send_orders(rig: &mut Rig) {
    rig.topic("orders", 1).await;
    let mut tagged = with_properties("tagged", &[]);
    tagged.system_properties.as_mut().unwrap().tag = Some("gift".to_owned());
    rig.send_ok(vec![
        with_properties("cheap", &[("price", "5"), ("region", "eu")]),
        with_properties("dear", &[("price", "500"), ("region", "eu")]),
        with_properties("odd", &[("price", "much"), ("region", "eu-west")]),
        tagged,
        with_properties("far", &[("price", "1e3"), ("region", "us")]),
    ])
    .await;
}

#[tokio::test]
async fn a_condition_takes_its_messages_and_skips_the_others_for_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    send_orders(&mut rig).await;
    rig.group("ordered", true, 16).await;
    for (place, (expression, expected)) in [
        ("price > 100", &["dear", "far"][..]),
        ("price BETWEEN 1 AND 500 AND region LIKE 'eu%'", &["cheap", "dear"]),
        ("NOT (price > 100)", &["cheap"]),
        ("price IS NULL OR TAGS = 'gift'", &["tagged"]),
        ("region IN ('us', 'eu-west') -- and no more", &["odd", "far"]),
        ("TRUE", &["cheap", "dear", "odd", "tagged", "far"]),
        ("FALSE", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let group = format!("g{place}");
        let polled = rig
            .poll(ReceiveMessageRequest { filter_expression: sql(expression), ..ask(&group, "orders") })
            .await;
        assert_eq!(ids(&polled.messages), expected, "{expression}");
        let rest = rig.poll(ask(&group, "orders")).await;
        assert_eq!(rest.status.code, NOT_FOUND, "{expression}: the others are gone for the group");
    }
    let ordered = ReceiveMessageRequest { filter_expression: sql("price > 100"), ..ask("ordered", "orders") };
    assert_eq!(ids(&rig.poll(ordered).await.messages), ["dear", "far"]);
}

#[tokio::test]
async fn what_a_long_condition_takes_is_found_behind_many_that_it_skips() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let many = (0..500).map(|n| with_properties(&format!("m{n}"), &[("price", "5")]));
    rig.send_ok(many.collect()).await;
    rig.send_ok(vec![with_properties("dear", &[("price", "500")])]).await;
    let parts: Vec<_> = (0..250).map(|n| format!("price = {}", 400 + n)).collect();
    let long = sql(&parts.join(" OR "));
    let wanted = ReceiveMessageRequest { filter_expression: long.clone(), ..ask("g", "orders") };
    assert_eq!(ids(&rig.poll(wanted).await.messages), ["dear"]);
    let time = Some(duration(Duration::from_secs(10)));
    let request =
        PullMessageRequest { filter_expression: long, long_polling_timeout: time, ..pull("orders", 0) };
    assert_eq!(pulled(&mut rig, request).await, (OK, vec!["dear".to_owned()], 501));
}

#[tokio::test]
async fn a_waiting_poll_goes_on_waiting_for_what_its_condition_takes() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let wanted = ReceiveMessageRequest { filter_expression: sql("price > 100"), ..ask("g", "orders") };
    let polls = rig.park(wanted).await;
    rig.send_ok(vec![with_properties("cheap", &[("price", "5")])]).await;
    rig.send_ok(vec![with_properties("dear", &[("price", "500")])]).await;
    assert_eq!(ids(&brought(polls).await.messages), ["dear"]);
    assert_eq!(rig.poll(ask("g", "orders")).await.status.code, NOT_FOUND);
}

#[tokio::test]
async fn old_messages_are_polled_and_pulled_by_a_condition_like_new_ones() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let start = async || {
        Rig::of(broker::start_on(config(folder.path()), Arc::new(disk.clone())).await.unwrap()).await
    };
    let mut rig = start().await;
    send_orders(&mut rig).await;
    let wanted = || PullMessageRequest { filter_expression: sql("price > 100"), ..pull("orders", 0) };
    let expected = (OK, vec!["dear".to_owned(), "far".to_owned()], 5);
    assert_eq!(pulled(&mut rig, wanted()).await, expected);
    rig.running.stop().await.unwrap();

    let mut rig = start().await;
    assert_eq!(pulled(&mut rig, wanted()).await, expected, "from the disk");
    let wanted = ReceiveMessageRequest { filter_expression: sql("price > 100"), ..ask("g", "orders") };
    assert_eq!(ids(&rig.poll(wanted).await.messages), ["dear", "far"]);
    let bad = PullMessageRequest { filter_expression: sql("price >"), ..pull("orders", 0) };
    assert_eq!(pulled(&mut rig, bad).await, (Code::IllegalFilterExpression as i32, vec![], -1));
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_mistake_in_a_condition_is_told_with_its_column_and_costs_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    send_orders(&mut rig).await;
    let wrong = ReceiveMessageRequest { filter_expression: sql("price == 5"), ..ask("g", "orders") };
    let polled = rig.poll(wrong).await;
    assert_eq!(polled.status.code, Code::IllegalFilterExpression as i32);
    assert_eq!(polled.status.message, "ILLEGAL_FILTER_EXPRESSION: column 7: there is no ==: write =");
    assert_eq!(rig.poll(ask("g", "orders")).await.messages.len(), 5);
}

/// The settings of a simple consumer that subscribes one topic.
pub(crate) fn settings(group: &str, topic: &str, expression: Option<FilterExpression>) -> TelemetryCommand {
    let subscriptions = vec![SubscriptionEntry { topic: resource(topic), expression }];
    let subscription = Subscription { group: resource(group), subscriptions, ..Subscription::default() };
    let settings = Settings { pub_sub: Some(PubSub::Subscription(subscription)), ..Settings::default() };
    TelemetryCommand { command: Some(Command::Settings(settings)), ..TelemetryCommand::default() }
}

#[tokio::test]
async fn settings_with_a_mistake_in_a_condition_end_their_stream_with_the_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let mut answer = async |expression: &str| {
        let commands = iter([settings("g", "orders", sql(expression))]);
        let mut stream = rig.client.telemetry(call(commands)).await.unwrap().into_inner();
        tokio::time::timeout(Duration::from_secs(20), stream.message()).await.unwrap()
    };
    let refused = answer("price > 'x'").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().starts_with("ILLEGAL_FILTER_EXPRESSION: column 9: "), "{}", refused.message());
    let accepted = answer("price > 5").await.unwrap().unwrap();
    assert_eq!(accepted.status.unwrap().code, OK);
}

/// A call of another client than the one of [`call`].
fn from<T>(client: &str, message: T) -> tonic::Request<T> {
    let mut request = call(message);
    request.metadata_mut().insert("x-mq-client-id", client.parse().unwrap());
    request
}

impl Rig {
    /// What a client gets with a filter.
    async fn polled_by(&mut self, client: &str, filter: Option<FilterExpression>) -> Vec<String> {
        let request = from(client, ReceiveMessageRequest { filter_expression: filter, ..ask("g", "orders") });
        let mut stream = self.client.receive_message(request).await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            if let Some(receive_message_response::Content::Message(message)) = response.content {
                found.push(id(&message).to_owned());
            }
        }
        found
    }

    async fn conflicts(&mut self) -> Vec<SubscriptionConflict> {
        let request = DescribeGroupRequest { name: "g".to_owned() };
        self.admin.describe_group(request).await.unwrap().into_inner().subscription_conflicts
    }
}

#[tokio::test]
async fn consumers_of_one_group_with_different_filters_are_served_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    send_orders(&mut rig).await;
    let gauge = "gantry_group_subscription_conflicts{consumer_group=\"g\"}";
    assert_eq!(rig.polled_by("first", sql("price>100")).await, ["dear", "far"]);
    assert!(rig.conflicts().await.is_empty());
    send_orders(&mut rig).await;
    assert_eq!(
        rig.polled_by("second", sql("(price > 100)")).await,
        ["dear", "far"],
        "the same, said otherwise"
    );
    assert!(rig.conflicts().await.is_empty());

    send_orders(&mut rig).await;
    let gifts = Some(FilterExpression { r#type: FilterType::Tag as i32, expression: "gift".to_owned() });
    assert_eq!(rig.polled_by("third", gifts).await, ["tagged"], "each is served by its own filter");
    assert!(rig.polled_by("first", sql("price > 100")).await.is_empty(), "what one skips is gone for all");
    let filter = |filter: &str, clients: &[&str]| SubscriptionFilter {
        filter: filter.to_owned(),
        client_ids: clients.iter().map(|client| (*client).to_owned()).collect(),
        clients: u32::try_from(clients.len()).unwrap(),
    };
    let filters = vec![filter("SQL price > 100", &["first", "second"]), filter("gift", &["third"])];
    assert_eq!(rig.conflicts().await, [SubscriptionConflict { topic: "orders".to_owned(), filters }]);
    let metrics = page(&rig, "/metrics").await;
    assert!(metrics.contains(&format!("{gauge} 1")), "{metrics}");

    let goodbye = from("third", NotifyClientTerminationRequest { group: resource("g") });
    rig.client.notify_client_termination(goodbye).await.unwrap();
    assert!(rig.conflicts().await.is_empty());
    assert!(!page(&rig, "/metrics").await.contains(gauge));

    let commands = iter([settings("g", "orders", None)]);
    let mut stream = rig.client.telemetry(from("fourth", commands)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let conflicts = rig.conflicts().await;
    let filters: Vec<_> = conflicts[0].filters.iter().map(|filter| filter.filter.as_str()).collect();
    assert_eq!(filters, ["*", "SQL price > 100"], "settings tell it before the first poll");
}
