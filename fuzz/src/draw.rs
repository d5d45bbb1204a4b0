//! Choices made of bytes. When none are left every choice is the first one, so that shorter bytes make simpler things.

/// Numbers where arithmetic goes wrong first.
const ODD: [i64; 24] = [
    0,
    1,
    -1,
    2,
    31,
    32,
    33,
    999_999_999,
    1_000_000_000,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    i32::MIN as i64,
    i32::MIN as i64 - 1,
    u32::MAX as i64,
    253_402_300_799,
    253_402_300_800,
    -62_135_596_800,
    315_576_000_000,
    i64::MAX / 1000,
    i64::MAX / 1000 + 1,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN + 1,
    i64::MIN,
];

/// Pieces of text that mean something to somebody.
const PIECES: [&str; 40] = [
    "",
    " ",
    "a",
    "%",
    "|",
    "||",
    "$",
    "*",
    ",",
    "\0",
    "\u{1}",
    "\u{2}",
    "\n",
    "é",
    "☃",
    "\u{10FFFF}",
    "ns%",
    "%DLQ%",
    "%RETRY%",
    "%LMQ%$",
    "rmq_sys_",
    "CID_RMQ_SYS_",
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "KEYS",
    "TAGS",
    "UNIQ_KEY",
    "TIMER_",
    "TIMER_DELIVER_MS",
    "REAL_TOPIC",
    "REAL_QID",
    "TRACE_CONTEXT",
    "__SHARDINGKEY",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "__transactionId__",
    "9223372036854775807",
    "-1",
    "0",
    "1e309",
];

/// See the [module](self).
#[derive(Debug)]
pub struct Draw<'a> {
    left: &'a [u8],
}

impl<'a> Draw<'a> {
    /// Draws from these.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// Whether every choice from now on is the first one.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, left)) = self.left.split_first() else { return 0 };
        self.left = left;
        *first
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let number = match end {
            ..=256 => usize::from(self.byte()),
            _ => usize::from(u16::from_be_bytes([self.byte(), self.byte()])),
        };
        number % end
    }

    /// Once in `times`.
    pub fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == 1
    }

    /// One of these, which are not none.
    pub fn pick<'b, T>(&mut self, choices: &'b [T]) -> &'b T {
        &choices[self.below(choices.len())]
    }

    /// Mostly small, often odd.
    pub fn number(&mut self) -> i64 {
        match self.below(4) {
            0 | 1 => *self.pick(&ODD),
            2 => i64::from(self.byte()),
            _ => i64::from_be_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// The same, as far as 32 bits hold it.
    pub fn small(&mut self) -> i32 {
        let number = self.number();
        i32::try_from(number).unwrap_or(number as i32)
    }

    /// A number of an enumeration: one of the first `known`, or no such one.
    pub fn variant(&mut self, known: usize) -> i32 {
        if self.rarely(8) { self.small() } else { i32::try_from(self.below(known)).unwrap_or(0) }
    }

    /// Up to so many bytes, as they are.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most + 1);
        (0..count).map(|_| self.byte()).collect()
    }

    /// Any text: short, blank, of parts that mean something, with control characters, rarely of many kilobytes.
    pub fn text(&mut self) -> String {
        match self.below(8) {
            0 => self.pick(&PIECES).to_string(),
            1..4 => (0..self.below(4)).map(|_| *self.pick(&PIECES)).collect(),
            4 | 5 => {
                let letters = b"abcXYZ019_-";
                (0..self.below(24)).map(|_| char::from(*self.pick(letters))).collect()
            }
            6 => String::from_utf8_lossy(&self.bytes(40)).into_owned(),
            _ => {
                let lengths = [
                    63, 64, 65, 119, 120, 121, 127, 128, 255, 256, 4096, 4097, 16_384, 16_385, 32_767, 40_000,
                ];
                let piece = *self.pick(&["a", "é", "|", "\u{1}"]);
                piece.repeat(*self.pick(&lengths) / piece.len())
            }
        }
    }

    /// Changes text so that it is probably not what it was: cut, extended, a letter replaced.
    pub fn rot(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(2) {
            let at = self.below(letters.len().max(1));
            match self.below(5) {
                0 => letters.truncate(at),
                1 => letters.insert(at, 'A'),
                2 if !letters.is_empty() => drop(letters.remove(at)),
                3 => letters.reverse(),
                _ if !letters.is_empty() => letters[at] = char::from(b'0' + self.byte() % 75),
                _ => letters.push('='),
            }
        }
        letters.into_iter().collect()
    }

    /// Encoded bytes, damaged: bits flip, ends go, parts come twice.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len().clamp(1, 4096));
            match self.below(4) {
                _ if bytes.is_empty() => bytes.push(self.byte()),
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes.truncate(at),
                2 => bytes[at] = *self.pick(&[0, 0x7F, 0x80, 0xFF]),
                _ => {
                    let part = bytes[at..bytes.len().min(at + 1 + self.below(32))].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_make_the_same_choices_and_none_make_the_first() {
        let bytes: Vec<u8> = (0..=255).collect();
        let draw = || {
            let mut draw = Draw::new(&bytes);
            (draw.text(), draw.number(), draw.below(1000), draw.text(), draw.rot("abc"))
        };
        assert_eq!(draw(), draw());
        let mut over = Draw::new(&[]);
        assert_eq!((over.text(), over.number(), over.below(9), over.rarely(2)), (String::new(), 0, 0, false));
        assert!(over.is_over());
    }
}
