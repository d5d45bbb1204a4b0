//! Clients that come by another listener than `internal` are told the addresses there.

use std::net::SocketAddr;
use std::time::Duration;

use access::ListenerName;
use access::listener::TlsMode;
use access::ports::Port;
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::*;

use crate::rig::*;

const LIMIT: Duration = Duration::from_secs(60);

/// The address that a client which comes here is told, if any.
pub(crate) async fn told_at(addr: SocketAddr, topic: &str) -> Option<String> {
    let mut client = MessagingServiceClient::connect(format!("http://{addr}")).await.ok()?;
    let query = QueryRouteRequest { topic: resource(topic), endpoints: None };
    let answer = client.query_route(call(query)).await.ok()?.into_inner();
    let broker = answer.message_queues.into_iter().next()?.broker?;
    let Address { host, port } = broker.endpoints?.addresses.into_iter().next()?;
    Some(format!("{host}:{port}"))
}

/// Waits until it is this one.
pub(crate) async fn until_told(addr: SocketAddr, topic: &str, expected: Option<&str>) {
    let asking = async {
        while told_at(addr, topic).await.as_deref() != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(LIMIT, asking).await;
    if found.is_err() {
        panic!("{:?} is told, {expected:?} is right", told_at(addr, topic).await);
    }
}

#[tokio::test]
async fn a_listener_tells_the_address_of_its_file_and_follows_its_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("listeners.yaml");
    std::fs::write(&file, "external: ['']").unwrap();
    let external = ListenerName::parse("external").unwrap();
    let mut config = config(folder.path());
    config.listeners =
        vec![Port { name: external.clone(), listen: config.client_listen, tls: Some(TlsMode::Off) }];
    config.listener_addresses = Some(file.clone());
    config.node_address = Some("192.0.2.9".to_owned());
    let mut rig = Rig::start_with(config).await;
    rig.topic("orders", 1).await;
    let (inside, outside) = (rig.running.client_addr, rig.running.listeners[&external]);

    assert_eq!(told_at(inside, "orders").await, Some(inside.to_string()));
    assert_eq!(told_at(outside, "orders").await, None, "an address that is not known yet is not told");
    std::fs::write(&file, "external: ['{node}:30081']").unwrap();
    until_told(outside, "orders", Some("192.0.2.9:30081")).await;
    std::fs::write(&file, "external: ['broker.example.org:443']").unwrap();
    until_told(outside, "orders", Some("broker.example.org:443")).await;
    std::fs::write(&file, "external: wrong").unwrap();
    assert_eq!(told_at(inside, "orders").await, Some(inside.to_string()));

    // Messages go and come by each.
    let mut client = MessagingServiceClient::connect(format!("http://{outside}")).await.unwrap();
    let messages = vec![message("orders", "a")];
    let sent = client.send_message(call(SendMessageRequest { messages })).await.unwrap().into_inner();
    assert_eq!(sent.status.unwrap().code, Code::Ok as i32);
    assert_eq!(poll(&mut client, ask("g", "orders")).await.messages.len(), 1);
    rig.running.stop().await.unwrap();
}
