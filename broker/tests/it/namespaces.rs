//! What is in one namespace is in no other.

use std::time::Duration;

use proto::v2::*;
use tonic::Request;

use crate::rig::*;

fn within(namespace: &str, name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: namespace.to_owned(), name: name.to_owned() })
}

/// A call whose resources say nothing of the namespace, as the consumers of the Node client make it.
fn from<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = call(message);
    request.metadata_mut().insert("x-mq-namespace", namespace.parse().unwrap());
    request
}

async fn polled(rig: &mut Rig, request: Request<ReceiveMessageRequest>) -> (Code, Vec<Message>) {
    let mut stream = rig.client.receive_message(request).await.unwrap().into_inner();
    let (mut code, mut messages) = (Code::Unspecified, Vec::new());
    while let Some(response) = stream.message().await.unwrap() {
        match response.content.unwrap() {
            receive_message_response::Content::Status(status) => code = status.code(),
            receive_message_response::Content::Message(message) => messages.push(message),
            receive_message_response::Content::DeliveryTimestamp(_) => {}
        }
    }
    (code, messages)
}

#[tokio::test]
async fn topics_and_groups_of_one_name_are_others_in_each_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    for topic in ["orders", "red%orders", "blue%orders"] {
        rig.topic(topic, 1).await;
    }
    for (namespace, id) in [("", "plain"), ("red", "of red")] {
        let mut sent = message("orders", id);
        sent.topic = within(namespace, "orders");
        rig.send_ok(vec![sent]).await;
    }
    let by_header = polled(&mut rig, from("red", ask("g", "orders"))).await;
    assert_eq!((by_header.0, ids(&by_header.1)), (Code::Ok, vec!["of red"]));
    assert_eq!(by_header.1[0].topic, resource("orders"), "as it was asked for");
    let handle = handle(&by_header.1[0]).to_owned();
    assert_eq!(rig.ack_code("g", "orders", &handle).await, Code::InvalidReceiptHandle as i32);
    let entry = AckMessageEntry { receipt_handle: handle, ..AckMessageEntry::default() };
    let ack =
        AckMessageRequest { group: within("red", "g"), topic: within("red", "orders"), entries: vec![entry] };
    let acked = rig.client.ack_message(call(ack)).await.unwrap().into_inner();
    assert_eq!(acked.status.unwrap().code(), Code::Ok);
    assert_eq!(polled(&mut rig, from("blue", ask("g", "orders"))).await.0, Code::MessageNotFound);
    assert_eq!(polled(&mut rig, from("green", ask("g", "orders"))).await.0, Code::TopicNotFound);
    assert_eq!(ids(&rig.poll(ask("g", "orders")).await.messages), ["plain"]);
    let mut both = ask("g", "orders");
    both.group = within("blue", "g");
    assert_eq!(polled(&mut rig, from("red", both)).await.0, Code::IllegalConsumerGroup);
}

#[tokio::test]
async fn dead_letters_of_a_group_are_in_its_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("red%orders", 1).await;
    rig.group("red%g", false, 17).await;
    let mut sent = message("orders", "m");
    sent.topic = within("red", "orders");
    rig.send_ok(vec![sent]).await;
    let (_, messages) = polled(&mut rig, from("red", ask("g", "orders"))).await;
    let forward = ForwardMessageToDeadLetterQueueRequest {
        group: within("red", "g"),
        topic: within("red", "orders"),
        receipt_handle: handle(&messages[0]).to_owned(),
        message_id: "m".to_owned(),
        delivery_attempt: 1,
        max_delivery_attempts: 1,
        lite_topic: None,
    };
    let forwarded =
        rig.client.forward_message_to_dead_letter_queue(call(forward)).await.unwrap().into_inner();
    assert_eq!(forwarded.status.unwrap().code(), Code::Ok);
    let waiting = waiting(ask("watch", "%DLQ%g"), Duration::from_secs(10));
    let (code, dead) = polled(&mut rig, from("red", waiting)).await;
    assert_eq!((code, ids(&dead)), (Code::Ok, vec!["m"]));
    let query = QueryRouteRequest { topic: within("red", "%DLQ%g"), endpoints: None };
    let route = rig.client.query_route(call(query)).await.unwrap().into_inner();
    assert_eq!(route.status.unwrap().code(), Code::Ok);
    assert_eq!(polled(&mut rig, call(ask("watch", "%DLQ%g"))).await.0, Code::TopicNotFound);
}
