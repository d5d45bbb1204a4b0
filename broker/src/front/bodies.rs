//! Bodies as clients of the v2 protocol can read them.
//!
//! The protocol knows a plain body and a gzipped one. Clients of RocketMQ's older protocol compress with zlib, LZ4 or Zstandard
//! (`MessageSysFlag`, bits 8 to 10), and a broker keeps what they sent. So such a body is unpacked on its way out. What v2
//! clients gzipped goes as it lies.

use std::io::Read;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use proto::v2::{Digest, DigestType, Encoding};
use store::Record;

const COMPRESSED: i32 = 0x1;
const CODEC_SHIFT: i32 = 8;
const CODEC_BITS: i32 = 0b111;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// More than any client may send; a body that unpacks to more is not unpacked.
const MOST_BYTES: u64 = 64 << 20;

/// The body of a record, and how it is encoded. One that cannot be unpacked goes as it lies: better odd than lost.
pub(super) fn outgoing(record: &Record) -> (Bytes, Encoding) {
    if record.sys_flag & COMPRESSED == 0 {
        return (record.body.clone(), Encoding::Identity);
    }
    if record.body.starts_with(&GZIP_MAGIC) {
        return (record.body.clone(), Encoding::Gzip);
    }
    match unpack(record.sys_flag, &record.body) {
        Ok(body) => (body.into(), Encoding::Identity),
        Err(error) => {
            tracing::warn!(log_offset = %record.log_offset, %error, "a compressed body cannot be unpacked, it is sent as it lies");
            // A v2 client says GZIP and names no codec: whoever gets it is told what it said.
            let said = match codec(record.sys_flag) {
                0 => Encoding::Gzip,
                _ => Encoding::Identity,
            };
            (record.body.clone(), said)
        }
    }
}

/// Whether a body is not the one that its sender made this digest of. Senders write a CRC32 in many ways: with or without leading
/// zeros, in decimal (Node), by its bytes from the last to the first (C++). What is of an unknown type says nothing.
pub(super) fn contradicts(digest: &Digest, body: &[u8]) -> bool {
    let checksum = digest.checksum.trim();
    if checksum.is_empty() {
        return false;
    }
    match digest.r#type() {
        DigestType::Crc32 => {
            let crc = crc32fast::hash(body);
            let written = [u32::from_str_radix(checksum, 16).ok(), checksum.parse().ok()];
            !written.into_iter().flatten().any(|found| found == crc || found == crc.swap_bytes())
        }
        DigestType::Md5 => !upper_case_hexadecimal(&Md5::digest(body)).eq_ignore_ascii_case(checksum),
        DigestType::Sha1 => {
            let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, body);
            !upper_case_hexadecimal(sha1.as_ref()).eq_ignore_ascii_case(checksum)
        }
        DigestType::Unspecified => false,
    }
}

