//! How messages are encoded and decoded: as tonic does with prost, in buffers that begin small.
//!
//! Each stream holds two of them for its life, and a server holds thousands of streams on which little is said. tonic's
//! begin with 8 KiB each.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes of a buffer at first; it grows with what is said.
const SMALL: usize = 1 << 10;
/// Bytes after which what is encoded goes on its way, tonic's default.
const YIELD_AT: usize = 32 << 10;

/// The codec of every generated client and server: sends `T`, receives `U`.
#[derive(Debug, Clone)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(SMALL, YIELD_AT))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(SMALL, YIELD_AT))
    }
}
