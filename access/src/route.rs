//! Routes as clients want them: which queues of a topic a broker offers, and to whom.
//!
//! Clients differ in what they look at, so the answer is strict in all of it:
//!
//! - Only primaries are listed, and only queues that can be used: Go and Rust send to whatever is listed.
//! - Queues count from 0 in each broker, those to read and write first: Node uses queue 0 of each broker only.
//! - Endpoints have the scheme of their addresses: Python cannot dial others, Java throws.
//! - The types of messages are never unspecified: Java throws.
//! - The resource that was asked for comes back as it was.
//! - No usable queue is `TOPIC_NOT_FOUND`, never an empty list: Rust divides by its length.

use std::net::IpAddr;

use proto::control;
use proto::v2::{
    self, AddressScheme, Assignment, Code, MessageQueue, MessageType, Permission, QueryAssignmentResponse,
    QueryRouteResponse, Resource,
};

use crate::client::ClientIdentity;
use crate::names::TopicName;
use crate::ports::ListenerName;
use crate::status;

/// The most queues of a topic in one broker.
pub const MAX_QUEUES: u32 = 1024;

/// The queues of `topic` in `broker`, ids from 0, those to read and write first.
pub fn queues(asked: &Resource, broker: &v2::Broker, topic: &control::TopicConfig) -> Vec<MessageQueue> {
    let (read, write) = usable(topic);
    let accepted = accepted_types(topic.message_type());
    (0..read.max(write))
        .map(|id| MessageQueue {
            topic: Some(asked.clone()),
            id: id as i32,
            permission: permission(id < read, id < write) as i32,
            broker: Some(broker.clone()),
            accept_message_types: accepted.clone(),
        })
        .collect()
}

/// What a consumer of `topic` polls in `broker`: all queues under the id -1, or, where messages are
/// consumed in order, each readable one.
pub fn assignments(
    asked: &Resource,
    broker: &v2::Broker,
    topic: &control::TopicConfig,
    ordered: bool,
) -> Vec<Assignment> {
    let (read, write) = usable(topic);
    let ids = match (read, ordered) {
        (0, _) => 0..0,
        (_, false) => -1..0,
        (_, true) => 0..read as i32,
    };
    ids.map(|id| Assignment {
        message_queue: Some(MessageQueue {
            topic: Some(asked.clone()),
            id,
            permission: permission(true, write > 0) as i32,
            broker: Some(broker.clone()),
            accept_message_types: Vec::new(),
        }),
    })
    .collect()
}

/// The answer to QueryRoute: `queues`, or why there are none. `hidden_at`: brokers have the topic, and no address at this
/// listener, by which the client came.
pub fn route_answer(
    client: &ClientIdentity,
    topic: &TopicName,
    queues: Vec<MessageQueue>,
    hidden_at: Option<&ListenerName>,
) -> QueryRouteResponse {
    let status = match (queues.is_empty(), hidden_at) {
        (false, _) => status::ok(),
        (true, None) => no_topic(client, topic),
        (true, Some(listener)) => no_address(client, topic, listener),
    };
    QueryRouteResponse { status: Some(status), message_queues: queues }
}

/// The answer to QueryAssignment. `exists`: some broker has the topic where the client came by, readable or not.
pub fn assignment_answer(
    client: &ClientIdentity,
    topic: &TopicName,
    exists: bool,
    assignments: Vec<Assignment>,
    hidden_at: Option<&ListenerName>,
) -> QueryAssignmentResponse {
    let status = match (assignments.is_empty(), exists, hidden_at) {
        (false, _, _) => status::ok(),
        (true, false, None) => no_topic(client, topic),
        (true, false, Some(listener)) => no_address(client, topic, listener),
        (true, true, _) => {
            let sentence = format!("no readable queue: give the topic {topic} the permission to read");
            status::for_client(client, Code::Forbidden, &sentence)
        }
    };
    QueryAssignmentResponse { status: Some(status), assignments }
}

