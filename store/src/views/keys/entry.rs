//! What the key index keeps of a record: an entry for each of its keys.
//!
//! Keys are those of RocketMQ's `IndexService`: the property `UNIQ_KEY`, and what blanks separate in `KEYS`.

/// Bytes of an entry on the disk.
pub(super) const ENTRY_BYTES: usize = 20;

const UNIQUE_ID: &[u8] = b"UNIQ_KEY";
const KEYS: &[u8] = b"KEYS";

/// A number for a topic and a key. Different keys may have the same: whoever finds an entry looks at the record.
pub(crate) type Hash = fn(topic: &[u8], key: &[u8]) -> u64;

/// Somewhere in the log is a record of a topic with a key of this hash. In order of hash, then place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyEntry {
    pub(super) hash: u64,
    /// Log offset of the record.
    pub(super) at: u64,
    /// When it was stored, Unix seconds, rounded down.
    pub(super) stored_s: u32,
}

impl KeyEntry {
    /// Hash 8, log offset 8, seconds 4, big-endian.
    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.hash.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_be_bytes());
        bytes[16..].copy_from_slice(&self.stored_s.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (hash, rest) = bytes.split_first_chunk().expect("20 bytes hold 8");
        let (at, stored) = rest.split_first_chunk().expect("12 bytes hold 8");
        let stored = stored.first_chunk().expect("4 bytes hold 4");
        Self {
            hash: u64::from_be_bytes(*hash),
            at: u64::from_be_bytes(*at),
            stored_s: u32::from_be_bytes(*stored),
        }
    }
}

/// Whole seconds of a time in milliseconds; what an entry cannot say becomes the nearest that it can.
pub(super) fn seconds(at_ms: i64) -> u32 {
    u32::try_from(at_ms.div_euclid(1000).max(0)).unwrap_or(u32::MAX)
}

/// The keys in encoded properties. Of a property given twice both count.
pub(super) fn keys(properties: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(properties, 2).flat_map(|pair| {
        let value_of = |name: &[u8]| pair.strip_prefix(name)?.strip_prefix(&[1]);
        // Blanks separate keys, and belong to an id: it has no byte that is 2.
        let (value, separator) = match value_of(KEYS) {
            Some(keys) => (keys, b' '),
            None => (value_of(UNIQUE_ID).unwrap_or_default(), 2),
        };
        split(value, separator).filter(|key| !key.is_empty())
    })
}

/// What lies between the separators. The store's busiest loop over text: it looks at eight bytes at a time.
fn split(mut rest: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = position(rest, separator).unwrap_or(rest.len());
        let part = &rest[..at];
        rest = rest.get(at + 1..).unwrap_or_default();
        Some(part)
    })
}

/// Where the first such byte is.
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (number, chunk) in chunks.iter().enumerate() {
        // A byte that is wanted is zero now, and the lowest zero is the lowest that borrows.
        let word = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(wanted));
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(number * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    let from = bytes.len() - rest.len();
    rest.iter().position(|byte| *byte == wanted).map(|at| from + at)
}

/// Does a record with these properties have this unique id?
pub(crate) fn has_id(properties: &[u8], id: &str) -> bool {
    crate::record::pairs(properties).any(|pair| pair == ("UNIQ_KEY", id))
}

/// Does a record with these properties have this key, or unique id?
pub(crate) fn has_key(properties: &[u8], key: &str) -> bool {
    keys(properties).any(|found| found == key.as_bytes())
}

/// The hash of files of version 1: it must never change.
pub(crate) fn hash(topic: &[u8], key: &[u8]) -> u64 {
    finish(fold(fold(0, topic), key))
}

/// Takes in eight bytes at a time, then the rest with its length: `a` + `bc` is not `ab` + `c`.
fn fold(start: u64, bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut hash = start;
    for chunk in chunks {
        hash = mix(hash ^ u64::from_le_bytes(*chunk));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = rest.len() as u8 + 1;
    mix(hash ^ u64::from_le_bytes(last))
}

/// Multiplies by an odd number and brings the high half, which depends on all bits, to the low half.
fn mix(value: u64) -> u64 {
    let product = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ (product >> 32)
}

/// The last step of splitmix64: neighbours end far apart.
fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn found(properties: &str) -> Vec<String> {
        let encoded = properties.replace('=', "\u{1}").replace(';', "\u{2}");
        keys(encoded.as_bytes()).map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_unique_id_and_each_word_of_keys_are_keys() {
        assert_eq!(found("UNIQ_KEY=01 2;KEYS=a b;TAGS=t;"), ["01 2", "a", "b"]);
        assert_eq!(found("KEYS=  a   bäé 鍵 ;"), ["a", "bäé", "鍵"]);
        assert_eq!(found("KEYS=a"), ["a"], "the last separator may be missing");
        assert_eq!(found("KEYS=a=b c;"), ["a\u{1}b", "c"]);
        assert_eq!(found("KEYS=a a;KEYS=b;"), ["a", "a", "b"]);
        for nothing in ["", "KEYS=;", "KEYS=   ;", "KEYS;", "MYKEYS=a;", "KEYSET=a;", "TAGS=KEYS;", ";;==;"] {
            assert!(found(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_byte_is_found_where_it_is_first() {
        for len in 0..40 {
            for at in 0..len {
                for (other, wanted) in [(0, 2), (3, 2), (255, 2), (0x82, 2), (b'!', b' ')] {
                    let mut bytes = vec![other; len];
                    bytes[at..].fill(wanted);
                    assert_eq!(position(&bytes, wanted), Some(at), "{other} {wanted}");
                    assert_eq!(position(&bytes[..at], wanted), None);
                }
            }
        }
    }

    #[test]
    fn an_entry_comes_back_from_its_bytes() {
        let entry = KeyEntry { hash: 0x0102_0304_0506_0708, at: u64::MAX - 1, stored_s: 7 };
        assert_eq!(KeyEntry::from_bytes(&entry.to_bytes()), entry);
        assert_eq!(entry.to_bytes()[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn times_out_of_range_become_the_nearest() {
        for (ms, s) in [(i64::MIN, 0), (-1, 0), (999, 0), (1000, 1), (i64::MAX, u32::MAX)] {
            assert_eq!(seconds(ms), s, "{ms}");
        }
    }

    #[test]
    fn the_hash_is_the_one_that_files_were_written_with() {
        assert_eq!(format!("{:016x}", hash(b"orders", b"4711")), "6559a7b880e5f1c8");
        assert_eq!(
            format!("{:016x}", hash(b"orders", b"01A2B3C4D5E6F7000105A1B2C300000001")),
            "6ca9a221cbd3a50b"
        );
    }

    #[test]
    fn topics_and_keys_that_look_alike_hash_apart() {
        let mut seen = HashSet::new();
        for topic in ["", "a", "ab", "abcdefgh", "abcdefghi"] {
            for key in ["", "a", "b", "bc", "abcdefgh", "abcdefgh\0", "abcdefg"] {
                assert!(seen.insert(hash(topic.as_bytes(), key.as_bytes())), "{topic} {key}");
            }
        }
        for n in 0..if cfg!(miri) { 100 } else { 100_000u32 } {
            assert!(seen.insert(hash(b"orders", n.to_string().as_bytes())), "{n}");
        }
    }
}
