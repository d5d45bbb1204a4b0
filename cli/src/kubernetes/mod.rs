//! Kubernetes mode: what the commands do with custom resources.
//!
//! Messages, and what consumer groups have consumed, are no resources. For them the NameServerSet's client Service is
//! looked up, and then the way is the same as without Kubernetes.

mod declared;
mod group_view;
mod groups;
mod operate;
mod report;
mod status;
mod topic_view;
mod topics;

pub use group_view::GroupResource;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config, ResourceExt as _};

use self::declared::Declared;
use crate::control::root_cause;
use crate::failure::{Exit, Failure};
use crate::place::PlaceArgs;
use crate::units;

const CLIENT_PORT: u16 = 8081;
const CONTROL_PORT: u16 = 9878;
/// The operator answers within milliseconds when the brokers do.
const READY_WAIT: Duration = Duration::from_secs(30);
/// Who changes resources.
const MANAGER: &str = "gantry-cli";

/// A namespace of a Kubernetes cluster.
pub struct Kubernetes {
    client: Client,
    namespace: String,
    name_server_set: Option<String>,
}

impl Kubernetes {
    /// Reads the kubeconfig, as kubectl does, or a pod's own service account.
    pub async fn open(args: &PlaceArgs) -> Result<Self, Failure> {
        let options = KubeConfigOptions { context: args.context.clone(), ..Default::default() };
        let config = match &args.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(&error))
            }
            None if args.context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|error| unusable(&error))
            }
            None => Config::infer().await.map_err(|error| unusable(&error)),
        }?;
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        Ok(Self { client, namespace, name_server_set: args.name_server_set.clone() })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The NameServerSet that is meant: the one named, or the only one of the namespace.
    async fn name_server_set(&self) -> Result<crds::NameServerSet, Failure> {
        let api: Api<crds::NameServerSet> = self.api();
        let namespace = &self.namespace;
        if let Some(name) = &self.name_server_set {
            let found = api.get_opt(name).await.map_err(|error| failure("read the NameServerSet", &error))?;
            return found.ok_or_else(|| {
                Failure::not_found(format!("there is no NameServerSet {name} in namespace {namespace}"))
                    .next(format!("kubectl get nameserversets -n {namespace}"))
            });
        }
        let all =
            api.list(&Default::default()).await.map_err(|error| failure("list NameServerSets", &error))?;
        let mut all = all.items;
        match all.len() {
            1 => Ok(all.remove(0)),
            0 => Err(Failure::not_found(format!("there is no NameServerSet in namespace {namespace}"))
                .next("-n NAMESPACE names another namespace; kubectl get nameserversets -A shows all")),
            _ => {
                let names: Vec<String> = all.iter().map(|set| set.name_any()).collect();
                Err(Failure::usage(format!("namespace {namespace} has several NameServerSets"))
                    .next(format!("choose with --name-server-set: {}", names.join(", "))))
            }
        }
    }

    /// Waits until a resource is Ready.
    async fn await_ready<K: Declared>(&self, name: &str) -> Result<(), Failure> {
        let kind = K::kind(&());
        let ready = |resource: Option<&K>| resource.is_none_or(|resource| resource.readiness().ready);
        match tokio::time::timeout(READY_WAIT, await_condition(self.api::<K>(), name, ready)).await {
            Ok(Ok(Some(_))) => Ok(()),
            Ok(Ok(None)) => Err(Failure::failed(format!("{kind} {name} was deleted meanwhile"))),
            Ok(Err(error)) => Err(Failure::failed(format!("cannot watch {kind} {name}: {error}"))),
            Err(_) => {
                let found = self.api::<K>().get(name).await;
                let found = found.map_err(|error| failure(&format!("read the {kind}"), &error))?;
                let Readiness { reason, message, .. } = found.readiness();
                let what = format!("{kind} {name} is there, but not Ready: {reason}: {message}");
                Err(Failure::timed_out(what).next(format!("gantry status -n {}", self.namespace)))
            }
        }
    }

    /// Where clients connect.
    pub async fn client_address(&self) -> Result<String, Failure> {
        let set = self.name_server_set().await?;
        let told = set.status.as_ref().and_then(|status| status.address.clone());
        match told {
            // Only inside of the cluster names of Services can be looked up.
            Some(address) if in_cluster() => Ok(address),
            _ => self.service_address(&set, CLIENT_PORT).await,
        }
    }

    /// Where the control plane listens.
    pub async fn control_address(&self) -> Result<String, Failure> {
        self.service_address(&self.name_server_set().await?, CONTROL_PORT).await
    }

    /// The IP of the set's client Service: it needs no look-up, and nodes can reach it too.
    async fn service_address(&self, set: &crds::NameServerSet, port: u16) -> Result<String, Failure> {
        let name = format!("{}-namesrv", set.name_any());
        let found = self
            .api::<Service>()
            .get_opt(&name)
            .await
            .map_err(|error| failure("read the client Service", &error))?;
        let ip = found.and_then(|service| service.spec).and_then(|spec| spec.cluster_ip);
        match ip.as_deref() {
            Some(ip) if !ip.is_empty() && ip != "None" => {
                Ok(crate::control::join_host_port(ip, u32::from(port)))
            }
            _ => {
                Err(Failure::not_found(format!("NameServerSet {} has no client Service yet", set.name_any()))
                    .next(format!("gantry status -n {} shows what it waits for", self.namespace)))
            }
        }
    }
}