/// For a topic that no broker has, or none that may be used.
pub fn no_topic(client: &ClientIdentity, topic: &TopicName) -> v2::Status {
    let sentence = format!("no broker offers the topic {topic}: create it, or check its name and permission");
    status::for_client(client, Code::TopicNotFound, &sentence)
}

/// For a topic whose brokers have no address where the client came by.
fn no_address(client: &ClientIdentity, topic: &TopicName, listener: &ListenerName) -> v2::Status {
    let sentence = format!(
        "brokers have the topic {topic}, but no address at the listener {listener}: add the listener to their \
         BrokerGroup; if it is there, its status.endpoints tells whether the address is known yet"
    );
    status::for_client(client, Code::TopicNotFound, &sentence)
}

/// How many queues can be read and how many written.
fn usable(topic: &control::TopicConfig) -> (u32, u32) {
    let count = |allowed: bool, queues: u32| if allowed { queues.min(MAX_QUEUES) } else { 0 };
    (count(topic.readable, topic.read_queues), count(topic.writable, topic.write_queues))
}

fn permission(read: bool, write: bool) -> Permission {
    match (read, write) {
        (true, true) => Permission::ReadWrite,
        (true, false) => Permission::Read,
        (false, true) => Permission::Write,
        (false, false) => Permission::None,
    }
}

fn accepted_types(of_topic: control::MessageType) -> Vec<i32> {
    let types: &[MessageType] = match of_topic {
        control::MessageType::Unspecified | control::MessageType::Normal => &[MessageType::Normal],
        control::MessageType::Fifo => &[MessageType::Fifo],
        control::MessageType::Delay => &[MessageType::Delay],
        control::MessageType::Transaction => &[MessageType::Transaction],
        control::MessageType::Lite => &[MessageType::Lite],
        control::MessageType::Priority => &[MessageType::Priority],
        control::MessageType::Mixed => {
            &[MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction]
        }
    };
    types.iter().map(|kind| *kind as i32).collect()
}

/// One address, with the scheme that `host` has.
pub fn endpoints(host: &str, port: u16) -> control::Endpoints {
    control::Endpoints {
        scheme: scheme_of(host) as i32,
        addresses: vec![control::Address { host: host.to_owned(), port: u32::from(port) }],
    }
}

/// Endpoints that a broker reported, as clients get them; the sentence says what is wrong with them.
pub fn endpoints_for_clients(reported: &control::Endpoints) -> Result<v2::Endpoints, String> {
    let Some(first) = reported.addresses.first() else {
        return Err("the endpoints have no address: give one".to_owned());
    };
    let scheme = scheme_of(&first.host);
    if reported.scheme() != scheme {
        return Err(format!(
            "the endpoints say {} and their address is {}: make them agree",
            reported.scheme().as_str_name(),
            first.host
        ));
    }
    if scheme == control::AddressScheme::DomainName && reported.addresses.len() > 1 {
        return Err("endpoints of a domain name take one address: Java, Python and C# refuse more".to_owned());
    }
    let mut addresses = Vec::with_capacity(reported.addresses.len());
    for address in &reported.addresses {
        if address.host.is_empty() || scheme_of(&address.host) != scheme {
            return Err(format!(
                "the address {:?} is not of the kind of {}: separate them",
                address.host, first.host
            ));
        }
        if !(1..=65_535).contains(&address.port) {
            return Err(format!("the port of {} is {}: use 1 to 65535", address.host, address.port));
        }
        addresses.push(v2::Address { host: address.host.clone(), port: address.port as i32 });
    }
    let scheme = match scheme {
        control::AddressScheme::Ipv4 => AddressScheme::IPv4,
        control::AddressScheme::Ipv6 => AddressScheme::IPv6,
        control::AddressScheme::DomainName | control::AddressScheme::Unspecified => AddressScheme::DomainName,
    };
    Ok(v2::Endpoints { scheme: scheme as i32, addresses })
}

