//! Sending, receiving, acknowledging, and what happens when it is not acknowledged.

use std::time::Duration;

use proto::control;
use proto::v2::*;

use crate::rig::*;

#[tokio::test]
async fn a_message_comes_back_as_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 4).await;
    let mut sent = message("orders", "01AB");
    sent.system_properties.as_mut().unwrap().tag = Some("paid".to_owned());
    sent.system_properties.as_mut().unwrap().keys = vec!["k1".to_owned(), "k2".to_owned()];
    sent.system_properties.as_mut().unwrap().born_host = "laptop".to_owned();
    sent.system_properties.as_mut().unwrap().trace_context = Some("00-abc".to_owned());
    sent.user_properties.insert("size".to_owned(), String::new());
    let entries = rig.send_ok(vec![sent]).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].message_id, "01AB");
    assert_eq!(entries[0].transaction_id, "01AB");
    assert_eq!(entries[0].status.as_ref().unwrap().code, Code::Ok as i32);

    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(polled.order, "smt");
    assert_eq!(polled.status.code, Code::Ok as i32);
    let message = &polled.messages[0];
    assert_eq!(message.topic, resource("orders"));
    assert_eq!(&message.body[..], b"body of 01AB");
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(message.user_properties, [own("colour", "blue"), own("size", "")].into());
    let system = system(message);
    assert_eq!(system.message_id, "01AB");
    assert_eq!(system.tag.as_deref(), Some("paid"));
    assert_eq!(system.keys, ["k1", "k2"]);
    assert_eq!(system.born_host, "laptop");
    assert_eq!(system.trace_context.as_deref(), Some("00-abc"));
    assert_eq!(system.body_encoding, Encoding::Identity as i32);
    assert_eq!(system.message_type, MessageType::Normal as i32);
    assert_eq!(system.delivery_attempt, Some(1));
    assert_eq!(system.queue_offset, Some(0));
    assert_eq!(system.message_group, None);
    assert!(system.born_timestamp.is_some() && system.store_timestamp.is_some());
    let digest = system.body_digest.as_ref().unwrap();
    assert_eq!((digest.r#type(), digest.checksum.as_str()), (DigestType::Crc32, "C74A3365"));

    assert_eq!(rig.ack_code("g", "orders", handle(message)).await, Code::Ok as i32);
    let again = rig.poll(ask("g", "orders")).await;
    assert_eq!((again.status.code, again.order.as_str()), (Code::MessageNotFound as i32, "st"));
}

#[tokio::test]
async fn a_request_with_several_messages_has_an_entry_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 4).await;
    let sent: Vec<_> = (0..10).map(|n| message("orders", &format!("m{n}"))).collect();
    let entries = rig.send_ok(sent).await;
    let answered: Vec<_> = entries.iter().map(|entry| entry.message_id.as_str()).collect();
    assert_eq!(answered, ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"]);
    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(ids(&polled.messages), answered, "together, in order");
}

#[tokio::test]
async fn every_queue_is_read_whichever_queue_the_poll_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 8).await;
    for n in 0..8 {
        rig.send_ok(vec![message("orders", &format!("m{n}"))]).await;
    }
    let mut request = ask("g", "orders");
    request.message_queue.as_mut().unwrap().id = -1;
    let polled = rig.poll(request).await;
    let mut found = ids(&polled.messages);
    found.sort_unstable();
    assert_eq!(found, ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"]);
}

#[tokio::test]
async fn groups_consume_independently_and_a_new_one_starts_at_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a"), message("orders", "b")]).await;
    for group in ["g1", "g2"] {
        let polled = rig.poll(ask(group, "orders")).await;
        assert_eq!(ids(&polled.messages), ["a", "b"], "{group}");
        let none = rig.poll(ask(group, "orders")).await;
        assert_eq!(none.status.code, Code::MessageNotFound as i32, "what is invisible is not delivered");
    }
}

