//! Topic resources: create, list, describe, update, delete.

use std::time::Duration;

use crds::{Topic, TopicSpec};
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt as _};

use super::topic_view::{TopicDescription, TopicRow, TopicRows};
use super::{Kubernetes, Readiness, failure};
use crate::args::{MessageType, Permission, TopicCreateArgs, TopicDeleteArgs, TopicUpdateArgs};
use crate::commands::topic::create::Created;
use crate::commands::topic::delete::Deleted;
use crate::commands::topic::update::Updated;
use crate::failure::Failure;

/// The operator answers within milliseconds when the brokers do.
const READY_WAIT: Duration = Duration::from_secs(30);
const MANAGER: &str = "gantry-cli";

impl Kubernetes {
    /// Makes a Topic and waits until it is Ready.
    pub async fn create_topic(&self, args: &TopicCreateArgs) -> Result<Created, Failure> {
        if !args.brokers.is_empty() {
            return Err(Failure::usage(
                "--broker does not go with Kubernetes: a Topic is on all broker groups",
            ));
        }
        let set = self.name_server_set().await?;
        let wanted = resource(args, &set.name_any());
        let api: Api<Topic> = self.api();
        let name = wanted.name_any();
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let created = match api.create(&params, &wanted).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let found = api.get(&name).await.map_err(|error| failure("read the Topic", &error))?;
                if !same(&found, &wanted) {
                    return Err(Failure::failed(format!("Topic {name} exists, and differs")).next(format!(
                        "gantry topic describe {name}; gantry topic update changes queues and permission"
                    )));
                }
                false
            }
            Err(error) => return Err(failure("create the Topic", &error)),
        };
        self.await_ready(&name).await?;
        Ok(Created { topic: args.topic.clone(), created, on: vec![self.called(&name)] })
    }

    /// The Topics of the namespace.
    pub async fn list_topics(&self) -> Result<TopicRows, Failure> {
        let now = Timestamp::now();
        let mut topics: Vec<TopicRow> =
            self.all_topics().await?.iter().map(|topic| TopicRow::of(topic, now)).collect();
        topics.sort_by(|a, b| a.resource.cmp(&b.resource));
        Ok(TopicRows { topics })
    }

    /// A Topic with its groups and conditions.
    pub async fn describe_topic(&self, topic: &str) -> Result<TopicDescription, Failure> {
        Ok(TopicDescription::of(&self.find_topic(topic).await?, Timestamp::now()))
    }

    /// Changes a Topic's spec and waits until that is Ready.
    pub async fn update_topic(&self, args: &TopicUpdateArgs) -> Result<Updated, Failure> {
        let found = self.find_topic(&args.topic).await?;
        let name = found.name_any();
        let queues = args.queues.map_or(found.spec.queues, queue_count);
        let permission = args.permission.map_or(found.spec.permission, permission);
        let changed = (queues, permission) != (found.spec.queues, found.spec.permission);
        if changed {
            let patch = serde_json::json!({ "spec": { "queues": queues, "permission": permission } });
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
            let patched = self.api::<Topic>().patch(&name, &params, &Patch::Merge(patch)).await;
            patched.map_err(|error| failure("update the Topic", &error))?;
            self.await_ready(&name).await?;
        }
        Ok(Updated { topic: args.topic.clone(), changed, on: vec![self.called(&name)] })
    }

    /// Deletes a Topic; what becomes of the messages is in its spec.
    pub async fn delete_topic(&self, args: &TopicDeleteArgs) -> Result<Deleted, Failure> {
        if args.if_drained {
            return Err(Failure::usage("--if-drained does not go with Kubernetes")
                .next("set spec.deletionPolicy of the Topic to DeleteWhenDrained"));
        }
        let found = self.find_topic(&args.topic).await?;
        let name = found.name_any();
        let deleted = self.api::<Topic>().delete(&name, &DeleteParams::default()).await;
        deleted.map_err(|error| failure("delete the Topic", &error))?;
        eprintln!(
            "{}",
            match found.spec.deletion_policy {
                crds::DeletionPolicy::Retain =>
                    "deletionPolicy Retain: brokers keep the topic and its messages",
                crds::DeletionPolicy::Delete => "deletionPolicy Delete: the messages go too",
                crds::DeletionPolicy::DeleteWhenDrained => {
                    "deletionPolicy DeleteWhenDrained: it goes when all groups have consumed it"
                }
            }
        );
        Ok(Deleted { topic: args.topic.clone(), on: vec![self.called(&name)] })
    }

    pub(super) async fn all_topics(&self) -> Result<Vec<Topic>, Failure> {
        let all = self.api::<Topic>().list(&ListParams::default()).await;
        all.map(|list| list.items).map_err(|error| failure("list Topics", &error))
    }

    /// By the name of the resource, else by the name that clients use.
    async fn find_topic(&self, topic: &str) -> Result<Topic, Failure> {
        let all = self.all_topics().await?;
        let found = all
            .iter()
            .find(|candidate| candidate.name_any() == topic)
            .or_else(|| all.iter().find(|candidate| topic_name(candidate) == topic));
        found.cloned().ok_or_else(|| {
            Failure::not_found(format!("there is no Topic {topic} in namespace {}", self.namespace))
                .next(format!("gantry topic list -n {} shows all", self.namespace))
        })
    }

    async fn await_ready(&self, name: &str) -> Result<(), Failure> {
        let ready = |topic: Option<&Topic>| topic.is_none_or(|topic| readiness(topic).ready);
        let waited =
            tokio::time::timeout(READY_WAIT, await_condition(self.api::<Topic>(), name, ready)).await;
        match waited {
            Ok(Ok(Some(_))) => Ok(()),
            Ok(Ok(None)) => Err(Failure::failed(format!("Topic {name} was deleted meanwhile"))),
            Ok(Err(error)) => Err(Failure::failed(format!("cannot watch Topic {name}: {error}"))),
            Err(_) => {
                let found =
                    self.api::<Topic>().get(name).await.map_err(|error| failure("read the Topic", &error))?;
                let Readiness { reason, message, .. } = readiness(&found);
                Err(Failure::timed_out(format!("Topic {name} is there, but not Ready: {reason}: {message}"))
                    .next(format!("gantry status -n {}", self.namespace)))
            }
        }
    }

    fn called(&self, name: &str) -> String {
        format!("Topic {}/{name}", self.namespace)
    }
}