fn scheme_of(host: &str) -> control::AddressScheme {
    match host.parse() {
        Ok(IpAddr::V4(_)) => control::AddressScheme::Ipv4,
        Ok(IpAddr::V6(_)) => control::AddressScheme::Ipv6,
        Err(_) => control::AddressScheme::DomainName,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked() -> Resource {
        Resource { resource_namespace: "team".to_owned(), name: "orders".to_owned() }
    }

    fn broker() -> v2::Broker {
        let endpoints = endpoints_for_clients(&endpoints("10.0.0.1", 8081)).unwrap();
        v2::Broker { name: "a".to_owned(), id: 0, endpoints: Some(endpoints) }
    }

    fn topic(read_queues: u32, write_queues: u32, readable: bool, writable: bool) -> control::TopicConfig {
        control::TopicConfig { read_queues, write_queues, readable, writable, ..Default::default() }
    }

    #[test]
    fn queues_count_from_zero_and_those_to_read_and_write_come_first() {
        let check = |topic: control::TopicConfig, expected: &[Permission]| {
            let queues = queues(&asked(), &broker(), &topic);
            let ids: Vec<i32> = queues.iter().map(|queue| queue.id).collect();
            assert_eq!(ids, (0..expected.len() as i32).collect::<Vec<_>>());
            let permissions: Vec<Permission> = queues.iter().map(MessageQueue::permission).collect();
            assert_eq!(permissions, expected);
            for queue in queues {
                assert_eq!(queue.topic, Some(asked()), "the resource comes back as it was asked for");
                assert_eq!(queue.broker, Some(broker()));
                assert_eq!(queue.accept_message_types, [MessageType::Normal as i32]);
            }
        };
        use Permission::{Read, ReadWrite, Write};
        check(topic(2, 2, true, true), &[ReadWrite, ReadWrite]);
        check(topic(3, 1, true, true), &[ReadWrite, Read, Read]);
        check(topic(1, 2, true, true), &[ReadWrite, Write]);
        check(topic(2, 2, true, false), &[Read, Read]);
        check(topic(2, 2, false, true), &[Write, Write]);
        check(topic(2, 2, false, false), &[]);
        check(topic(0, 0, true, true), &[]);
    }

    #[test]
    fn the_accepted_types_are_those_of_the_topic() {
        let check = |of_topic: control::MessageType, expected: &[i32]| {
            let topic = control::TopicConfig { message_type: of_topic as i32, ..topic(1, 1, true, true) };
            assert_eq!(queues(&asked(), &broker(), &topic)[0].accept_message_types, expected);
        };
        check(control::MessageType::Unspecified, &[1]);
        check(control::MessageType::Normal, &[1]);
        check(control::MessageType::Fifo, &[2]);
        check(control::MessageType::Delay, &[3]);
        check(control::MessageType::Transaction, &[4]);
        check(control::MessageType::Lite, &[5]);
        check(control::MessageType::Priority, &[6]);
        check(control::MessageType::Mixed, &[1, 2, 3, 4]);
    }

    #[test]
    fn a_consumer_polls_the_broker_or_in_order_each_queue() {
        let check = |topic: control::TopicConfig, ordered: bool, expected: &[(i32, Permission)]| {
            let assigned: Vec<(i32, Permission)> = assignments(&asked(), &broker(), &topic, ordered)
                .into_iter()
                .map(|assignment| assignment.message_queue.unwrap())
                .map(|queue| (queue.id, queue.permission()))
                .collect();
            assert_eq!(assigned, expected);
        };
        use Permission::{Read, ReadWrite};
        check(topic(4, 4, true, true), false, &[(-1, ReadWrite)]);
        check(topic(4, 0, true, true), false, &[(-1, Read)]);
        check(topic(2, 2, true, true), true, &[(0, ReadWrite), (1, ReadWrite)]);
        check(topic(2, 2, true, false), true, &[(0, Read), (1, Read)]);
        check(topic(4, 4, false, true), false, &[]);
        check(topic(0, 4, true, true), true, &[]);
    }

    #[test]
    fn an_answer_without_queues_says_why() {
        let (client, name) = (ClientIdentity::default(), TopicName::parse("orders").unwrap());
        let external = ListenerName::parse("external").unwrap();
        let status = route_answer(&client, &name, vec![], None).status.unwrap();
        assert_eq!(status.code(), Code::TopicNotFound);
        assert!(status.message.starts_with("TOPIC_NOT_FOUND") && status.message.contains("orders"));
        let hidden = route_answer(&client, &name, vec![], Some(&external)).status.unwrap();
        assert_eq!(assignment_answer(&client, &name, false, vec![], Some(&external)).status.unwrap(), hidden);
        assert_eq!(hidden.code(), Code::TopicNotFound);
        assert!(hidden.message.contains("no address at the listener external"), "{}", hidden.message);
        let queues = queues(&asked(), &broker(), &topic(1, 1, true, true));
        assert_eq!(route_answer(&client, &name, queues, None).status.unwrap().code(), Code::Ok);

        let code =
            |exists, list| assignment_answer(&client, &name, exists, list, None).status.unwrap().code();
        assert_eq!(code(false, vec![]), Code::TopicNotFound);
        assert_eq!(code(true, vec![]), Code::Forbidden);
        assert_eq!(code(true, assignments(&asked(), &broker(), &topic(1, 1, true, true), false)), Code::Ok);
    }

    #[test]
    fn endpoints_have_the_scheme_of_their_addresses() {
        let check = |host: &str, scheme: AddressScheme| {
            let endpoints = endpoints_for_clients(&endpoints(host, 8081)).unwrap();
            assert_eq!(endpoints.scheme(), scheme, "{host}");
            assert_eq!(endpoints.addresses, [v2::Address { host: host.to_owned(), port: 8081 }]);
        };
        check("10.1.2.3", AddressScheme::IPv4);
        check("fd00::1", AddressScheme::IPv6);
        check("broker.example.org", AddressScheme::DomainName);
        check("localhost", AddressScheme::DomainName);

        let refused = |change: fn(&mut control::Endpoints)| {
            let mut reported = endpoints("10.1.2.3", 8081);
            change(&mut reported);
            endpoints_for_clients(&reported).unwrap_err()
        };
        assert!(refused(|e| e.addresses.clear()).contains("no address"));
        assert!(refused(|e| e.scheme = 0).contains("agree"));
        assert!(refused(|e| e.scheme = 3).contains("agree"));
        assert!(refused(|e| e.addresses[0].port = 0).contains("port"));
        assert!(refused(|e| e.addresses[0].port = 70_000).contains("port"));
        let mixed = refused(|e| e.addresses.push(control::Address { host: "x.org".to_owned(), port: 1 }));
        assert!(mixed.contains("separate"));
        let mut two_names = endpoints("a.org", 1);
        two_names.addresses.push(control::Address { host: "b.org".to_owned(), port: 1 });
        assert!(endpoints_for_clients(&two_names).unwrap_err().contains("one address"));
        let mut two_addresses = endpoints("10.0.0.1", 1);
        two_addresses.addresses.push(control::Address { host: "10.0.0.2".to_owned(), port: 1 });
        assert!(endpoints_for_clients(&two_addresses).is_ok());
    }

    proptest! {
        #[test]
        fn a_listed_queue_can_be_used(
            read in 0u32..2000, write in 0u32..2000, readable: bool, writable: bool, ordered: bool,
        ) {
            let topic = topic(read, write, readable, writable);
            let queues = queues(&asked(), &broker(), &topic);
            prop_assert!(queues.len() <= MAX_QUEUES as usize);
            prop_assert!(queues.iter().all(|queue| queue.permission() as i32 >= Permission::Read as i32));
            if readable && writable && read > 0 && write > 0 {
                prop_assert_eq!(queues[0].permission(), Permission::ReadWrite);
            }
            let rank = |queue: &MessageQueue| queue.permission() != Permission::ReadWrite;
            prop_assert!(queues.is_sorted_by_key(rank));
            let polled = assignments(&asked(), &broker(), &topic, ordered);
            prop_assert_eq!(polled.is_empty(), !readable || read == 0);
        }
    }
}
