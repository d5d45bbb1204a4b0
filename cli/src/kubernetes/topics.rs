//! Topic resources: create, list, describe, update, delete.

use std::collections::{HashMap, HashSet};
use std::pin::pin;

use crds::{Topic, TopicSpec};
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};

use super::declared::{Declared as _, for_name, only};
use super::topic_view::{TopicDescription, TopicRow, TopicRows};
use super::{Kubernetes, MANAGER, failure};
use crate::args::{MessageType, Permission, TopicCreateArgs, TopicUpdateArgs};
use crate::commands::topic::create::Created;
use crate::commands::topic::delete::Deleted;
use crate::commands::topic::many::{Outcome, Refused};
use crate::commands::topic::update::Updated;
use crate::failure::{Exit, Failure};
use crate::progress::Teller;
use crate::units;

/// Topics under way at the same time.
const AT_ONCE: usize = 32;

impl Kubernetes {
    /// Makes a Topic and waits until it is Ready.
    pub async fn create_topic(&self, topic: &str, args: &TopicCreateArgs) -> Result<Created, Failure> {
        let set = self.set_for(args).await?;
        self.create_in(&set, topic, args).await
    }

    /// Makes many Topics, and waits until all are Ready.
    pub async fn create_topics(
        &self,
        names: Vec<String>,
        args: &TopicCreateArgs,
    ) -> Result<Outcome, Failure> {
        let set = &self.set_for(args).await?;
        let create = |name: String| async move {
            self.create_in(set, &name, args)
                .await
                .map(|created| created.created)
                .map_err(|failure| (name, failure))
        };
        self.many("created", names.len(), futures::stream::iter(names).map(create)).await
    }

    /// The name of the NameServerSet that new Topics refer to.
    async fn set_for(&self, args: &TopicCreateArgs) -> Result<String, Failure> {
        if !args.brokers.is_empty() {
            return Err(Failure::usage(
                "--broker does not go with Kubernetes: a Topic is on all broker groups",
            ));
        }
        Ok(self.name_server_set().await?.name_any())
    }

    /// Waits for all, some at a time. Whatever fails for one topic stops the others only if nobody answers.
    async fn many<F>(
        &self,
        done: &'static str,
        total: usize,
        all: impl futures::Stream<Item = F>,
    ) -> Result<Outcome, Failure>
    where
        F: Future<Output = Result<bool, (String, Failure)>>,
    {
        let on = vec![format!("namespace {}", self.namespace)];
        let mut outcome = Outcome { done, on, ..Outcome::default() };
        let (mut teller, mut ended) = (Teller::new(), 0);
        let mut all = pin!(all.buffer_unordered(AT_ONCE));
        while let Some(one) = all.next().await {
            match one {
                Ok(true) => outcome.changed += 1,
                Ok(false) => outcome.unchanged += 1,
                Err((_, failure)) if failure.exit() == Exit::Unreachable => return Err(failure),
                Err((topic, failure)) => {
                    outcome.refused.push(Refused { topic, why: failure.what().to_owned() });
                }
            }
            ended += 1;
            teller.tell(|elapsed| format!("{ended} of {total} topics after {}", units::duration(elapsed)));
        }
        Ok(outcome)
    }

    async fn create_in(&self, set: &str, topic: &str, args: &TopicCreateArgs) -> Result<Created, Failure> {
        let wanted = resource(topic, args, set);
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
        self.await_ready::<Topic>(&name).await?;
        Ok(Created { topic: topic.to_owned(), created, on: vec![self.called(&name)] })
    }

