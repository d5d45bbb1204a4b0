//! Steers a replicated group: asks for another primary, replaces pods, sees to what people ask for by annotation.
//!
//! What to do is decided in [`super::roll`], [`super::scale`] and [`super::requests`]; here it is done, one step a reconcile.

use crds::{BrokerGroup, LastHandled};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource as _, ResourceExt};

use super::{
    drain,
    failover::{self, Held},
    observe::Observed,
    reign::{self, Bounds, Reign},
    requests::{self, Answer},
    roll::{self, Member, MemberPod, Step},
    validate::{Validated, Volume},
};
use crate::{
    apply::Error,
    conditions::{self, Reason, Type},
    context::Context,
    identity::ROLE,
    pods::{
        self,
        in_turn::{self, Turn},
        manner::Manner,
        rollout, template,
    },
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
    if group.hibernates {
        return Ok(steered);
    }
    let manner = Manner::of(&group.update, now);
    if group.replication.is_none() {
        let step = alone(group, observed, &manner, now);
        steered.waits_for = waits_for(group, &step);
        replace(context, observed, &step).await?;
        return Ok(steered);
    }
    let Some(reign) = observed.reign.as_ref() else { return Ok(steered) };
    let before = resource.status.as_ref().and_then(|status| status.failovers.as_ref());
    let failovers = failover::counted(before, reign, now);
    let held = failover::held(&group.failover, &failovers, now);
    bid(context, group, reign, held.is_some()).await?;
    let mut there = observed.ready();
    if failover::kept_back(&group.fenced, observed, held).is_some() {
        // Without a primary nobody is Ready, and these only wait for a person.
        there.extend(observed.pods.iter().filter(|pod| pods::runs(pod)).filter_map(|pod| pods::ordinal(pod)));
    }
    let (answers, handled) = requests::answers(resource, group.replicas, reign, &there);
    steered.handled = handled;
    for answer in answers {
        steered.promoted |= grant(context, resource, group, reign, answer).await?;
    }
    label(context, observed).await?;

    let members = members(group, observed, now);
    let roll = roll::Group {
        members: &members,
        reign,
        is_ephemeral: matches!(group.volume, Volume::Ephemeral { .. }),
        template_is_seen: rollout::template_is_seen(observed.stateful_set.as_deref()),
        manner: &manner,
        fenced: &group.fenced,
    };
    let (step, refuge) = (roll::next(&roll), roll::refuge(&roll));
    let (refuge, why) = refuge.unzip();
    steered.waits_for = waits_for(group, &step).or_else(|| why.map(|why| (Reason::Switchover, why)));
    let preferred = group.preferred.filter(|preferred| {
        let turn = failover::Turn {
            settled: settled(resource, now),
            failovers: failovers.recent.len(),
            asked: requests::asked_for(resource),
        };
        let is_free = steered.waits_for.is_none() && !drain::is_asked(resource);
        is_free && !matches!(held, Some(Held::Backoff(_))) && failover::is_its_turn(&roll, *preferred, turn)
    });
    if let Some(preferred) = preferred {
        let what = format!("broker {preferred} is spec.preferredPrimary and is to take over");
        steered.waits_for = Some((Reason::Switchover, what));
    }
    let rolled = match step {
        Step::HandOver(ordinal) => Some(ordinal),
        Step::Done | Step::Replace(_) | Step::Wait(_) | Step::Hold(_) => None,
    };
    let wish = group.scale.hand_over_to.or(rolled).or(refuge.flatten()).or(preferred);
    settle_wish(context, group, reign, wish).await?;
    replace(context, observed, &step).await?;
    Ok(steered)
}

/// Tells members who must not be primary, whether they settle it by themselves, and how many must be in sync. The first primary is
/// whoever can be.
async fn bid(context: &Context, group: &Validated, reign: &Reign, held: bool) -> Result<(), Error> {
    let differs = |live: &Reign| {
        let least = group.replication.as_ref().map(|replication| live.min_in_sync(replication.min_in_sync));
        let wanted = Bounds { fenced: group.fenced.clone(), held, min_in_sync: least };
        (live.epoch > 0 && live.bounds != wanted).then_some(wanted)
    };
    if differs(reign).is_none() {
        return Ok(());
    }
    let change = |live: &_| differs(&Reign::of(live)).map(|bounds| reign::bid(&bounds));
    context.applier.swap_lease(&group.identity.namespace, &group.identity.base(), change).await?;
    Ok(())
}

/// For how many seconds the group has served, with every broker in sync.
fn settled(resource: &BrokerGroup, now: Timestamp) -> i64 {
    let conditions = resource.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let since = |type_| {
        let condition = conditions::of(conditions, type_).filter(|condition| condition.status == "True");
        condition.map_or(0, |condition| now.duration_since(condition.last_transition_time.0).as_secs())
    };
    since(Type::Ready).min(since(Type::ReplicationHealthy))
}

/// What is next for a broker that is alone.
fn alone(group: &Validated, observed: &Observed, manner: &Manner, now: Timestamp) -> Step {
    let set = observed.stateful_set.as_deref();
    if !rollout::template_is_seen(set) {
        return Step::Done;
    }
    let pods: Vec<Turn> = observed.pods.iter().filter_map(|pod| Turn::of(pod, set, now)).collect();
    // Others are on their way out: their StatefulSet sees to them.
    let stays: Vec<Turn> = pods.into_iter().filter(|pod| pod.ordinal < group.replicas).collect();
    in_turn::next(&stays, group.replicas, manner)
}

async fn replace(context: &Context, observed: &Observed, step: &Step) -> Result<(), Error> {
    let Step::Replace(ordinal) = step else { return Ok(()) };
    match observed.pods.iter().find(|pod| pods::ordinal(pod) == Some(*ordinal)) {
        Some(pod) => context.applier.replace_pod(pod).await,
        None => Ok(()),
    }
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
        Step::Hold(why) => Some((Reason::RolloutPaused, why.clone())),
    })
}

fn members(group: &Validated, observed: &Observed, now: Timestamp) -> Vec<Member> {
    let reign = observed.reign.clone().unwrap_or_default();
    let pod_of = |ordinal| observed.pods.iter().find(|pod| pods::ordinal(pod) == Some(ordinal));
    let look = |pod: &Pod| MemberPod {
        is_new: rollout::is_newest(observed.stateful_set.as_deref(), pod),
        replicates: template::takes_part(pod.spec.as_ref()),
        is_ready: pods::is_ready(pod),
        seconds: pods::since(pod).map_or(0, |since| now.duration_since(since).as_secs()),
        is_stopping: pod.metadata.deletion_timestamp.is_some(),
        is_stuck: rollout::is_stuck(pod),
        reigns: reign.is_held_by(pod),
        is_leaving: pods::ordinal(pod).is_some_and(|ordinal| observed.leaving.contains(&ordinal)),
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
        Answer::Promote(ordinal, request) => {
            let done = swap(ordinal, reign::only(ordinal, &request)).await?;
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
