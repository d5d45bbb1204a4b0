//! The condition CertificatesValid, from what the pods say that they show: the operator reads no Secret. Pure.

use crds::CertificateStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proto::control::CertificateState;

use crate::conditions::{self, Finding, Reason, Type};

/// Whoever renews certificates has done so long before. Of one that lives shorter it is the last fifth.
const SOON_MS: i64 = 14 * 24 * 3600 * 1000;

/// What the status said before.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Of the certificates.
    pub certificates: &'a [CertificateStatus],
    /// In all.
    pub conditions: &'a [Condition],
}

/// What the status says of the certificate of `secret`; nothing without one, or before a pod says anything.
///
/// Who is `silent`, as a pod that starts, may show what it showed before: so that stays, unless it is worse by now.
pub fn judge<'a>(
    secret: Option<&str>,
    shown: impl Iterator<Item = &'a CertificateState>,
    silent: bool,
    before: Before<'_>,
    now: Timestamp,
) -> (Vec<CertificateStatus>, Option<Finding>) {
    let Some(secret) = secret else { return (Vec::new(), None) };
    let former = before.certificates.iter().find(|it| silent && it.secret_name == secret).cloned();
    let former = former.zip(said(before.conditions));
    let told = match (told(secret, &shown.collect::<Vec<_>>(), now), former) {
        (Some((status, finding)), Some((former, was))) => Some((
            // Both are times in UTC, in one form.
            if former.not_after < status.not_after { former } else { status },
            if finding.holds { was } else { finding },
        )),
        (told, former) => told.or(former),
    };
    told.map_or_else(|| (Vec::new(), None), |(status, finding)| (vec![status], Some(finding)))
}

/// What the condition said.
fn said(conditions: &[Condition]) -> Option<Finding> {
    let said = conditions::of(conditions, Type::CertificatesValid)?;
    let mut reasons = [Reason::Valid, Reason::ExpiringSoon, Reason::Expired, Reason::Rejected].into_iter();
    let reason = reasons.find(|reason| reason.as_str() == said.reason)?;
    let (holds, message) = (said.status == "True", said.message.clone());
    Some(Finding { type_: Type::CertificatesValid, holds, reason, message })
}

/// What those say who answered.
fn told(secret: &str, shown: &[&CertificateState], now: Timestamp) -> Option<(CertificateStatus, Finding)> {
    let first = shown.iter().min_by_key(|state| state.not_after_ms)?;
    let CertificateState { not_before_ms, not_after_ms, problem: _ } = first;
    let not_after = Timestamp::from_millisecond(*not_after_ms).ok()?;
    let status = CertificateStatus { secret_name: secret.to_owned(), not_after: not_after.to_string() };
    let left_ms = not_after_ms.saturating_sub(now.as_millisecond());
    let soon_ms = (not_after_ms.saturating_sub(*not_before_ms) / 5).min(SOON_MS);
    let no = |reason, message| Finding::no(Type::CertificatesValid, reason, message);
    let renew =
        format!("put a new certificate into the Secret {secret}, or see why whoever renews it does not");
    let finding = if left_ms <= 0 {
        no(Reason::Expired, format!("the certificate expired at {not_after}: {renew}"))
    } else if let Some(refused) = shown.iter().find(|state| !state.problem.is_empty()) {
        let problem = &refused.problem;
        no(
            Reason::Rejected,
            format!("what the Secret {secret} holds cannot be used, the last one stays: {problem}"),
        )
    } else if left_ms <= soon_ms {
        no(Reason::ExpiringSoon, format!("the certificate expires at {not_after}: {renew}"))
    } else {
        Finding::yes(
            Type::CertificatesValid,
            Reason::Valid,
            format!("the certificate holds until {not_after}"),
        )
    };
    Some((status, finding))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3600 * 1000;

    fn state(days: std::ops::Range<i64>, problem: &str) -> CertificateState {
        CertificateState {
            not_before_ms: days.start * DAY_MS,
            not_after_ms: days.end * DAY_MS,
            problem: problem.to_owned(),
        }
    }

    const NOTHING: Before<'static> = Before { certificates: &[], conditions: &[] };

    #[test]
    fn who_is_silent_may_show_what_it_showed() {
        let now = Timestamp::from_millisecond(100 * DAY_MS).unwrap();
        let (certificates, finding) =
            judge(Some("mq-tls"), [state(0..105, "no key")].iter(), false, NOTHING, now);
        let conditions = conditions::conditions(&[], finding.into_iter().collect(), None, now);
        let before = Before { certificates: &certificates, conditions: &conditions };
        let check = |secret, shown: &[CertificateState], silent, expected: Option<(Reason, &str)>| {
            let (status, finding) = judge(Some(secret), shown.iter(), silent, before, now);
            let found = finding.as_ref().zip(status.first());
            let found = found.map(|(finding, status)| (finding.reason, status.not_after.as_str()));
            assert_eq!(found, expected, "{shown:?}");
        };
        let was = Some((Reason::Rejected, "1970-04-16T00:00:00Z"));
        check("mq-tls", &[], true, was);
        check("mq-tls", &[state(0..200, "")], true, was);
        check("mq-tls", &[state(0..200, "")], false, Some((Reason::Valid, "1970-07-20T00:00:00Z")));
        check("mq-tls", &[state(0..100, "")], true, Some((Reason::Expired, "1970-04-11T00:00:00Z")));
        check("another", &[], true, None);
        check("mq-tls", &[], false, None);
    }

    #[test]
    fn the_first_to_expire_decides() {
        let check = |shown: &[CertificateState], expected: Option<(Reason, &str)>| {
            let now = Timestamp::from_millisecond(100 * DAY_MS).unwrap();
            let (status, finding) = judge(Some("mq-tls"), shown.iter(), false, NOTHING, now);
            let found = finding.as_ref().zip(status.first());
            let found = found.map(|(finding, status)| (finding.reason, status.not_after.as_str()));
            assert_eq!(found, expected, "{shown:?}");
            assert!(judge(None, shown.iter(), true, NOTHING, now).1.is_none());
        };
        check(&[], None);
        check(&[state(0..200, "")], Some((Reason::Valid, "1970-07-20T00:00:00Z")));
        check(&[state(0..200, ""), state(10..114, "")], Some((Reason::ExpiringSoon, "1970-04-25T00:00:00Z")));
        check(&[state(0..115, "")], Some((Reason::Valid, "1970-04-26T00:00:00Z")));
        // One for ten days is renewed often.
        check(&[state(93..103, "")], Some((Reason::Valid, "1970-04-14T00:00:00Z")));
        check(&[state(92..102, "")], Some((Reason::ExpiringSoon, "1970-04-13T00:00:00Z")));
        check(&[state(0..100, "")], Some((Reason::Expired, "1970-04-11T00:00:00Z")));
        check(
            &[state(0..200, ""), state(0..200, "no key")],
            Some((Reason::Rejected, "1970-07-20T00:00:00Z")),
        );
    }
}
