//! From when until when a certificate holds, read from its DER (RFC 5280, 4.1). The rest of it is for those who check it.

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before_ms: i64,
    pub(super) not_after_ms: i64,
}

impl Validity {
    /// Nothing where the bytes are no certificate.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (certificate, _) = of_kind(der, SEQUENCE)?;
        let (to_be_signed, _) = of_kind(certificate, SEQUENCE)?;
        let after_version = match element(to_be_signed)? {
            (VERSION, _, rest) => rest,
            _ => to_be_signed,
        };
        let (_, _, after_serial) = element(after_version)?;
        let (_, after_algorithm) = of_kind(after_serial, SEQUENCE)?;
        let (_, after_issuer) = of_kind(after_algorithm, SEQUENCE)?;
        let (validity, _) = of_kind(after_issuer, SEQUENCE)?;
        let (kind, not_before, rest) = element(validity)?;
        let not_before_ms = time(kind, not_before)?;
        let (kind, not_after, _) = element(rest)?;
        Some(Self { not_before_ms, not_after_ms: time(kind, not_after)? })
    }
}

/// The first element: its kind, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first & 0x7f);
    if first & 0x80 != 0 {
        let (digits, after) = rest.split_at_checked(length).filter(|(digits, _)| digits.len() <= 4)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((*kind, content, after))
}

fn of_kind(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(kind, _, _)| *kind == expected).map(|(_, content, rest)| (content, rest))
}

/// `YYMMDDHHMMSSZ`, where years from 50 on are of the last century, or `YYYYMMDDHHMMSSZ`.
fn time(kind: u8, text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"Z")?;
    let (year, rest) = match (kind, text.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = text.split_at(2);
            let year = number(year)?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = text.split_at(4);
            (number(year)?, rest)
        }
        _ => return None,
    };
    let two_digits = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day) = (two_digits(0)?, two_digits(2)?);
    let seconds = (two_digits(4)? * 60 + two_digits(6)?) * 60 + two_digits(8)?;
    Some((days(year, month, day) * 86_400 + seconds) * 1000)
}

/// A few digits.
fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days from 1970 on. The year is counted from March, so that a leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_from_when_until_when_it_holds() {
        let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2024, 2, 29);
        parameters.not_after = rcgen::date_time_ymd(2051, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let expected = Validity { not_before_ms: 1_709_164_800_000, not_after_ms: 2_587_593_600_000 };
        assert_eq!(Validity::of(certificate.der()), Some(expected));
        for end in 0..certificate.der().len() {
            let _must_not_panic = Validity::of(&certificate.der()[..end]);
        }
        assert_eq!(Validity::of(b"no certificate"), None);
    }

    #[test]
    fn both_ways_to_write_a_time_are_read() {
        let check =
            |kind, text: &str, expected: Option<i64>| assert_eq!(time(kind, text.as_bytes()), expected);
        check(UTC_TIME, "700101000001Z", Some(1000));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999_000));
        check(GENERALIZED_TIME, "20000229120000Z", Some(951_825_600_000));
        check(GENERALIZED_TIME, "20000301000000Z", Some(951_868_800_000));
        check(UTC_TIME, "700101000001", None);
        check(UTC_TIME, "7001010000Z", None);
        check(SEQUENCE, "700101000001Z", None);
        check(UTC_TIME, "7\u{e9}010100001Z", None);
        check(GENERALIZED_TIME, "200\u{e9}022912000Z", None);
        check(UTC_TIME, "+70101000001Z", None);
    }
}
