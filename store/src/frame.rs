//! The frame of small files that are replaced whole: a magic of eight bytes, the content, and a checksum over both.
//!
//! ```text
//!   magic 8 │ content │ CRC-32 of all before u32, big-endian
//! ```

use std::io;
use std::path::Path;

use crate::disk::{Disk, replace};

/// Says what a file is.
pub(crate) type Magic = [u8; 8];

/// The file of this content.
pub(crate) fn seal(magic: &Magic, content: &[u8]) -> Vec<u8> {
    let mut out = [magic.as_slice(), content].concat();
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// The content of a file; `None`: it is damaged, or another.
pub(crate) fn unseal<'a>(magic: &Magic, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    (crc32fast::hash(covered) == u32::from_be_bytes(*crc)).then(|| covered.strip_prefix(magic))?
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept<T> {
    Good(T),
    Damaged,
    Nothing,
}

/// Reads a file and takes its content apart with `decode`, which says `None` where it does not fit together.
pub(crate) fn read<T>(
    disk: &dyn Disk,
    path: &Path,
    magic: &Magic,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> io::Result<Kept<T>> {
    match disk.read(path) {
        Ok(bytes) => Ok(unseal(magic, &bytes).and_then(decode).map_or(Kept::Damaged, Kept::Good)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::Nothing),
        Err(error) => Err(error),
    }
}

/// Puts a file of this content in place of the one before. Durable when it returns; a crash leaves one of them, whole.
pub(crate) fn write(disk: &dyn Disk, path: &Path, magic: &Magic, content: &[u8]) -> io::Result<()> {
    replace(disk, path, &seal(magic, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &Magic = b"GANTRYXX";

    #[test]
    fn a_content_comes_back_as_it_was_and_damage_is_seen() {
        for content in [&b""[..], b"content"] {
            let bytes = seal(MAGIC, content);
            assert_eq!(unseal(MAGIC, &bytes), Some(content));
            assert_eq!(unseal(b"GANTRYYY", &bytes), None);
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                assert_eq!(unseal(MAGIC, &damaged), None, "byte {at}");
                assert_eq!(unseal(MAGIC, &bytes[..at]), None, "length {at}");
            }
        }
    }
}
