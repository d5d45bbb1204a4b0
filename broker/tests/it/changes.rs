//! Following what changes in topics and groups.

use std::time::Duration;

use proto::control::{
    ChangeReport, DeleteTopicRequest, TopicConfig, UpsertTopicsRequest, WatchChangesRequest,
    WatchChangesResponse,
};
use tonic::Streaming;

use crate::rig::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn follow(rig: &mut Rig, life: u64, version: u64) -> Streaming<WatchChangesResponse> {
    rig.admin.watch_changes(WatchChangesRequest { life, version }).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<WatchChangesResponse>) -> WatchChangesResponse {
    tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap()
}

fn names(changes: Option<ChangeReport>) -> (Vec<String>, Vec<String>, Vec<String>) {
    let ChangeReport { topics, removed_topics, groups, removed_groups: _ } = changes.unwrap();
    let groups = groups.into_iter().map(|group| group.name).collect();
    (topics.into_iter().map(|topic| topic.name).collect(), removed_topics, groups)
}

#[tokio::test]
async fn a_follower_hears_of_what_changes_from_now_on_with_what_it_is_like() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("before", 1).await;
    let mut stream = follow(&mut rig, 0, 0).await;
    let first = next(&mut stream).await;
    assert!(!first.missed && first.life != 0);
    assert_eq!(names(first.changes), (vec![], vec![], vec![]));

    rig.topic("orders", 4).await;
    let told = next(&mut stream).await.changes.unwrap();
    assert_eq!((told.topics[0].name.as_str(), told.topics[0].write_queues), ("orders", 4));
    rig.group("billing", true, 3).await;
    assert_eq!(names(next(&mut stream).await.changes), (vec![], vec![], vec!["billing".to_owned()]));
    let delete = DeleteTopicRequest { name: "before".to_owned(), ..DeleteTopicRequest::default() };
    rig.admin.delete_topic(delete).await.unwrap();
    assert_eq!(names(next(&mut stream).await.changes), (vec![], vec!["before".to_owned()], vec![]));
}

#[tokio::test]
async fn a_stream_goes_on_where_an_earlier_one_ended_and_says_when_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let WatchChangesResponse { life, version, .. } = next(&mut follow(&mut rig, 0, 0).await).await;
    rig.topic("meanwhile", 1).await;
    let first = next(&mut follow(&mut rig, life, version).await).await;
    assert!(!first.missed);
    assert_eq!(names(first.changes).0, ["meanwhile"]);
    let other_life = next(&mut follow(&mut rig, life ^ 1, first.version).await).await;
    assert!(other_life.missed);

    rig.running.stop().await.unwrap();
    let mut rig = Rig::start(folder.path()).await;
    assert!(next(&mut follow(&mut rig, life, first.version).await).await.missed, "versions begin anew");
}

#[tokio::test]
async fn many_changes_come_in_parts_and_count_as_told_with_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let mut stream = follow(&mut rig, 0, 0).await;
    let before = next(&mut stream).await.version;
    let topics = |range: std::ops::Range<u32>| {
        let topic = |n| TopicConfig {
            name: format!("t-{n}"),
            read_queues: 1,
            write_queues: 1,
            ..TopicConfig::default()
        };
        UpsertTopicsRequest { topics: range.map(topic).collect(), ..UpsertTopicsRequest::default() }
    };
    // Not read meanwhile, so that both are told together.
    rig.admin.upsert_topics(topics(0..5000)).await.unwrap();
    rig.admin.upsert_topics(topics(5000..7000)).await.unwrap();
    let mut told = Vec::new();
    let mut versions = Vec::new();
    while told.len() < 7000 {
        let answer = next(&mut stream).await;
        versions.push(answer.version);
        told.extend(names(answer.changes).0);
    }
    assert_eq!(versions.last(), Some(&(before + 2)), "{versions:?}");
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 7000);
}

#[tokio::test]
async fn followers_are_bounded_and_do_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        let mut stream = follow(&mut rig, 0, 0).await;
        next(&mut stream).await;
        streams.push(stream);
    }
    let refused = rig.admin.watch_changes(WatchChangesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    tokio::time::timeout(PATIENCE, rig.running.stop()).await.unwrap().unwrap();
    for mut stream in streams {
        assert!(matches!(stream.message().await, Ok(None) | Err(_)));
    }
}
