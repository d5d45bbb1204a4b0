//! Numbers as people read and write them: sizes, durations, instants.

use std::time::Duration;

use jiff::Timestamp;

/// A size in binary units, three digits at the most: `0 B`, `87 KiB`, `1.2 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    // 1023.5 and not 1024, so that rounding never prints "1024 KiB".
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit > 0 && value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A length of time in its one or two largest units: `850 ms`, `12s`, `3m5s`, `4h10m`, `9d`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", length.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..172_800 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A moment in UTC to the millisecond: `2026-11-25T17:42:10.123Z`; what is beyond all calendars stays a number.
pub fn instant(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| format!("{at:.3}"))
}

/// Reads `2026-11-25T17:42:10Z`, with another offset than Z too, or Unix milliseconds.
pub fn parse_instant(text: &str) -> Result<i64, String> {
    if let Ok(at_ms) = text.parse() {
        return Ok(at_ms);
    }
    text.parse::<Timestamp>().map(Timestamp::as_millisecond).map_err(|_| {
        format!("`{text}` is not a time; write for example 2026-11-25T17:42:10Z, or Unix milliseconds")
    })
}

/// Reads a moment as [`parse_instant`] does, or how long ago it was: `2h`.
pub fn parse_past(text: &str) -> Result<i64, String> {
    past(text, Timestamp::now())
}

fn past(text: &str, now: Timestamp) -> Result<i64, String> {
    parse_instant(text).or_else(|_| {
        let ago = parse_duration(text).map_err(|_| {
            format!("`{text}` is not a time; write for example 2h for two hours ago, or 2026-11-25T17:42:10Z")
        })?;
        Ok(now.as_millisecond().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
    })
}

/// How long ago a moment was; nothing for 0, which the control plane uses for "never".
pub fn since(then_ms: i64, now: Timestamp) -> Option<String> {
    if then_ms == 0 {
        return None;
    }
    let past_ms = now.as_millisecond().saturating_sub(then_ms).max(0);
    Some(duration(Duration::from_millis(past_ms.unsigned_abs())))
}

/// Reads `500ms`, `30s`, `5m`, `2h`, `7d`, or a plain number of seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration; write for example 500ms, 30s, 5m or 2h");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    // A year is far more than anything here waits for, and timers stay within their range.
    number
        .checked_mul(millis)
        .filter(|total| *total <= 366 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is longer than a year"))
}

/// Reads a size: a plain number of bytes, or with `Ki`, `Mi` or `Gi`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size; write for example 512, 1Ki or 4Mi");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let shift = match unit {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// `1 message`, `2 messages`.
pub fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_three_digits() {
        let check = |count, text: &str| assert_eq!(bytes(count), text);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(10 * 1024, "10 KiB");
        check(1024 * 1024 - 1, "1.0 MiB");
        check(1_300_000_000, "1.2 GiB");
        check(u64::MAX, "16384 PiB");
    }

    #[test]
    fn a_size_is_a_number_and_a_binary_unit() {
        let check = |text, bytes| assert_eq!(parse_bytes(text), Ok(bytes));
        check("0", 0);
        check("1Ki", 1024);
        check("4Mi", 4 << 20);
        check("2Gi", 2 << 30);
        for bad in ["", "Ki", "1K", "1KiB", "-1", "1.5Ki", "99999999999Gi"] {
            assert!(parse_bytes(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn durations_name_their_largest_units() {
        let check = |millis, text: &str| assert_eq!(duration(Duration::from_millis(millis)), text);
        check(0, "0 ms");
        check(999, "999 ms");
        check(12_000, "12s");
        check(185_000, "3m5s");
        check(3_600_000, "1h");
        check(15_000_000, "4h10m");
        check(9 * 86_400_000, "9d");
    }

    #[test]
    fn instants_are_utc_to_the_millisecond() {
        assert_eq!(instant(1_795_628_530_007), "2026-11-25T17:42:10.007Z");
        assert_eq!(instant(i64::MAX), "9223372036854775807");
        assert_eq!(parse_instant("2026-11-25T17:42:10.007Z"), Ok(1_795_628_530_007));
        assert_eq!(parse_instant("2026-11-25T18:42:10.007+01:00"), Ok(1_795_628_530_007));
        assert_eq!(parse_instant("1795628530007"), Ok(1_795_628_530_007));
        assert!(parse_instant("yesterday").is_err());
    }

    #[test]
    fn a_moment_may_be_told_by_how_long_ago_it_was() {
        let past = |text| past(text, Timestamp::from_millisecond(10_000_000).unwrap());
        assert_eq!(past("2h"), Ok(2_800_000));
        assert_eq!(past("500ms"), Ok(9_999_500));
        assert_eq!(past("1795628530007"), Ok(1_795_628_530_007));
        assert_eq!(past("2026-11-25T17:42:10.007Z"), Ok(1_795_628_530_007));
        assert!(past("yesterday").unwrap_err().contains("2h"));
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let check = |text, millis| assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        check("500ms", 500);
        check("30s", 30_000);
        check("7", 7_000);
        check("5m", 300_000);
        check("2h", 7_200_000);
        for bad in ["", "s", "-1s", "1.5s", "3 s", "5x", "400d", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad} was taken");
        }
    }
}
