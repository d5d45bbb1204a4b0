//! Which faults come, and in which order: drawn from a seed, so that the seed repeats them. Pure.

use std::fmt;
use std::time::Duration;

use trials::dice::Dice;

/// Whom it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Whoever is the primary then.
    Primary,
    /// One of the others.
    Replica,
}

/// Which way a cut goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing comes through.
    Both,
    /// It hears nothing of the others, and they hear it.
    Deaf,
    /// They hear nothing of it, and it hears them.
    Mute,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9 of the process.
    Killed(Who),
    /// The pod is deleted, and has its time to end.
    Deleted(Who),
    /// The pod is deleted by force.
    Forced(Who),
    /// The process is frozen until the kubelet kills it, or so long.
    Frozen(Who, u64),
    /// The process is frozen, nobody kills it, and it goes on after so many seconds.
    Resumed(Who, u64),
    /// Its node is cut off from those of the other members.
    Apart(Who, Way, u64),
    /// Its node is cut off from the API server.
    Unheard(Who, Way, u64),
    /// The cable of its node is pulled.
    Unplugged(Who, u64),
    /// What its node sends passes a slow cable of so many kbit/s.
    Slow(Who, u64, u64),
    /// Its node loses its power, and has it again.
    NodeLost(Who, u64),
    /// Its node is lost, and its volume with it.
    VolumeLost(Who),
    /// The API server is frozen.
    ApiFrozen(u64),
    /// The API server is killed, and started again.
    ApiKilled(u64),
    /// The primary is killed while the operator is gone.
    WithoutOperator,
    /// The primary is killed while the API server is frozen.
    WithoutApi(u64),
    /// Another primary is asked for by annotation.
    Switchover,
    /// Another primary is asked for with `gantry failover`.
    Command,
    /// Another primary is asked for, and is killed at once.
    HeirKilled,
    /// The primary and another are killed at once.
    TwoKilled,
    /// All are killed at once.
    AllKilled,
}

/// What the place allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The API of a cluster that others use too.
    Api,
    /// Its processes as well: they run on this machine.
    Processes,
    /// Everything: the cluster is ours alone.
    Machines,
}

impl Fault {
    /// From where it can be done.
    #[must_use]
    pub(super) fn needs(self) -> Reach {
        match self {
            Self::Deleted(_) | Self::Forced(_) | Self::Switchover | Self::Command => Reach::Api,
            Self::Killed(_) | Self::Frozen(..) | Self::HeirKilled | Self::TwoKilled | Self::AllKilled => {
                Reach::Processes
            }
            Self::Resumed(..)
            | Self::Apart(..)
            | Self::Unheard(..)
            | Self::Unplugged(..)
            | Self::Slow(..)
            | Self::NodeLost(..)
            | Self::VolumeLost(_)
            | Self::ApiFrozen(_)
            | Self::ApiKilled(_)
            | Self::WithoutOperator
            | Self::WithoutApi(_) => Reach::Machines,
        }
    }

    /// How long at most no send should be acknowledged, where that is promised, with a Lease of this duration.
    #[must_use]
    pub(super) fn goal(self, lease: Duration) -> Option<Duration> {
        match self {
            Self::Killed(Who::Primary) | Self::Forced(Who::Primary) | Self::WithoutOperator => {
                Some(Duration::from_secs(3))
            }
            Self::Frozen(Who::Primary, _)
            | Self::Resumed(Who::Primary, _)
            | Self::Apart(Who::Primary, ..)
            | Self::Unplugged(Who::Primary, _) => Some(lease + Duration::from_secs(1)),
            Self::NodeLost(Who::Primary, _) | Self::VolumeLost(Who::Primary) => Some(Duration::from_secs(10)),
            Self::Deleted(Who::Primary) | Self::Switchover | Self::Command => {
                Some(Duration::from_millis(500))
            }
            _ => None,
        }
    }

    /// Every kind once, with times and rates that the dice say; those that last as long as one likes last for `lasting` seconds, if
    /// that is said.
    fn every(dice: &mut Dice, lasting: Option<u64>) -> Vec<Self> {
        let mut number = |from: u64, to: u64| from + dice.below(to - from + 1);
        let seconds = |thrown| lasting.unwrap_or(thrown);
        let mut every = vec![
            Self::ApiFrozen(seconds(number(10, 40))),
            Self::ApiKilled(seconds(number(10, 60))),
            Self::WithoutOperator,
            Self::WithoutApi(seconds(number(5, 20))),
            Self::Switchover,
            Self::Command,
            Self::HeirKilled,
            Self::TwoKilled,
            Self::AllKilled,
        ];
        for who in [Who::Primary, Who::Replica] {
            every.extend([
                Self::Killed(who),
                Self::Deleted(who),
                Self::Forced(who),
                Self::Frozen(who, 15),
                Self::Resumed(who, seconds(number(9, 20))),
                Self::Unplugged(who, seconds(number(10, 25))),
                Self::Slow(who, number(400, 2000), seconds(number(10, 20))),
                Self::NodeLost(who, seconds(number(15, 30))),
                Self::VolumeLost(who),
            ]);
            for way in [Way::Both, Way::Deaf, Way::Mute] {
                every.push(Self::Apart(who, way, seconds(number(10, 25))));
                every.push(Self::Unheard(who, way, seconds(number(10, 25))));
            }
        }
        every
    }
}