/// How Ready a Topic is.
pub(super) fn readiness(topic: &Topic) -> Readiness {
    let status = topic.status.clone().unwrap_or_default();
    Readiness::of(topic.metadata.generation, status.observed_generation, &status.conditions)
}

/// The name that clients use.
pub(super) fn topic_name(topic: &Topic) -> String {
    topic.spec.topic_name.clone().unwrap_or_else(|| topic.name_any())
}

fn resource(args: &TopicCreateArgs, name_server_set: &str) -> Topic {
    let name = resource_name(&args.topic);
    let topic_name = (name != args.topic).then(|| args.topic.clone());
    Topic::new(
        &name,
        TopicSpec {
            name_server_ref: crds::NameServerRef { name: name_server_set.to_owned(), namespace: None },
            topic_name,
            message_type: message_type(args.message_type),
            queues: queue_count(args.queues),
            permission: permission(args.permission),
            deletion_policy: crds::DeletionPolicy::default(),
        },
    )
}

/// Whether a Topic is as asked for, in all that the command line can say.
fn same(found: &Topic, wanted: &Topic) -> bool {
    let TopicSpec { name_server_ref, topic_name: _, message_type, queues, permission, deletion_policy: _ } =
        &wanted.spec;
    topic_name(found) == topic_name(wanted)
        && found.spec.name_server_ref.name == name_server_ref.name
        && found.spec.message_type == *message_type
        && found.spec.queues == *queues
        && found.spec.permission == *permission
}

/// A topic's name as Kubernetes takes it: small letters, digits and dashes.
fn resource_name(topic: &str) -> String {
    let mapped: String = topic
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => c,
            _ => '-',
        })
        .collect();
    match mapped.trim_matches('-') {
        "" => "topic".to_owned(),
        name => name.to_owned(),
    }
}

fn queue_count(queues: u32) -> i32 {
    i32::try_from(queues).expect("the arguments end at 1024")
}

fn message_type(message_type: MessageType) -> crds::MessageType {
    match message_type {
        MessageType::Normal => crds::MessageType::Normal,
        MessageType::Fifo => crds::MessageType::Fifo,
        MessageType::Delay => crds::MessageType::Delay,
        MessageType::Transaction => crds::MessageType::Transaction,
        MessageType::Priority => crds::MessageType::Priority,
        MessageType::Lite => crds::MessageType::Lite,
        MessageType::Mixed => crds::MessageType::Mixed,
    }
}

fn permission(permission: Permission) -> crds::Permission {
    match permission {
        Permission::ReadWrite => crds::Permission::ReadWrite,
        Permission::ReadOnly => crds::Permission::ReadOnly,
        Permission::WriteOnly => crds::Permission::WriteOnly,
        Permission::None => crds::Permission::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(topic: &str) -> TopicCreateArgs {
        TopicCreateArgs {
            topic: topic.to_owned(),
            message_type: MessageType::Fifo,
            queues: 4,
            permission: Permission::ReadOnly,
            brokers: Vec::new(),
        }
    }

    #[test]
    fn a_topic_becomes_a_resource() {
        insta::assert_yaml_snapshot!(resource(&args("Order_Events"), "main"), @r"
        apiVersion: mq.gantry.dev/v1alpha1
        kind: Topic
        metadata:
          name: order-events
        spec:
          nameServerRef:
            name: main
          topicName: Order_Events
          messageType: Fifo
          queues: 4
          permission: ReadOnly
          deletionPolicy: Retain
        ");
        assert_eq!(resource(&args("orders"), "main").spec.topic_name, None);
    }

    #[test]
    fn names_become_what_kubernetes_takes() {
        assert_eq!(resource_name("orders"), "orders");
        assert_eq!(resource_name("%A_b|"), "a-b");
        assert_eq!(resource_name("%%"), "topic");
    }

    #[test]
    fn a_topic_is_the_same_whatever_its_deletion_policy() {
        let wanted = resource(&args("orders"), "main");
        let mut found = wanted.clone();
        found.spec.deletion_policy = crds::DeletionPolicy::Delete;
        assert!(same(&found, &wanted));
        found.spec.queues = 8;
        assert!(!same(&found, &wanted));
    }
}