#[tokio::test]
async fn a_tag_filter_takes_its_tags_and_skips_the_others_for_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    // The first two have the same hash in the consume queue.
    for (id, tag) in [("m1", Some("Aa")), ("m2", Some("BB")), ("m3", None), ("m4", Some("x"))] {
        let mut message = message("orders", id);
        message.system_properties.as_mut().unwrap().tag = tag.map(str::to_owned);
        rig.send_ok(vec![message]).await;
    }
    let mut request = ask("g", "orders");
    request.filter_expression =
        Some(FilterExpression { r#type: FilterType::Tag as i32, expression: "Aa || x".to_owned() });
    let polled = rig.poll(request).await;
    assert_eq!(ids(&polled.messages), ["m1", "m4"]);
    assert_eq!(rig.poll(ask("g", "orders")).await.status.code, Code::MessageNotFound as i32);
}

#[tokio::test]
async fn a_message_given_back_is_delivered_again_with_the_next_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    for expected in 1..=3 {
        let polled = rig.poll(ask("g", "orders")).await;
        assert_eq!(attempt(&polled.messages[0]), expected);
        let changed = rig.change("g", "orders", handle(&polled.messages[0]), Duration::ZERO).await;
        assert_eq!(changed.status.unwrap().code, Code::Ok as i32);
        assert_ne!(changed.receipt_handle, handle(&polled.messages[0]));
    }
}

#[tokio::test]
async fn after_a_change_only_the_new_handle_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let polled = rig.poll(ask("g", "orders")).await;
    let old = handle(&polled.messages[0]).to_owned();
    let new = rig.change("g", "orders", &old, Duration::from_secs(60)).await.receipt_handle;
    let response = rig.ack("g", "orders", &[&old, &new]).await;
    let codes: Vec<_> = response.entries.iter().map(|entry| entry.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [Code::InvalidReceiptHandle as i32, Code::Ok as i32]);
    assert_eq!(response.status.unwrap().code, Code::MultipleResults as i32);
    assert_eq!(rig.ack_code("g", "orders", &old).await, Code::InvalidReceiptHandle as i32, "also afterwards");
    assert_eq!(rig.ack_code("g", "orders", &new).await, Code::Ok as i32, "acknowledging again is no mistake");
}

#[tokio::test]
async fn a_message_that_fails_too_often_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.group("g", false, 2).await;
    rig.send_ok(vec![message("orders", "a"), message("orders", "b")]).await;
    for _ in 0..2 {
        for message in rig.poll(ask("g", "orders")).await.messages {
            rig.change("g", "orders", handle(&message), Duration::ZERO).await;
        }
    }
    let none = rig.poll(ask("g", "orders")).await;
    assert_eq!(none.status.code, Code::MessageNotFound as i32, "neither a third time");
    let dead = waiting(ask("undertaker", "%DLQ%g"), Duration::from_secs(10));
    let mut found = Vec::new();
    while found.len() < 2 {
        let polled = rig.poll(dead.clone()).await;
        // The topic comes with the first dead letter.
        if polled.status.code != Code::TopicNotFound as i32 {
            assert_eq!(polled.status.code, Code::Ok as i32);
        }
        found.extend(polled.messages);
    }
    assert_eq!(ids(&found), ["a", "b"]);
    assert_eq!(&found[0].body[..], b"body of a");
    assert_eq!(
        system(&found[0]).dead_letter_queue,
        Some(DeadLetterQueue { topic: "orders".to_owned(), message_id: "a".to_owned() })
    );
}

