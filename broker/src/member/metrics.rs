//! What a member shows of replication, whatever its role: counts for as long as the process lives, and how it stands now.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use replication::{Now, Role, Standing, Why};
use store::LogOffset;

use super::door::ReplicationDoor;
use super::open::Open;

/// Counted over all reigns. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) reigns: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) received_bytes: Counter,
    step_downs: Family<Reason, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    member: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InRole {
    role: &'static str,
}

impl Counts {
    /// A reign ended.
    pub(super) fn stepped_down(&self, why: Why) {
        let reason = match why {
            Why::Deposed => "deposed",
            Why::HandedOver => "handed_over",
            Why::Expired => "expired",
        };
        self.step_downs.get_or_create(&Reason { reason }).inc();
    }

    /// Everything, of what is open behind this door.
    pub(super) fn registry(&self, door: ReplicationDoor) -> Registry {
        let Self { reigns, sent_bytes, received_bytes, step_downs } = self.clone();
        let mut registry = Registry::default();
        registry.register("gantry_replication_reigns", "Elections that this member won", reigns);
        registry.register(
            "gantry_replication_step_downs",
            "Reigns of this member that ended: handed_over, deposed by another, or expired (Async only)",
            step_downs,
        );
        registry.register_with_unit(
            "gantry_replication_sent",
            "Bytes of log sent to followers",
            Unit::Bytes,
            sent_bytes,
        );
        registry.register_with_unit(
            "gantry_replication_received",
            "Bytes of log received from primaries",
            Unit::Bytes,
            received_bytes,
        );
        registry.register_collector(Box::new(Shows(door)));
        registry
    }
}

/// How far a replica is behind its primary.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// Where the primary's log ended when it last said so.
    end: LogOffset,
    /// When this member last had all of that.
    level_at: Option<Now>,
}

impl Behind {
    /// The primary's log ends here, and this member has its log up to `own`.
    pub(super) fn heard(&mut self, now: Now, end: LogOffset, own: LogOffset) {
        self.end = end;
        if own >= end {
            self.level_at = Some(now);
        }
    }

    /// In bytes and in time; `None`: it never had everything.
    fn lag(&self, now: Now, own: LogOffset, follows: bool) -> (u64, Option<Duration>) {
        let bytes = self.end.0.saturating_sub(own.0);
        let level = follows && bytes == 0 && self.level_at.is_some();
        (bytes, if level { Some(Duration::ZERO) } else { self.level_at.map(|at| now.since(at)) })
    }
}

/// Asks at each scrape how it stands.
struct Shows(ReplicationDoor);

impl std::fmt::Debug for Shows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shows").finish_non_exhaustive()
    }
}

impl Collector for Shows {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self.0.opened() {
            Some(open) => show(&open, &mut encoder),
            // The log is being opened.
            None => Ok(()),
        }
    }
}

fn show(open: &Open, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let now = open.now();
    let (role, epoch, in_sync, follows, followers) = open.ask(|member| {
        let in_sync = member.lease().map_or(0, |lease| lease.in_sync.len());
        let followers: Vec<_> = member.followers(now).collect();
        (member.role(), member.epoch(), in_sync, member.is_following(), followers)
    });
    let end = *open.appended.borrow();
    let confirmed = open.confirmed.borrow().0;

    let role_name = match role {
        Role::Looking => "looking",
        Role::Replica(_) => "replica",
        Role::Standing => "standing",
        Role::Primary(_) => "primary",
    };
    let mut roles = family(encoder, "gantry_replication_role", "1 for what this member is", None)?;
    for name in ["looking", "replica", "standing", "primary"] {
        ConstGauge::new(i64::from(name == role_name)).encode(roles.encode_family(&InRole { role: name })?)?;
    }
    for (name, help, value) in [
        ("gantry_replication_epoch", "The highest epoch that this member saw", epoch.0),
        (
            "gantry_replication_in_sync",
            "Members of the in-sync set, as this member last read it",
            in_sync as u64,
        ),
        (
            "gantry_replication_confirmed_offset",
            "Everything in the log below is on all in-sync members",
            confirmed,
        ),
        ("gantry_replication_log_end_offset", "The end of this member's log", end.0),
    ] {
        gauge(encoder, name, help, None, number(value))?;
    }
    if !matches!(role, Role::Primary(_)) {
        let (bytes, lag) = open.behind.lock().lag(now, end, follows);
        gauge(
            encoder,
            "gantry_replication_lag",
            "What this replica lacks of the primary's log",
            Some(&Unit::Bytes),
            number(bytes),
        )?;
        if let Some(lag) = lag {
            let help = "Since when this replica lacks something, or hears nothing of the primary";
            gauge(encoder, "gantry_replication_lag", help, Some(&Unit::Seconds), lag.as_secs_f64())?;
        }
        return Ok(());
    }
    of_each(
        encoder,
        &followers,
        ("gantry_replication_follower_connected", "1 while a follower is connected"),
        None,
        |follower| i64::from(follower.connected),
    )?;
    let lacks = ("gantry_replication_follower_lag", "What a follower lacks of this primary's log");
    of_each(encoder, &followers, lacks, Some(&Unit::Bytes), |follower| number(follower.lag_bytes))?;
    let since = ("gantry_replication_follower_lag", "Since when a follower lacks something");
    of_each(encoder, &followers, since, Some(&Unit::Seconds), |follower| follower.lag.as_secs_f64())
}

/// Of the same kind, told apart by labels.
fn family<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
    unit: Option<&'a Unit>,
) -> Result<MetricEncoder<'a>, std::fmt::Error> {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl EncodeGaugeValue,
) -> Result<(), std::fmt::Error> {
    ConstGauge::new(value).encode(family(encoder, name, help, unit)?)
}

fn of_each<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    followers: &[Standing],
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    value: impl Fn(&Standing) -> N,
) -> Result<(), std::fmt::Error> {
    let mut family = family(encoder, name, help, unit)?;
    for follower in followers {
        let place = Place { member: follower.member.ordinal.0 };
        ConstGauge::new(value(follower)).encode(family.encode_family(&place)?)?;
    }
    Ok(())
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