/// By what a client checks a body. All agree on how to write an MD5; a CRC32 is written as Java and Go expect it, and otherwise by
/// others.
pub(super) fn digest(body: &[u8], r#type: DigestType) -> Digest {
    let (r#type, checksum) = match r#type {
        DigestType::Crc32 => (DigestType::Crc32, format!("{:X}", crc32fast::hash(body))),
        DigestType::Md5 | DigestType::Sha1 | DigestType::Unspecified => {
            (DigestType::Md5, upper_case_hexadecimal(&Md5::digest(body)))
        }
    };
    Digest { r#type: r#type as i32, checksum }
}

fn upper_case_hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn codec(sys_flag: i32) -> i32 {
    (sys_flag >> CODEC_SHIFT) & CODEC_BITS
}

fn unpack(sys_flag: i32, body: &[u8]) -> std::io::Result<Vec<u8>> {
    match codec(sys_flag) {
        // Before there was a choice it was zlib.
        0 | 3 => read_all(flate2::read::ZlibDecoder::new(body)),
        1 => read_all(lz4_flex::frame::FrameDecoder::new(body)),
        2 => read_all(zstd::stream::read::Decoder::new(body)?),
        other => Err(std::io::Error::other(format!("no codec has the number {other}"))),
    }
}

fn read_all(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    from.take(MOST_BYTES + 1).read_to_end(&mut body)?;
    if body.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other(format!("it unpacks to more than {MOST_BYTES} bytes")));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Compressed by RocketMQ 5.4.0: see `store/tests/fixtures/java`.
    const PLAIN: &str = "compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible compressible ";
    const LZ4: &str = "04224d1860707318000000df636f6d707265737369626c65200d00ffe45069626c652000000000";
    const ZSTD: &str = "28b52ffd0058a4000068636f6d707265737369626c65200100f8a0ce2f010000";
    const ZLIB: &str = "785e4bcecf2d284a2d2ece4cca4955481ee58c540e003ce6ce41";

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn record(sys_flag: i32, body: Vec<u8>) -> Record {
        Record {
            log_offset: store::LogOffset(0),
            queue_id: store::QueueId(0),
            queue_offset: store::QueueOffset(0),
            flag: 0,
            sys_flag,
            born_at_ms: 0,
            born_host: ([127, 0, 0, 1], 1).into(),
            stored_at_ms: 0,
            store_host: ([127, 0, 0, 1], 1).into(),
            reconsume_times: 0,
            prepared_offset: store::LogOffset(0),
            topic: Bytes::new(),
            body: body.into(),
            properties: Bytes::new(),
        }
    }

    #[test]
    fn what_java_clients_compressed_goes_out_plain() {
        let check = |sys_flag, body: &str| {
            let record = record(sys_flag, bytes(body));
            assert_eq!(outgoing(&record), (Bytes::from(PLAIN), Encoding::Identity), "{sys_flag:#x}");
        };
        check(0x101, LZ4);
        check(0x201, ZSTD);
        check(0x301, ZLIB);
        check(0x1, ZLIB);
    }

    #[test]
    fn a_digest_is_written_as_clients_check_it() {
        let check = |body: &[u8], r#type: DigestType, checksum: &str| {
            let expected = Digest { r#type: r#type as i32, checksum: checksum.to_owned() };
            assert_eq!(digest(body, r#type), expected);
        };
        check(b"123456789", DigestType::Md5, "25F9E794323B453885F5181F1B624D0B");
        check(b"123456789", DigestType::Crc32, "CBF43926");
        // The number's digits, no more.
        check(b"0002245", DigestType::Crc32, "F307");
    }

    #[test]
    fn what_v2_clients_sent_goes_out_as_it_lies() {
        let gzipped = vec![0x1f, 0x8b, 8, 0];
        for (sys_flag, body, encoding) in [(0, bytes(ZLIB), Encoding::Identity), (1, gzipped, Encoding::Gzip)]
        {
            let record = record(sys_flag, body.clone());
            assert_eq!(outgoing(&record), (body.into(), encoding));
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_not_lost() {
        let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        (0..65).for_each(|_| bomb.write_all(&zeros).unwrap());
        let (odd, identity, gzip) = (b"odd".to_vec(), Encoding::Identity, Encoding::Gzip);
        for (sys_flag, body, expected) in [
            (0x201, odd.clone(), identity),
            (0x701, bytes(ZSTD), identity),
            (0x1, bomb.finish().unwrap(), gzip),
            (0x1, odd, gzip),
        ] {
            let (out, encoding) = outgoing(&record(sys_flag, body.clone()));
            assert!(out == body && encoding == expected, "{sys_flag:#x}");
        }
    }

    #[test]
    fn a_digest_is_known_however_it_is_written() {
        let check = |r#type: DigestType, checksum: &str, expected: bool| {
            let digest = Digest { r#type: r#type as i32, checksum: checksum.to_owned() };
            assert_eq!(contradicts(&digest, b"0002245"), expected, "{digest:?}");
        };
        for good in ["F307", "0000F307", "f307", "62215", "07F30000"] {
            check(DigestType::Crc32, good, false);
        }
        for bad in ["F308", "CBF43926", "no number"] {
            check(DigestType::Crc32, bad, true);
        }
        check(DigestType::Md5, "25F9E794323B453885F5181F1B624D0B", true);
        check(DigestType::Sha1, "F7C3BC1D808E04732ADF679965CCC34CA7AE3441", true);
        // Of nothing, or of an unknown type, it says nothing.
        check(DigestType::Md5, "", false);
        check(DigestType::Unspecified, "F308", false);
        let of = |r#type: DigestType, checksum: &str| Digest {
            r#type: r#type as i32,
            checksum: checksum.to_owned(),
        };
        assert!(!contradicts(&of(DigestType::Md5, "25f9e794323b453885f5181f1b624d0b"), b"123456789"));
        let sha1 = "F7C3BC1D808E04732ADF679965CCC34CA7AE3441";
        assert!(!contradicts(&of(DigestType::Sha1, sha1), b"123456789"));
    }
}
