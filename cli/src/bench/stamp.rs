//! The first bytes of a body: which load sent it, its number, and the time that counts for it.

/// What a message says of itself.
///
/// | bytes | what |
/// |---|---|
/// | 4 | `GBe1` |
/// | 4 | lane: which of the sends under way; FIFO messages of a lane have one message group |
/// | 8 | load: random, one for each run of the command |
/// | 8 | number, from 0 |
/// | 8 | from the start of the load to the time that counts (intended sending; with a delay, when it is due), ns |
///
/// All big-endian. The rest of the body is filling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which of the sends under way.
    pub(crate) lane: u32,
    /// The load.
    pub(crate) load: u64,
    /// Its number within the load.
    pub(crate) number: u64,
    /// When it counts from, nanoseconds since the start of the load.
    pub(crate) mark_ns: u64,
}

const MAGIC: [u8; 4] = *b"GBe1";

impl Stamp {
    /// Bytes of a stamp: no body is shorter.
    pub(crate) const LEN: usize = 32;

    /// The stamp's bytes.
    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.lane.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.load.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..].copy_from_slice(&self.mark_ns.to_be_bytes());
        bytes
    }

    /// The stamp of a body; none if somebody else sent it.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let (magic, rest) = body.split_first_chunk::<4>()?;
        let (lane, rest) = rest.split_first_chunk::<4>()?;
        let (load, rest) = rest.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (mark_ns, _) = rest.split_first_chunk::<8>()?;
        (*magic == MAGIC).then_some(Self {
            lane: u32::from_be_bytes(*lane),
            load: u64::from_be_bytes(*load),
            number: u64::from_be_bytes(*number),
            mark_ns: u64::from_be_bytes(*mark_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_others_bodies_have_none() {
        let stamp = Stamp { lane: 7, load: u64::MAX, number: 1 << 40, mark_ns: 3 };
        let mut body = stamp.encode().to_vec();
        body.extend_from_slice(b"filling");
        assert_eq!(Stamp::decode(&body), Some(stamp));
        assert_eq!(Stamp::decode(&body[..Stamp::LEN - 1]), None);
        assert_eq!(Stamp::decode(&[b'x'; 64]), None);
    }
}