#[tokio::test]
async fn a_client_that_gives_a_message_up_finds_it_among_the_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.group("g", true, 5).await;
    rig.send_ok(vec![in_group("orders", "a", "x"), in_group("orders", "b", "x")]).await;
    let polled = rig.poll(ask("g", "orders")).await;
    let forward = |message: &Message, receipt_handle: &str| ForwardMessageToDeadLetterQueueRequest {
        group: resource("g"),
        topic: resource("orders"),
        receipt_handle: receipt_handle.to_owned(),
        message_id: id(message).to_owned(),
        delivery_attempt: 1,
        max_delivery_attempts: 1,
        lite_topic: None,
    };
    // Twice with a handle, since clients repeat it until it works; once without, as C++ does.
    let first = &polled.messages[0];
    for request in [
        forward(first, handle(first)),
        forward(first, handle(first)),
        forward(&polled.messages[1], ""),
        forward(&polled.messages[1], ""),
    ] {
        let response =
            rig.client.forward_message_to_dead_letter_queue(call(request)).await.unwrap().into_inner();
        assert_eq!(response.status.unwrap().code, Code::Ok as i32);
    }
    let dead = rig.poll(ask("undertaker", "%DLQ%g")).await;
    assert_eq!(ids(&dead.messages), ["a", "b"], "each once");
}

#[tokio::test]
async fn a_message_group_waits_for_its_first_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic_of("orders", 4, control::MessageType::Fifo).await;
    rig.group("g", true, 5).await;
    for n in 0..3 {
        rig.send_ok(vec![
            in_group("orders", &format!("x{n}"), "x"),
            in_group("orders", &format!("y{n}"), "y"),
        ])
        .await;
    }
    let one = ReceiveMessageRequest { batch_size: 1, ..ask("g", "orders") };
    let mut seen = Vec::new();
    let first = rig.poll(one.clone()).await.messages.remove(0);
    let second = rig.poll(one.clone()).await.messages.remove(0);
    assert_ne!(id(&first)[..1], id(&second)[..1], "the other message group is not held up");
    assert!(rig.poll(one.clone()).await.messages.is_empty(), "both message groups wait");
    for message in [first, second] {
        rig.ack("g", "orders", &[handle(&message)]).await;
        seen.push(id(&message).to_owned());
    }
    while let Some(message) = rig.poll(one.clone()).await.messages.pop() {
        rig.ack("g", "orders", &[handle(&message)]).await;
        seen.push(id(&message).to_owned());
    }
    for group in ["x", "y"] {
        let order: Vec<_> = seen.iter().filter(|id| id.starts_with(group)).map(|id| &id[1..]).collect();
        assert_eq!(order, ["0", "1", "2"], "{seen:?}");
    }
}

#[tokio::test]
async fn a_poll_with_the_same_attempt_id_gets_its_messages_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.group("g", true, 5).await;
    rig.send_ok(vec![in_group("orders", "a", "x"), in_group("orders", "b", "x")]).await;
    let named = |id: &str| ReceiveMessageRequest { attempt_id: Some(id.to_owned()), ..ask("g", "orders") };
    let lost = rig.poll(named("poll-1")).await;
    assert_eq!(ids(&lost.messages), ["a", "b"]);
    assert!(rig.poll(named("poll-2")).await.messages.is_empty(), "another poll is held up");
    let again = rig.poll(named("poll-1")).await;
    assert_eq!(ids(&again.messages), ["a", "b"]);
    assert_eq!(attempt(&again.messages[0]), 1);
    assert_eq!(rig.ack_code("g", "orders", handle(&lost.messages[0])).await, Code::Ok as i32);
    assert_eq!(ids(&rig.poll(named("poll-1")).await.messages), ["b"]);
}

#[tokio::test]
async fn a_long_poll_is_woken_by_the_message_that_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 4).await;
    let mut polls = Vec::new();
    for _ in 0..4 {
        polls.push(rig.park(ReceiveMessageRequest { batch_size: 1, ..ask("g", "orders") }).await);
    }
    let sent = (0..4).map(|n| message("orders", &format!("m{n}"))).collect();
    rig.send_ok(sent).await;
    let mut found: Vec<String> = Vec::new();
    for poll in polls {
        found.extend(brought(poll).await.messages.iter().map(|message| id(message).to_owned()));
    }
    found.sort_unstable();
    assert_eq!(found, ["m0", "m1", "m2", "m3"], "each poll got one");
}

