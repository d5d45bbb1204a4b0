//! Kubernetes quantities as numbers. Pure.

use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

impl ByteCount {
    const MIB: u64 = 1 << 20;

    /// So many mebibytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count * Self::MIB)
    }

    /// Reads a quantity; a fraction of a byte counts as one.
    pub fn parse(text: &str) -> Option<Self> {
        let millis = millis(text)?;
        u64::try_from(millis.div_ceil(1000)).ok().map(Self)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        for (unit, shift) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// The value of a quantity in thousandths, or nothing where `text` is not a quantity of zero or more.
pub fn millis(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty())
        || whole.len() > 18
        || fraction.len() > 9
        || fraction.contains('.')
    {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // In 10⁻⁹ first, so that no fraction is lost.
    let fraction: u128 = format!("{fraction:0<9}").parse().ok()?;
    let nanos = whole * 1_000_000_000 + fraction;
    let scaled = match suffix {
        "n" => nanos / 1_000_000_000,
        "u" => nanos / 1_000_000,
        "m" => nanos / 1_000,
        "" => nanos,
        "k" => nanos.checked_mul(1000)?,
        "M" => nanos.checked_mul(1000_u128.pow(2))?,
        "G" => nanos.checked_mul(1000_u128.pow(3))?,
        "T" => nanos.checked_mul(1000_u128.pow(4))?,
        "P" => nanos.checked_mul(1000_u128.pow(5))?,
        "E" => nanos.checked_mul(1000_u128.pow(6))?,
        "Ki" => nanos.checked_mul(1 << 10)?,
        "Mi" => nanos.checked_mul(1 << 20)?,
        "Gi" => nanos.checked_mul(1 << 30)?,
        "Ti" => nanos.checked_mul(1 << 40)?,
        "Pi" => nanos.checked_mul(1 << 50)?,
        "Ei" => nanos.checked_mul(1 << 60)?,
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok().filter(|power| *power <= 18)?;
            nanos.checked_mul(10_u128.pow(power))?
        }
    };
    Some(scaled / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("500m", Some(500)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2k", Some(2_000_000)),
            ("1e3", Some(1_000_000)),
            ("+1Ki", Some(1_024_000)),
            ("+-1", None),
            ("++1", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("ten", None),
            ("-1", None),
            ("1Zi", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }

    #[test]
    fn a_byte_count_is_written_with_the_largest_unit_that_fits() {
        for (count, expected) in [
            (ByteCount::mebibytes(16), "16Mi"),
            (ByteCount(1 << 30), "1Gi"),
            (ByteCount(1000), "1000"),
            (ByteCount(0), "0"),
        ] {
            assert_eq!(count.to_string(), expected);
        }
        assert_eq!(ByteCount::parse("1500m"), Some(ByteCount(2)));
    }
}
