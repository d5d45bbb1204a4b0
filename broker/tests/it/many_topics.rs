//! Many topics in one broker.

use proto::control::{GetTopicsRequest, ListTopicsRequest, TopicConfig, UpsertTopicsRequest};
use proto::v2::Code;

use crate::rig::{Rig, ask, message};

const TOPICS: u32 = 2000;
const QUEUES: u32 = 8;

fn topics(count: u32) -> Vec<TopicConfig> {
    let topic = |n| TopicConfig {
        name: format!("many-{n}"),
        read_queues: QUEUES,
        write_queues: QUEUES,
        readable: true,
        writable: true,
        ..TopicConfig::default()
    };
    (0..count).map(topic).collect()
}

/// Descriptors and mappings of this process.
fn counts() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (descriptors, std::fs::read_to_string("/proc/self/maps").unwrap().lines().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_topics_cost_no_descriptor_and_no_mapping_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("one", 8).await;
    rig.send_ok(vec![message("one", "x")]).await;
    let before = counts();

    let request = UpsertTopicsRequest { topics: topics(TOPICS), only_new: true, ..Default::default() };
    let outcomes = rig.admin.upsert_topics(request).await.unwrap().into_inner().outcomes;
    assert!(outcomes.len() == TOPICS as usize && outcomes.iter().all(|outcome| outcome.changed));
    for _ in 0..QUEUES {
        for n in 0..TOPICS {
            rig.send_ok(vec![message(&format!("many-{n}"), "x")]).await;
        }
    }
    let after = counts();
    // Other tests of this process run beside, with brokers of their own.
    let one_each = TOPICS as usize / 2;
    assert!(after.0 < before.0 + one_each && after.1 < before.1 + one_each, "{before:?} {after:?}");
    rig.running.stop().await.unwrap();

    let mut rig = Rig::start(folder.path()).await;
    let mut listed = Vec::new();
    while let Some(page) = {
        let after = listed.last().cloned().unwrap_or_default();
        let request = ListTopicsRequest { include_system: false, after, limit: 700 };
        let page = rig.admin.list_topics(request).await.unwrap().into_inner().topics;
        Some(page).filter(|page| !page.is_empty())
    } {
        assert!(page.len() <= 700);
        listed.extend(page.into_iter().map(|topic| topic.name));
    }
    assert!(listed.len() == TOPICS as usize + 1 && listed.is_sorted());
    let polled = rig.poll(ask("g", "many-1999")).await;
    assert_eq!((polled.status.code, polled.messages.is_empty()), (Code::Ok as i32, false));
}

#[tokio::test]
async fn of_many_topics_each_is_made_or_refused_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("many-1", 3).await;
    let mut wanted = topics(4);
    wanted[2].name = "not a name".to_owned();
    for (dry_run, changed) in [(true, [true, false, false, true]), (false, [true, false, false, true])] {
        let request =
            UpsertTopicsRequest { topics: wanted.clone(), only_if_unowned: true, only_new: true, dry_run };
        let outcomes = rig.admin.upsert_topics(request).await.unwrap().into_inner().outcomes;
        let refused: Vec<&str> = outcomes.iter().map(|outcome| outcome.refused.as_str()).collect();
        assert!(
            refused[1].contains("topic many-1 exists") && refused[2].contains("not a name"),
            "{refused:?}"
        );
        assert!(outcomes.iter().map(|outcome| outcome.changed).eq(changed), "dry run: {dry_run}");
        let all = ListTopicsRequest::default();
        let there = rig.admin.list_topics(all).await.unwrap().into_inner().topics.len();
        assert_eq!(there, if dry_run { 1 } else { 3 });
    }
    let names = ["many-3", "many-2", "not a name", "many-0"].map(str::to_owned).to_vec();
    let found = rig.admin.get_topics(GetTopicsRequest { names }).await.unwrap().into_inner().topics;
    assert!(found.iter().map(|topic| &topic.name).eq(["many-3", "many-0"]), "{found:?}");
    let request = UpsertTopicsRequest { topics: topics(5001), ..Default::default() };
    assert!(rig.admin.upsert_topics(request).await.unwrap_err().message().contains("at most 5000"));
}