#[tokio::test]
async fn a_long_poll_is_woken_by_a_message_that_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let polled = rig.poll(ask("g", "orders")).await;
    let waiter = rig.park(ask("g", "orders")).await;
    rig.change("g", "orders", handle(&polled.messages[0]), Duration::from_millis(200)).await;
    let again = brought(waiter).await;
    assert_eq!(ids(&again.messages), ["a"]);
    assert_eq!(attempt(&again.messages[0]), 2);
}

#[tokio::test]
async fn messages_can_be_pulled_by_offset_and_progress_can_be_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let sent = (0..5).map(|n| message("orders", &format!("m{n}"))).collect();
    rig.send_ok(sent).await;
    let queue = || Some(MessageQueue { topic: resource("orders"), ..MessageQueue::default() });

    let request = PullMessageRequest {
        group: resource("g"),
        message_queue: queue(),
        offset: 3,
        batch_size: 32,
        filter_expression: None,
        long_polling_timeout: None,
    };
    let mut stream = rig.client.pull_message(call(request)).await.unwrap().into_inner();
    let mut pulled = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        pulled.push(match response.content.unwrap() {
            pull_message_response::Content::Status(status) => status.code.to_string(),
            pull_message_response::Content::Message(message) => id(&message).to_owned(),
            pull_message_response::Content::NextOffset(next) => next.to_string(),
        });
    }
    assert_eq!(pulled, ["20000", "m3", "m4", "5"]);

    let get = GetOffsetRequest { group: resource("g"), message_queue: queue() };
    let unknown = rig.client.get_offset(call(get.clone())).await.unwrap().into_inner();
    assert_eq!(unknown.status.unwrap().code, Code::OffsetNotFound as i32);

    for (offset, code) in [(4, Code::Ok), (6, Code::IllegalOffset), (-1, Code::IllegalOffset)] {
        let update = UpdateOffsetRequest { group: resource("g"), message_queue: queue(), offset };
        let updated = rig.client.update_offset(call(update)).await.unwrap().into_inner();
        assert_eq!(updated.status.unwrap().code, code as i32, "{offset}");
    }
    assert_eq!(rig.client.get_offset(call(get)).await.unwrap().into_inner().offset, 4);
    assert_eq!(ids(&rig.poll(ask("g", "orders")).await.messages), ["m4"]);

    for (policy, expected) in [(QueryOffsetPolicy::Beginning, 0), (QueryOffsetPolicy::End, 5)] {
        let query = QueryOffsetRequest {
            message_queue: queue(),
            query_offset_policy: policy as i32,
            timestamp: None,
        };
        assert_eq!(rig.client.query_offset(call(query)).await.unwrap().into_inner().offset, expected);
    }
}

#[tokio::test]
async fn what_is_more_urgent_is_delivered_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic_of("alarms", 3, control::MessageType::Priority).await;
    let urgent = |id: &str, priority: i32| {
        let mut message = message("alarms", id);
        message.system_properties.as_mut().unwrap().priority = Some(priority);
        message
    };
    for (id, priority) in [("low", 0), ("high", 2), ("middle", 1), ("low-2", 0), ("beyond", 7)] {
        rig.send_ok(vec![urgent(id, priority)]).await;
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        let polled = rig.poll(ReceiveMessageRequest { batch_size: 1, ..ask("g", "alarms") }).await;
        let message = &polled.messages[0];
        assert_eq!(system(message).message_type, MessageType::Priority as i32);
        order.push((id(message).to_owned(), system(message).priority.unwrap()));
    }
    let order: Vec<_> = order.iter().map(|(id, priority)| (id.as_str(), *priority)).collect();
    assert_eq!(order, [("high", 2), ("beyond", 7), ("middle", 1), ("low", 0), ("low-2", 0)]);
    let negative = rig.send(vec![urgent("negative", -1)]).await.status.unwrap();
    assert_eq!(negative.code, Code::BadRequest as i32, "{}", negative.message);
}
