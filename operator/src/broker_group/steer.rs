//! Steers a replicated group: asks for another primary, replaces pods, sees to what people ask for by annotation.
//!
//! What to do is decided in [`super::roll`], [`super::scale`] and [`super::requests`]; here it is done, one step a reconcile.

use crds::{BrokerGroup, LastHandled};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource as _, ResourceExt};

use super::{
    observe::Observed,
    reign::{self, Reign},
    requests::{self, Answer},
    roll::{self, Member, MemberPod, Step},
    validate::{Validated, Volume},
};
use crate::{
    apply::Error,
    conditions::Reason,
    context::Context,
    identity::ROLE,
    pods::{self, rollout, template},
};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steered {
    /// What the group waits for, on its way to what the spec says.
    pub waits_for: Option<(Reason, String)>,
    /// The requests that were seen to.
    pub handled: Option<LastHandled>,
    /// Whether a member was let be primary that may lack messages.
    pub promoted: bool,
}

/// Does the next step.
pub(super) async fn steer(
    context: &Context,
    resource: &BrokerGroup,
    group: &Validated,
    observed: &Observed,
    now: Timestamp,
) -> Result<Steered, Error> {
    let known = resource.status.as_ref().and_then(|status| status.last_handled.clone());
    let mut steered = Steered { handled: known, ..Steered::default() };
    let Some(reign) = observed.reign.as_ref().filter(|_| group.replication.is_some()) else {
        return Ok(steered);
    };
    let (answers, handled) = requests::answers(resource, group.replicas, reign, &observed.ready());
    steered.handled = handled;
    for answer in answers {
        steered.promoted |= grant(context, resource, group, reign, answer).await?;
    }
    label(context, observed).await?;

    let members = members(group, observed, now);
    let step = roll::next(&roll::Group {
        members: &members,
        reign,
        is_ephemeral: matches!(group.volume, Volume::Ephemeral { .. }),
        template_is_seen: rollout::template_is_seen(observed.stateful_set.as_deref()),
    });
    steered.waits_for = waits_for(group, &step);
    let wish = group.scale.hand_over_to.or(match step {
        Step::HandOver(ordinal) => Some(ordinal),
        Step::Done | Step::Replace(_) | Step::Wait(_) => None,
    });
    settle_wish(context, group, reign, wish).await?;
    if let Step::Replace(ordinal) = step
        && let Some(pod) = observed.pods.iter().find(|pod| pods::ordinal(pod) == Some(ordinal))
    {
        context.applier.replace_pod(pod).await?;
    }
    Ok(steered)
}

fn waits_for(group: &Validated, step: &Step) -> Option<(Reason, String)> {
    let scaling = group.scale.waits_for.clone().map(|what| (Reason::ScalingDown, what));
    scaling.or_else(|| match step {
        Step::Done => None,
        Step::Replace(ordinal) => {
            Some((Reason::RollingUpdate, format!("broker {ordinal} is being replaced")))
        }
        Step::HandOver(ordinal) => Some((
            Reason::Switchover,
            format!("the primary is to hand over to broker {ordinal}, and is replaced then"),
        )),
        Step::Wait(what) => Some((Reason::RollingUpdate, what.clone())),
    })
}

fn members(group: &Validated, observed: &Observed, now: Timestamp) -> Vec<Member> {
    let reign = observed.reign.clone().unwrap_or_default();
    let pod_of = |ordinal| observed.pods.iter().find(|pod| pods::ordinal(pod) == Some(ordinal));
    let look = |pod: &Pod| MemberPod {
        is_new: rollout::is_newest(observed.stateful_set.as_deref(), pod),
        replicates: template::takes_part(pod),
        is_ready: pods::is_ready(pod),
        unready_seconds: pods::unready_since(pod).map_or(0, |since| now.duration_since(since).as_secs()),
        is_stopping: pod.metadata.deletion_timestamp.is_some(),
        is_stuck: rollout::is_stuck(pod),
        reigns: reign.is_held_by(pod),
    };
    (0..group.replicas).map(|ordinal| Member { ordinal, pod: pod_of(ordinal).map(|pod| look(pod)) }).collect()
}

/// Sees to one request. Returns whether messages may be lost by it.
async fn grant(
    context: &Context,
    resource: &BrokerGroup,
    group: &Validated,
    reign: &Reign,
    answer: Answer,
) -> Result<bool, Error> {
    let about = resource.object_ref(&());
    let swap = async |ordinal: i32, change: serde_json::Value| {
        let (namespace, name) = (&group.identity.namespace, group.identity.base());
        let same_epoch = |lease: &k8s_openapi::api::coordination::v1::Lease| {
            (Reign::of(lease).epoch == reign.epoch).then(|| change.clone())
        };
        let done = context.applier.swap_lease(namespace, &name, same_epoch).await?;
        if !done {
            let note =
                format!("broker {ordinal} is not made primary: another was meanwhile; look, and ask again");
            context.events.tell(&about, true, "RequestRefused", &note);
        }
        Ok::<bool, Error>(done)
    };
    match answer {
        Answer::HandOver(ordinal) => {
            if swap(ordinal, reign::wish(ordinal)).await? {
                let note = format!("broker {ordinal} is to be primary next, as asked");
                context.events.tell(&about, false, "SwitchoverAsked", &note);
            }
            Ok(false)
        }
        Answer::Promote(ordinal) => {
            let done = swap(ordinal, reign::only(ordinal)).await?;
            if done {
                let note = format!(
                    "broker {ordinal} may be primary whatever it has, as asked: acknowledged messages may be lost"
                );
                context.events.tell(&about, true, "UncleanPromotion", &note);
            }
            Ok(done)
        }
        Answer::Refused(why) => {
            context.events.tell(&about, true, "RequestRefused", &why);
            Ok(false)
        }
        Answer::AlreadySo => Ok(false),
    }
}

/// Wishes a primary, and takes back a wish that came true.
async fn settle_wish(
    context: &Context,
    group: &Validated,
    reign: &Reign,
    wish: Option<i32>,
) -> Result<(), Error> {
    let (namespace, name) = (&group.identity.namespace, group.identity.base());
    match wish {
        Some(ordinal) if reign.wished != Some(ordinal) => {
            let wish = |live: &_| {
                let live = Reign::of(live);
                let holds = live.epoch == reign.epoch && live.in_sync.contains(&ordinal);
                (holds && live.wished != Some(ordinal)).then(|| reign::wish(ordinal))
            };
            context.applier.swap_lease(namespace, &name, wish).await?;
        }
        None if came_true(reign) => {
            let take_back = |live: &_| came_true(&Reign::of(live)).then(reign::no_wish);
            context.applier.swap_lease(namespace, &name, take_back).await?;
        }
        Some(_) | None => {}
    }
    Ok(())
}

fn came_true(reign: &Reign) -> bool {
    reign.wished.is_some() && reign.wished == reign.primary && reign.holder.is_some()
}

/// Tells people by a label which pod is the primary.
async fn label(context: &Context, observed: &Observed) -> Result<(), Error> {
    let primary = observed.reigning().map(ResourceExt::name_any);
    for pod in observed.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let role = if primary.as_ref() == Some(&pod.name_any()) { "primary" } else { "replica" };
        if pod.labels().get(ROLE).map(String::as_str) != Some(role) {
            context.applier.label_pod(pod, ROLE, role).await?;
        }
    }
    Ok(())
}
