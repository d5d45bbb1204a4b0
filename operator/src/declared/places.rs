//! The broker groups of the cluster, all asked at once.

use futures::future::join_all;

use super::{
    Brought, Declared, Failure, Place, State,
    decide::Told,
    observe::{Group, Observed},
};
use crate::context::Context;

/// What came of it on the broker groups.
#[derive(Debug)]
pub struct Placed<P> {
    /// Those that shall have it, and those that it leaves; in order of their names.
    pub places: Vec<P>,
    /// What somebody else had changed, and was put right.
    pub reverted: Vec<String>,
    /// Whether something is under way, or failed, that nobody will tell of.
    pub look_again: bool,
}

/// Makes it so on every group. A group that cannot be reached keeps what was known of it.
pub async fn bring<K: Declared>(context: &Context, resource: &K, observed: &Observed) -> Placed<K::Place> {
    let known = known(resource);
    let chosen = observed.groups.iter().filter(|group| group.chosen);
    let all = join_all(chosen.map(|group| bring_to(context, resource, group, known))).await;
    let (mut places, mut reverted, mut look_again) = (Vec::new(), Vec::new(), false);
    for (Brought { place, reverted: what }, again) in all {
        reverted.extend(what.map(|what| format!("{}: {what}", place.group())));
        places.push(place);
        look_again |= again;
    }
    places.extend(resource.missing(&observed.groups).map(|name| {
        let message = "there is no BrokerGroup of this name: make it, or choose others in placement";
        K::Place::without(name, State::Unavailable, message.to_owned())
    }));
    let arrived = places.iter().all(|place| is_done(place.state()));
    let others = observed.groups.iter().filter(|group| !group.chosen);
    let leaving = join_all(others.map(|group| withdraw_from(context, resource, group, arrived))).await;
    for (place, again) in leaving {
        places.extend(place);
        look_again |= again;
    }
    places.sort_by(|a, b| a.group().cmp(b.group()));
    Placed { places, reverted, look_again }
}

/// Also returns whether it is to be looked at again without anybody telling of a change.
async fn withdraw_from<K: Declared>(
    context: &Context,
    resource: &K,
    group: &Group,
    arrived: bool,
) -> (Option<K::Place>, bool) {
    let outcome = match &group.address {
        Ok(address) => {
            context.followers.follow(&group.reference, address).await;
            resource.withdraw(context, &group.name, address, arrived).await
        }
        Err(why) => Err(Failure::Unavailable(why.clone())),
    };
    let without = |state, message| Some(K::Place::without(&group.name, state, message));
    let place = match outcome {
        Ok(place) => place,
        // Where it never was, nothing waits for the broker.
        Err(Failure::Unavailable(_)) if !was_on(resource, group) => None,
        Err(Failure::Unavailable(why)) => {
            without(State::Unavailable, format!("it leaves this group when the broker can be asked: {why}"))
        }
        Err(Failure::Foreign(why) | Failure::Rejected(why)) => {
            without(State::Rejected, format!("it cannot leave this group: {why}"))
        }
    };
    let look_again = arrived && place.is_some() && group.address.is_ok();
    (place, look_again)
}

/// Also returns whether it is to be looked at again without anybody telling of a change. A broker that cannot be asked yet comes with
/// a change of its pod or its group, and what others have tells of itself; that nothing is strange any more tells nobody.
async fn bring_to<K: Declared>(
    context: &Context,
    resource: &K,
    group: &Group,
    known: &[K::Place],
) -> (Brought<K::Place>, bool) {
    let known = known.iter().find(|known| known.group() == group.name);
    let outcome = match &group.address {
        Ok(address) => {
            // From before it is looked at, so that no change is missed.
            context.followers.follow(&group.reference, address).await;
            resource.bring(context, &group.name, address, known.map(Place::state)).await
        }
        Err(why) => Err(Failure::Unavailable(why.clone())),
    };
    let look_again = group.address.is_ok()
        && match &outcome {
            Ok(brought) => matches!(brought.place.state(), State::Draining | State::Drifted),
            Err(Failure::Unavailable(_) | Failure::Rejected(_)) => true,
            Err(Failure::Foreign(_)) => false,
        };
    let place = match (outcome, known) {
        (Ok(brought), _) => return (brought, look_again),
        // A broker that starts again undoes nothing and gives nothing back: it is looked at when it is ready.
        (Err(Failure::Unavailable(_)), Some(known)) if Told::of(Some(known.state())) != Told::Nothing => {
            known.clone()
        }
        (Err(failure), _) => {
            let (state, message) = match failure {
                Failure::Unavailable(message) => (State::Unavailable, message),
                Failure::Foreign(message) => (State::Foreign, message),
                Failure::Rejected(message) => (State::Rejected, message),
            };
            K::Place::without(&group.name, state, message)
        }
    };
    (Brought { place, reverted: None }, look_again)
}

fn is_done(state: State) -> bool {
    Told::of(Some(state)) == Told::Made
}

/// What is known of the groups from before, if it is about the spec of today.
fn known<K: Declared>(resource: &K) -> &[K::Place] {
    let parts = resource.current().map(K::parts);
    match parts {
        Some((observed, places, _)) if observed == resource.meta().generation => places,
        _ => &[],
    }
}

/// Whether the status says, whichever spec it is about, that the group may have it.
fn was_on<K: Declared>(resource: &K, group: &Group) -> bool {
    let places = resource.current().map(|status| K::parts(status).1).unwrap_or_default();
    places.iter().any(|place| place.group() == group.name)
}

/// What the status says of one group, if it is about the spec of today.
pub fn known_of<K: Declared>(resource: &K, group: &str) -> Option<State> {
    known(resource).iter().find(|place| place.group() == group).map(Place::state)
}

/// Takes it from every group. Returns what is in the way, group by group; nothing when it is gone.
pub async fn take_away<K: Declared>(
    context: &Context,
    resource: &K,
    observed: &Observed,
) -> Vec<(String, String)> {
    let work = observed.groups.iter().map(|group| async move {
        let outcome = match &group.address {
            Ok(address) => resource.take_away(context, address).await,
            // Nobody has put it where nobody could, or where it was not to be.
            Err(_) if !group.has_served || !(group.chosen || was_on(resource, group)) => Ok(()),
            Err(why) => Err(why.clone()),
        };
        outcome.err().map(|why| (group.name.clone(), why))
    });
    join_all(work).await.into_iter().flatten().collect()
}
