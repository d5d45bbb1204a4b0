//! What to do about what one broker has. Pure.

use crds::{Adoption, DriftPolicy, ManagementPolicy};

use super::{State, owner::Owner};

/// What the spec allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether what is there already becomes ours.
    pub adoption: Adoption,
    /// What happens to somebody else's changes.
    pub drift: DriftPolicy,
    /// Whether brokers are changed at all.
    pub management: ManagementPolicy,
}

/// What the broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// Nothing of this name.
    Absent,
    /// One that is just as declared: stamp included, unless it is only observed.
    Same,
    /// One that differs.
    Differs(Owner),
}

/// What the status says already of the spec of today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing that counts.
    Nothing,
    /// It was made so.
    Made,
    /// It is somebody else's.
    Foreign,
}

impl Told {
    /// From what is known of the broker group.
    pub fn of(known: Option<State>) -> Self {
        match known {
            Some(State::Applied | State::Draining | State::Drifted) => Self::Made,
            Some(State::Foreign) => Self::Foreign,
            Some(State::Unavailable | State::Rejected) | None => Self::Nothing,
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is as declared.
    Leave,
    /// Make it so. `reverts`: it was so, and somebody else changed it.
    Write {
        /// Not where somebody else stamps it meanwhile.
        only_if_unowned: bool,
        /// Somebody else's change is undone.
        reverts: bool,
    },
    /// It is somebody else's.
    Foreign,
    /// It differs, and stays so.
    Drifted,
}

/// What to do about what one broker has.
pub fn decide(rules: Rules, live: Live, told: Told) -> Decision {
    let Rules { adoption, drift, management } = rules;
    if management == ManagementPolicy::ObserveOnly {
        return if live == Live::Same { Decision::Leave } else { Decision::Drifted };
    }
    // Taken once, and left to whoever takes it back: two that adopt always would never end.
    if let Live::Differs(Owner::Other) = live
        && (adoption != Adoption::Always || told != Told::Nothing)
    {
        return Decision::Foreign;
    }
    let told = told == Told::Made;
    match live {
        Live::Same if told => Decision::Leave,
        // What is so already is asked for too, once: the answer means that name servers show it.
        Live::Same => Decision::Write { only_if_unowned: true, reverts: false },
        Live::Absent | Live::Differs(_) if told && drift == DriftPolicy::Report => Decision::Drifted,
        Live::Absent | Live::Differs(Owner::Us) => Decision::Write { only_if_unowned: true, reverts: told },
        Live::Differs(Owner::Nobody) if adoption == Adoption::Never && !told => Decision::Foreign,
        Live::Differs(Owner::Nobody | Owner::Other) => {
            Decision::Write { only_if_unowned: false, reverts: told }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Decision = Decision::Write { only_if_unowned: true, reverts: false };
    const TAKE: Decision = Decision::Write { only_if_unowned: false, reverts: false };
    const REVERT: Decision = Decision::Write { only_if_unowned: true, reverts: true };

    #[track_caller]
    fn check(rules: Rules, live: Live, expected: [Decision; 2]) {
        let decided = [Told::Nothing, Told::Made].map(|told| decide(rules, live, told));
        assert_eq!(decided, expected, "{rules:?} {live:?}");
    }

    #[test]
    fn what_was_taken_back_stays_with_whoever_has_it_until_they_let_go() {
        let always = Rules { adoption: Adoption::Always, ..Rules::default() };
        assert_eq!(decide(always, Live::Differs(Owner::Other), Told::Foreign), Decision::Foreign);
        assert_eq!(decide(always, Live::Differs(Owner::Nobody), Told::Foreign), TAKE);
        assert_eq!(decide(always, Live::Absent, Told::Foreign), WRITE);
    }

    #[test]
    fn what_is_declared_is_made_so_and_made_so_again() {
        let rules = Rules::default();
        check(rules, Live::Absent, [WRITE, REVERT]);
        check(rules, Live::Same, [WRITE, Decision::Leave]);
        check(rules, Live::Differs(Owner::Us), [WRITE, REVERT]);
        let reverts = Decision::Write { only_if_unowned: false, reverts: true };
        check(rules, Live::Differs(Owner::Nobody), [TAKE, reverts]);
        check(rules, Live::Differs(Owner::Other), [Decision::Foreign; 2]);
    }

    #[test]
    fn adoption_says_whose_become_ours() {
        let always = Rules { adoption: Adoption::Always, ..Rules::default() };
        check(always, Live::Differs(Owner::Other), [TAKE, Decision::Foreign]);
        let never = Rules { adoption: Adoption::Never, ..Rules::default() };
        let reverts = Decision::Write { only_if_unowned: false, reverts: true };
        check(never, Live::Differs(Owner::Nobody), [Decision::Foreign, reverts]);
        check(never, Live::Absent, [WRITE, REVERT]);
    }

    #[test]
    fn what_is_only_reported_is_made_once_for_each_spec() {
        let report = Rules { drift: DriftPolicy::Report, ..Rules::default() };
        check(report, Live::Absent, [WRITE, Decision::Drifted]);
        check(report, Live::Differs(Owner::Us), [WRITE, Decision::Drifted]);
        check(report, Live::Same, [WRITE, Decision::Leave]);
        check(report, Live::Differs(Owner::Other), [Decision::Foreign; 2]);
    }

    #[test]
    fn what_is_only_observed_is_never_changed() {
        let observe = Rules { management: ManagementPolicy::ObserveOnly, ..Rules::default() };
        for whose in [Owner::Us, Owner::Nobody, Owner::Other] {
            check(observe, Live::Differs(whose), [Decision::Drifted; 2]);
        }
        check(observe, Live::Absent, [Decision::Drifted; 2]);
        check(observe, Live::Same, [Decision::Leave; 2]);
    }
}
