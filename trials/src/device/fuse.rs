//! The few words of the FUSE protocol that one file needs. Its root is that file, so nothing is ever looked up.
//!
//! ```text
//!   request:  len u32, opcode u32, unique u64, node u64, uid, gid, pid, padding u32 ×4;   then the opcode's own
//!   answer:   len u32, error i32, unique u64;                                             then the opcode's own
//!     26 INIT     major u32, minor u32, ...      ─► major, minor, read-ahead u32, flags u32, background u16 ×2, max write u32, ...
//!     3, 4 (GET|SET)ATTR                         ─► valid u64, u32 ×2; ino, size, blocks u64; 3 times u64, u32 ×3; mode, links, ... u32
//!     14 OPEN                                    ─► handle u64, flags u32 (1: no page cache of its own), padding
//!     15 READ     handle u64, offset u64, size u32, ...                                    ─► the bytes
//!     16 WRITE    handle u64, offset u64, size u32, flags u32, owner u64, flags, padding u32; the bytes  ─► size u32, padding
//!     17 STATFS ─► 80 bytes    18 RELEASE, 20 FSYNC, 25 FLUSH ─► nothing    2, 42 FORGET, 36 INTERRUPT: no answer
//! ```
//!
//! All numbers are in the machine's own order. (Linux: `include/uapi/linux/fuse.h`.)

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::mount::MountFlags;

use super::media::Media;

const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const FORGET: u32 = 2;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

const HEAD_BYTES: usize = 40;
const WRITE_HEAD_BYTES: usize = 40;
const MAX_WRITE: usize = 1 << 20;
/// The kernel passes more than a page at a time, and as many as this.
const MAX_PAGES: u16 = 256;
const FLAG_BIG_WRITES: u32 = 1 << 5;
const FLAG_MAX_PAGES: u32 = 1 << 22;
const DIRECT_IO: u32 = 1;
const REGULAR_FILE: u32 = 0o100_600;

/// Mounts over this file; who reads from and writes to what is returned serves it.
pub(super) fn mount(file: &Path) -> Result<File> {
    let connection = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let connection =
        connection.context("cannot open /dev/fuse: is the kernel's module fuse there, and are you root?")?;
    let options = format!("fd={},rootmode={REGULAR_FILE:o},user_id=0,group_id=0", connection.as_raw_fd());
    let options = CString::new(options)?;
    rustix::mount::mount("trials", file, "fuse", MountFlags::empty(), Some(options.as_c_str()))
        .with_context(|| format!("cannot mount over {}", file.display()))?;
    Ok(connection)
}

/// Answers requests until the mount is gone.
pub(super) fn serve(mut connection: &File, media: &Mutex<Media>) {
    let mut request = vec![0; HEAD_BYTES + WRITE_HEAD_BYTES + MAX_WRITE];
    loop {
        let len = match connection.read(&mut request) {
            Ok(len) => len,
            // The kernel took the request back.
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted || error.kind() == io::ErrorKind::NotFound =>
            {
                continue;
            }
            Err(_) => return,
        };
        let Some(answer) = answer(&request[..len], media) else { continue };
        // A request that was interrupted wants no answer any more.
        let _ = connection.write(&answer);
    }
}

fn answer(request: &[u8], media: &Mutex<Media>) -> Option<Vec<u8>> {
    let mut from = Words(request);
    let (_len, opcode, unique) = (from.u32()?, from.u32()?, from.u64()?);
    from.0 = from.0.get(HEAD_BYTES - 16..)?;
    let mut media = media.lock().unwrap_or_else(PoisonError::into_inner);
    let mut body = Vec::new();
    let done = match opcode {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        INIT => from.u32().zip(from.u32()).map_or(Err(libc_invalid()), |(major, minor)| {
            init(&mut body, major, minor);
            Ok(())
        }),
        GETATTR | SETATTR => {
            attributes(&mut body, media.len());
            Ok(())
        }
        OPEN => {
            put(&mut body, &[0, 0, DIRECT_IO, 0]);
            Ok(())
        }
        READ => from.at_and_len().map_or(Err(libc_invalid()), |(at, len)| {
            body.extend_from_slice(media.read(at, len));
            Ok(())
        }),
        WRITE => from.at_and_len().map_or(Err(libc_invalid()), |(at, len)| {
            let bytes = request.get(HEAD_BYTES + WRITE_HEAD_BYTES..).and_then(|bytes| bytes.get(..len));
            put(&mut body, &[len as u32, 0]);
            bytes.map_or(Err(libc_invalid()), |bytes| media.write(at, bytes))
        }),
        FSYNC => media.flush(),
        STATFS => {
            body.resize(80, 0);
            Ok(())
        }
        RELEASE | FLUSH | DESTROY => Ok(()),
        _ => Err(rustix::io::Errno::NOSYS.into()),
    };
    let error = match done {
        Ok(()) => 0,
        Err(error) => {
            body.clear();
            -error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())
        }
    };
    let mut answer = Vec::with_capacity(16 + body.len());
    put(&mut answer, &[16 + body.len() as u32, error.cast_unsigned()]);
    answer.extend_from_slice(&unique.to_ne_bytes());
    answer.extend_from_slice(&body);
    Some(answer)
}

fn libc_invalid() -> io::Error {
    rustix::io::Errno::INVAL.into()
}

fn init(out: &mut Vec<u8>, major: u32, minor: u32) {
    let flags = FLAG_BIG_WRITES | FLAG_MAX_PAGES;
    // No read-ahead; the kernel's own bounds for what runs in the background; time in nanoseconds.
    put(out, &[major.min(7), minor.min(31), 0, flags, 0, MAX_WRITE as u32, 1, u32::from(MAX_PAGES)]);
    out.resize(64, 0);
}

fn attributes(out: &mut Vec<u8>, bytes: u64) {
    // Never to be asked again: nobody but us changes it.
    out.extend_from_slice(&u64::MAX.to_ne_bytes());
    put(out, &[0, 0]);
    for number in [1, bytes, bytes.div_ceil(512), 0, 0, 0] {
        out.extend_from_slice(&u64::to_ne_bytes(number));
    }
    put(out, &[0, 0, 0, REGULAR_FILE, 1, 0, 0, 0, 4096, 0]);
}

fn put(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_ne_bytes()));
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Behind the handle, of reads and writes.
    fn at_and_len(&mut self) -> Option<(u64, usize)> {
        let _handle = self.u64()?;
        Some((self.u64()?, self.u32()? as usize))
    }
}