/// So many faults of this seed: every kind that is in reach once before any comes again, each round in another order.
#[must_use]
pub(super) fn draw(seed: u64, count: usize, reach: Reach, lasting: Option<u64>) -> Vec<Fault> {
    let mut dice = Dice::new(seed);
    let mut drawn = Vec::new();
    while drawn.len() < count {
        let mut round: Vec<_> =
            Fault::every(&mut dice, lasting).into_iter().filter(|fault| fault.needs() <= reach).collect();
        while !round.is_empty() {
            drawn.push(round.swap_remove(dice.below(round.len() as u64) as usize));
        }
    }
    drawn.truncate(count);
    drawn
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both ways",
            Self::Deaf => "it hears nothing",
            Self::Mute => "it is not heard",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(who) => write!(f, "{who}: process killed"),
            Self::Deleted(who) => write!(f, "{who}: pod deleted"),
            Self::Forced(who) => write!(f, "{who}: pod deleted by force"),
            Self::Frozen(who, _) => write!(f, "{who}: process frozen, killed by the kubelet"),
            Self::Resumed(who, s) => write!(f, "{who}: process frozen for {s} s, then goes on"),
            Self::Apart(who, way, s) => write!(f, "{who}: cut off from the members for {s} s, {way}"),
            Self::Unheard(who, way, s) => write!(f, "{who}: cut off from the API server for {s} s, {way}"),
            Self::Unplugged(who, s) => write!(f, "{who}: cable of the node pulled for {s} s"),
            Self::Slow(who, kbit, s) => write!(f, "{who}: a link of {kbit} kbit/s for {s} s"),
            Self::NodeLost(who, s) => write!(f, "{who}: node without power for {s} s"),
            Self::VolumeLost(who) => write!(f, "{who}: node and volume lost"),
            Self::ApiFrozen(s) => write!(f, "API server frozen for {s} s"),
            Self::ApiKilled(s) => write!(f, "API server stopped for {s} s"),
            Self::WithoutOperator => f.write_str("primary: process killed while the operator is gone"),
            Self::WithoutApi(s) => write!(f, "primary: process killed, API server frozen for {s} s"),
            Self::Switchover => f.write_str("switchover by annotation"),
            Self::Command => f.write_str("switchover by gantry failover"),
            Self::HeirKilled => f.write_str("switchover, and the heir killed at once"),
            Self::TwoKilled => f.write_str("primary and a replica killed at once"),
            Self::AllKilled => f.write_str("all three killed at once"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_faults_and_others_differ() {
        let text = |seed| format!("{:?}", draw(seed, 60, Reach::Machines, None));
        assert_eq!(text(3), text(3));
        assert_ne!(text(3), text(4));
    }

    #[test]
    fn every_kind_in_reach_comes_before_any_comes_again() {
        for reach in [Reach::Api, Reach::Processes, Reach::Machines] {
            let every = Fault::every(&mut Dice::new(1), None);
            let kinds: Vec<_> = every.into_iter().filter(|fault| fault.needs() <= reach).collect();
            let mut first: Vec<_> = draw(5, kinds.len(), reach, None)
                .iter()
                .map(|fault| fault.to_string().replace(char::is_numeric, ""))
                .collect();
            first.sort();
            let mut wanted: Vec<_> =
                kinds.iter().map(|fault| fault.to_string().replace(char::is_numeric, "")).collect();
            wanted.sort();
            assert_eq!(first, wanted);
        }
    }

    #[test]
    fn faults_last_as_long_as_is_said() {
        let drawn = draw(3, 42, Reach::Machines, Some(600));
        let frozen = drawn.iter().find(|fault| matches!(fault, Fault::ApiFrozen(_)));
        assert_eq!(frozen.map(ToString::to_string).as_deref(), Some("API server frozen for 600 s"));
        // The kubelet kills it when it does.
        assert!(drawn.contains(&Fault::Frozen(Who::Primary, 15)));
    }
}
