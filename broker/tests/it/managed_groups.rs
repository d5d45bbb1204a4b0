//! Consumer groups that somebody manages: made many at once, owned, paused.

use proto::control::{
    DeleteGroupRequest, GetGroupsRequest, GroupConfig, UpsertGroupRequest, UpsertGroupsRequest,
};
use proto::v2::Code;

use crate::backlog::{pull, pulled};
use crate::rig::*;

fn group(name: &str, owner: &str) -> GroupConfig {
    GroupConfig {
        name: name.to_owned(),
        consume_enabled: true,
        ordered: false,
        max_attempts: 5,
        backoff: None,
        owner: owner.to_owned(),
    }
}

async fn found(rig: &mut Rig, names: &[&str]) -> Vec<GroupConfig> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    rig.admin.get_groups(GetGroupsRequest { names }).await.unwrap().into_inner().groups
}

#[tokio::test]
async fn many_groups_are_made_each_by_itself_and_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let wanted =
        vec![group("a", "ns/a/1"), group("no group", ""), GroupConfig { max_attempts: 9, ..group("b", "") }];
    let request = UpsertGroupsRequest { groups: wanted, only_if_unowned: true };
    let outcomes = rig.admin.upsert_groups(request).await.unwrap().into_inner().outcomes;
    assert_eq!(outcomes.iter().map(|outcome| outcome.changed).collect::<Vec<_>>(), [true, false, true]);
    assert!(outcomes[1].refused.contains("no group") && !outcomes[1].try_again, "{outcomes:?}");
    let found = found(&mut rig, &["b", "nobody", "a"]).await;
    let facts: Vec<_> =
        found.iter().map(|it| (it.name.as_str(), it.max_attempts, it.owner.as_str())).collect();
    assert_eq!(facts, [("b", 9, ""), ("a", 5, "ns/a/1")]);
}

#[tokio::test]
async fn a_group_is_changed_and_deleted_by_its_owner_only_and_a_restart_remembers_who_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let ours = UpsertGroupRequest { group: Some(group("billing", "ns/billing/1")), only_if_unowned: true };
    rig.admin.upsert_group(ours).await.unwrap();
    rig.running.stop().await.unwrap();
    let mut rig = Rig::start(folder.path()).await;

    let theirs = vec![group("billing", "ns/other/2")];
    let request = UpsertGroupsRequest { groups: theirs.clone(), only_if_unowned: true };
    let outcome = rig.admin.upsert_groups(request).await.unwrap().into_inner().outcomes.remove(0);
    assert!(outcome.refused.contains("consumer group billing is managed by ns/billing/1"), "{outcome:?}");
    let delete = |owner: &str| DeleteGroupRequest { name: "billing".to_owned(), owner: owner.to_owned() };
    let refused = rig.admin.delete_group(delete("ns/other/2")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(rig.admin.delete_group(delete("ns/billing/1")).await.unwrap().into_inner().existed);
    assert!(found(&mut rig, &["billing"]).await.is_empty());
}

#[tokio::test]
async fn a_paused_group_gets_nothing_also_by_a_poll_that_waited_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let parked = rig.park(ask("g", "orders")).await;
    let paused = GroupConfig { consume_enabled: false, ..group("g", "") };
    let pause = UpsertGroupRequest { group: Some(paused), only_if_unowned: false };
    rig.admin.upsert_group(pause).await.unwrap();
    rig.send_ok(vec![message("orders", "a")]).await;
    let polled = brought(parked).await;
    assert_eq!((polled.status.code, polled.messages.len()), (Code::Forbidden as i32, 0));
    assert!(polled.status.message.contains("enable it first"), "{}", polled.status.message);
    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(polled.status.code, Code::Forbidden as i32);
    assert_eq!(pulled(&mut rig, pull("orders", 0)).await, (Code::Forbidden as i32, Vec::new(), -1));

    let go_on = UpsertGroupRequest { group: Some(group("g", "")), only_if_unowned: false };
    rig.admin.upsert_group(go_on).await.unwrap();
    assert_eq!(ids(&rig.poll(ask("g", "orders")).await.messages), ["a"]);
}