fn in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn unusable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::failed(format!("cannot use the kubeconfig: {error}")).next(
        "kubectl config get-contexts shows what is there; --kubeconfig FILE or KUBECONFIG names another",
    )
}

/// A call of the Kubernetes API that failed; `doing` reads like "list Topics".
fn failure(doing: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let exit = if status.code == 404 { Exit::NotFound } else { Exit::Failed };
            let failure = Failure::new(exit, format!("cannot {doing}: {}", status.message));
            match status.code {
                404 => failure.next(
                    "are Gantry's custom resources installed? helm install gantry-crds, or ./quickstart",
                ),
                403 => failure.next(
                    "ask for one of Kubernetes' roles: view to look, edit to change Topics and ConsumerGroups, admin for the rest",
                ),
                _ => failure,
            }
        }
        other => Failure::unreachable(format!("cannot {doing}: {}", root_cause(other)))
            .next("kubectl cluster-info: does the Kubernetes API answer?"),
    }
}

/// How long ago a resource was made.
fn age(resource: &impl kube::ResourceExt, now: Timestamp) -> String {
    let made = resource.creation_timestamp().map(|time| time.0.as_millisecond());
    made.and_then(|made| units::since(made, now)).unwrap_or_else(|| "-".to_owned())
}

/// The condition of this type.
fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a resource is Ready, with what its conditions say of the spec as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Whether Ready is True, for this generation.
    pub(crate) ready: bool,
    /// The reason of the condition.
    pub(crate) reason: String,
    /// Its message.
    pub(crate) message: String,
}

impl Readiness {
    fn of(generation: Option<i64>, observed: Option<i64>, conditions: &[Condition]) -> Self {
        if observed.is_none() || observed < generation {
            let message = "the operator has not seen it yet: is it running?".to_owned();
            return Self { ready: false, reason: "Pending".to_owned(), message };
        }
        // Stalled says what a person has to change; Ready only that it is not yet so.
        let stalled = condition(conditions, "Stalled").filter(|condition| condition.status == "True");
        match stalled.or_else(|| condition(conditions, "Ready")) {
            Some(condition) => Self {
                ready: condition.type_ == "Ready" && condition.status == "True",
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            },
            None => Self { ready: false, reason: "Unknown".to_owned(), message: String::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition_of(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            ),
            observed_generation: None,
        }
    }

    #[test]
    fn ready_counts_only_for_the_spec_as_it_is_now() {
        let conditions =
            [condition_of("Ready", "True", "Serving"), condition_of("Stalled", "False", "Progressing")];
        let check = |generation, observed, ready, reason: &str| {
            let readiness = Readiness::of(generation, observed, &conditions);
            assert_eq!((readiness.ready, readiness.reason.as_str()), (ready, reason));
        };
        check(Some(2), Some(2), true, "Serving");
        check(Some(2), Some(1), false, "Pending");
        check(Some(1), None, false, "Pending");
    }

    #[test]
    fn stalled_is_told_before_not_ready() {
        let conditions =
            [condition_of("Ready", "False", "Starting"), condition_of("Stalled", "True", "InvalidSpec")];
        assert_eq!(Readiness::of(Some(1), Some(1), &conditions).reason, "InvalidSpec");
    }
}
