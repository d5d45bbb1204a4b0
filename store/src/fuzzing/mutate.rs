//! Seeded damage to valid bytes: bits flip, ends go, parts are copied elsewhere, numbers become odd ones.

/// Numbers where arithmetic goes wrong first.
const ODD: [u64; 12] = [
    0,
    1,
    127,
    255,
    i16::MAX as u64,
    u16::MAX as u64,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// Bytes at the beginning and the end that are damaged more often.
const ENDS: usize = 96;

/// The same seed gives the same damage.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// splitmix64.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    /// One of the seeds, damaged in one to four ways; what is spliced in comes from another.
    pub(super) fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        // The mode is drawn, not damaged.
        let mode = (self.roll() & 0xFF) as u8 & !1 | bytes[0] & 1;
        for _ in 0..=self.below(4) {
            let other = &seeds[self.below(seeds.len())];
            self.damage(&mut bytes, other);
        }
        if bytes.is_empty() {
            bytes.push(mode);
        }
        bytes[0] = mode;
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        // What decides is most often at the beginning or the end.
        let len = bytes.len().max(1);
        let at = match self.below(4) {
            0 => self.below(len.min(ENDS)),
            1 => len - 1 - self.below(len.min(ENDS)),
            _ => self.below(len),
        };
        match self.below(8) {
            _ if bytes.is_empty() => bytes.extend_from_slice(other),
            0 | 1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes.truncate(at),
            3 => {
                let from = self.below(other.len());
                let len = self.below((other.len() - from).min(64)) + 1;
                let to = bytes.len().min(at + self.below(len + 1));
                bytes.splice(at..to, other[from..from + len].iter().copied());
            }
            4 => {
                let to = bytes.len().min(at + 1 + self.below(16));
                bytes.drain(at..to);
            }
            width => {
                let number = if self.below(4) == 0 { self.roll() } else { ODD[self.below(ODD.len())] };
                let width = [2, 4, 8][width - 5];
                let big_endian = number.to_be_bytes();
                let digits = &big_endian[8 - width..];
                bytes.iter_mut().skip(at).zip(digits).for_each(|(byte, digit)| *byte = *digit);
            }
        }
    }
}
