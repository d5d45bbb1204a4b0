//! How messages are encoded and decoded: as tonic does with prost, in buffers that begin small.
//!
//! Each stream holds two of them for its life, and a server holds thousands of streams on which little is said. tonic's
//! begin with 8 KiB each. And they are not written to field by field, nor read from so: a field is a few bytes, and each
//! costs a call and a look at how the buffer is shared.

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, EncodeBuf};

/// Bytes of a buffer at first; it grows with what is said.
const SMALL: usize = 1 << 10;
/// Bytes after which what is encoded goes on its way, tonic's default.
const YIELD_AT: usize = 32 << 10;
/// A message of more bytes goes into its buffer at once: by then one more copy costs more than all its fields.
const COPIED_UP_TO: usize = 8 << 10;

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
    type Encoder = Encoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(PhantomData)
    }
}

/// Encodes `T`.
#[derive(Debug, Clone)]
pub struct Encoder<T>(PhantomData<T>);

impl<T: Message> tonic::codec::Encoder for Encoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = item.encoded_len();
        if bytes > COPIED_UP_TO {
            item.encode(buf).expect("a buffer grows");
        } else {
            let mut encoded = Vec::with_capacity(bytes);
            item.encode(&mut encoded).expect("a vector grows");
            buf.put_slice(&encoded);
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(SMALL, YIELD_AT)
    }
}

/// Decodes `U`.
#[derive(Debug, Clone)]
pub struct Decoder<U>(PhantomData<U>);

impl<U: Message + Default> tonic::codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let encoded = buf.copy_to_bytes(buf.remaining());
        // As gRPC wants it.
        U::decode(encoded).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(SMALL, YIELD_AT)
    }
}