    /// The Topics of the namespace.
    pub async fn list_topics(&self) -> Result<TopicRows, Failure> {
        let now = Timestamp::now();
        let mut topics: Vec<TopicRow> =
            self.all().await?.iter().map(|topic| TopicRow::of(topic, now)).collect();
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
            self.change::<Topic>(&name, &patch).await?;
        }
        Ok(Updated { topic: args.topic.clone(), changed, on: vec![self.called(&name)] })
    }

    /// Deletes a Topic; what becomes of the messages is in its spec.
    pub async fn delete_topic(&self, topic: &str, if_drained: bool) -> Result<Deleted, Failure> {
        refuse_if_drained(if_drained)?;
        let found = self.find_topic(topic).await?;
        let name = found.name_any();
        self.delete(&name).await?;
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
        Ok(Deleted { topic: topic.to_owned(), on: vec![self.called(&name)] })
    }

    /// Deletes many Topics; what becomes of the messages is in the spec of each.
    pub async fn delete_topics(&self, names: Vec<String>, if_drained: bool) -> Result<Outcome, Failure> {
        refuse_if_drained(if_drained)?;
        let all: &Vec<Topic> = &self.all().await?;
        let resources: HashSet<String> = all.iter().map(Topic::name_any).collect();
        let mut by_topic: HashMap<String, Vec<&Topic>> = HashMap::new();
        for topic in all.iter().filter(|topic| self.named_set().is_none_or(|set| topic.is_of(set))) {
            by_topic.entry(topic.client_name()).or_default().push(topic);
        }
        let (resources, by_topic) = (&resources, &by_topic);
        let delete = |topic: String| async move {
            let deleted = if resources.contains(&topic) {
                self.delete(&topic).await
            } else {
                match only(&topic, by_topic.get(&topic).map_or(&[], Vec::as_slice)) {
                    Ok(Some(found)) => self.delete(&found.name_any()).await,
                    Ok(None) => Err(self.no_topic(&topic)),
                    Err(several) => Err(several),
                }
            };
            deleted.map(|()| true).map_err(|failure| (topic, failure))
        };
        self.many("deleted", names.len(), futures::stream::iter(names).map(delete)).await
    }

    async fn delete(&self, resource: &str) -> Result<(), Failure> {
        let deleted = self.api::<Topic>().delete(resource, &DeleteParams::default()).await;
        deleted.map(drop).map_err(|error| failure("delete the Topic", &error))
    }

    fn no_topic(&self, topic: &str) -> Failure {
        Failure::not_found(format!("there is no Topic {topic} in namespace {}", self.namespace))
            .next(format!("gantry topic list -n {} shows all", self.namespace))
    }

    /// By the name of the resource, else by the name that clients use.
    async fn find_topic(&self, topic: &str) -> Result<Topic, Failure> {
        let all: Vec<Topic> = self.all().await?;
        let found = match all.iter().find(|candidate| candidate.name_any() == topic) {
            Some(found) => Some(found),
            None => for_name(&all, topic, self.named_set())?,
        };
        found.cloned().ok_or_else(|| self.no_topic(topic))
    }

    fn called(&self, name: &str) -> String {
        format!("Topic {}/{name}", self.namespace)
    }
}

fn refuse_if_drained(if_drained: bool) -> Result<(), Failure> {
    match if_drained {
        false => Ok(()),
        true => Err(Failure::usage("--if-drained does not go with Kubernetes")
            .next("set spec.deletionPolicy of the Topic to DeleteWhenDrained")),
    }
}

fn resource(topic: &str, args: &TopicCreateArgs, name_server_set: &str) -> Topic {
    let name = resource_name(topic);
    let topic_name = (name != topic).then(|| topic.to_owned());
    Topic::new(
        &name,
        TopicSpec {
            name_server_ref: crds::NameServerRef { name: name_server_set.to_owned(), namespace: None },
            topic_name,
            message_type: message_type(args.message_type),
            queues: queue_count(args.queues),
            permission: permission(args.permission),
            ..TopicSpec::default()
        },
    )
}

/// Whether a Topic is as asked for, in all that the command line can say.
fn same(found: &Topic, wanted: &Topic) -> bool {
    let TopicSpec { name_server_ref, message_type, queues, permission, .. } = &wanted.spec;
    found.client_name() == wanted.client_name()
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
    use crate::args::TopicNames;

    fn args() -> TopicCreateArgs {
        TopicCreateArgs {
            names: TopicNames::default(),
            message_type: MessageType::Fifo,
            queues: 4,
            permission: Permission::ReadOnly,
            brokers: Vec::new(),
        }
    }

    #[test]
    fn a_topic_becomes_a_resource() {
        insta::assert_yaml_snapshot!(resource("Order_Events", &args(), "main"), @r"
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
          adoption: IfUnowned
          driftPolicy: Revert
          managementPolicy: Full
        ");
        assert_eq!(resource("orders", &args(), "main").spec.topic_name, None);
    }

    #[test]
    fn names_become_what_kubernetes_takes() {
        assert_eq!(resource_name("orders"), "orders");
        assert_eq!(resource_name("%A_b|"), "a-b");
        assert_eq!(resource_name("%%"), "topic");
    }

    #[test]
    fn a_topic_is_the_same_whatever_its_deletion_policy() {
        let wanted = resource("orders", &args(), "main");
        let mut found = wanted.clone();
        found.spec.deletion_policy = crds::DeletionPolicy::Delete;
        assert!(same(&found, &wanted));
        found.spec.queues = 8;
        assert!(!same(&found, &wanted));
    }
}
