//! Durations as specs have them, such as `10s`.

const UNITS: [(u64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];

/// Reads a duration that a schema lets through, in milliseconds; nothing where `text` is none.
pub fn millis(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (unit, _) = UNITS.into_iter().find(|(_, name)| *name == &text[digits.len()..])?;
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The duration in the largest unit that says it in a whole number.
pub fn text(millis: u64) -> String {
    let fits = |(unit, _): &(u64, &str)| millis > 0 && millis.is_multiple_of(*unit);
    let (unit, name) = UNITS.into_iter().find(fits).unwrap_or((1, "ms"));
    format!("{}{name}", millis / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (ms, written) in
            [(0, "0ms"), (500, "500ms"), (90_000, "90s"), (7_200_000, "2h"), (86_400_000, "1d")]
        {
            assert_eq!(text(ms), written);
            assert_eq!(millis(written), Some(ms));
        }
        assert_eq!(millis("1m"), Some(60_000));
        for none in ["", "10", "s", "1w", "-1s", "99999999999999d"] {
            assert_eq!(millis(none), None, "{none}");
        }
    }
}
