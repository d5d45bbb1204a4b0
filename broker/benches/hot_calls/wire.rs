//! A client of one call, as small as can be: what it costs must not hide what the broker costs.
//!
//! HTTP/2 by hand: one request at a time, its frames made beforehand, and of the answer no more is looked at than where it
//! ends. Headers go as official clients send them: literally the first time, by their index from then on, but for the ones
//! that differ from call to call.

use std::net::SocketAddr;

use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Static entries of HPACK: `:method: POST`, `:scheme: http`.
const POST: u8 = 0x80 | 3;
const HTTP: u8 = 0x80 | 6;
/// The first entry behind the static ones: the newest of the connection's own.
const NEWEST: u8 = 62;
/// What a ping of ours holds.
const PING_BYTES: [u8; 8] = *b"barrier!";

/// A connection on which one method is called.
pub(crate) struct Caller {
    stream: TcpStream,
    path: &'static str,
    requests: u32,
    read: Vec<u8>,
}

/// A request's frames. They are for the connection that made them, in the order in which they were made.
pub(crate) struct Frames {
    bytes: Vec<u8>,
    stream_id: u32,
}

impl Caller {
    /// Connects, with windows in which every answer fits.
    pub(crate) async fn connect(addr: SocketAddr, method: &'static str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let initial_window: &[u8] = &[0, 4, 0x7f, 0xff, 0xff, 0xff];
        frame(&mut hello, SETTINGS, 0, 0, initial_window);
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &0x3fff_ffff_u32.to_be_bytes());
        stream.write_all(&hello).await?;
        Ok(Self { stream, path: method, requests: 0, read: Vec::with_capacity(1 << 20) })
    }

    /// The frames of the next request.
    pub(crate) fn request(&mut self, message: &impl Message) -> Frames {
        let mut block = vec![POST, HTTP];
        let kept = [
            (":path", self.path),
            (":authority", "broker.messaging.svc:8081"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-java-netty/1.56.0"),
            ("x-mq-language", "JAVA"),
            ("x-mq-protocol", "v2"),
            ("x-mq-client-version", "5.2.0"),
            ("x-mq-client-id", "orders-6d5f7c@1@0@2f8f0dd8gg"),
            ("grpc-accept-encoding", "gzip"),
            ("grpc-timeout", "23000000u"),
        ];
        let count = u8::try_from(kept.len()).expect("they are few");
        for (index, (name, value)) in (1..).zip(kept) {
            if self.requests == 0 {
                literal(&mut block, 0x40, name, value);
            } else {
                block.push(0x80 | (NEWEST + count - index));
            }
        }
        literal(&mut block, 0, "x-mq-date-time", "20260101T000000Z");
        literal(&mut block, 0, "x-mq-request-id", "7f4c3f7e-5d0c-4a55-9d4b-1f7d6f0a3c11");
        let stream_id = self.requests * 2 + 1;
        self.requests += 1;
        let mut bytes = Vec::new();
        frame(&mut bytes, HEADERS, END_HEADERS, stream_id, &block);
        let length = u32::try_from(message.encoded_len()).expect("a message is small");
        let mut body = vec![0];
        body.extend(length.to_be_bytes());
        message.encode(&mut body).expect("a vector grows");
        frame(&mut bytes, DATA, END_STREAM, stream_id, &body);
        Frames { bytes, stream_id }
    }

    /// Calls, and waits for the whole answer.
    pub(crate) async fn call(&mut self, request: &Frames) -> std::io::Result<Vec<u8>> {
        self.stream.write_all(&request.bytes).await?;
        self.answer(request).await
    }

    /// Calls, and waits until the broker has begun with it: it answers the ping behind it.
    pub(crate) async fn begin(&mut self, request: &mut Frames) -> std::io::Result<()> {
        frame(&mut request.bytes, PING, 0, 0, &PING_BYTES);
        self.stream.write_all(&request.bytes).await?;
        while self.next_frame(0, &mut Vec::new()).await? != Some((PING, ACK)) {}
        Ok(())
    }

    /// Waits for the whole answer: the messages in it, one behind the other as gRPC frames them.
    pub(crate) async fn answer(&mut self, request: &Frames) -> std::io::Result<Vec<u8>> {
        let mut messages = Vec::new();
        loop {
            let of_it = self.next_frame(request.stream_id, &mut messages).await?;
            if of_it.is_some_and(|(kind, flags)| matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0) {
                return Ok(messages);
            }
        }
    }

    /// Takes the next frame: its kind and flags if it is one of this stream. Data are added to `messages`.
    async fn next_frame(
        &mut self,
        stream_id: u32,
        messages: &mut Vec<u8>,
    ) -> std::io::Result<Option<(u8, u8)>> {
        loop {
            if let Some((head, rest)) = self.read.split_first_chunk::<9>() {
                let [a, b, c, kind, flags, id @ ..] = *head;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let of_it = u32::from_be_bytes(id) == stream_id;
                    if of_it && kind == DATA {
                        messages.extend_from_slice(payload);
                    }
                    self.read.drain(..9 + length);
                    if kind == SETTINGS && flags & ACK == 0 {
                        let mut acknowledged = Vec::new();
                        frame(&mut acknowledged, SETTINGS, ACK, 0, &[]);
                        self.stream.write_all(&acknowledged).await?;
                    }
                    return Ok(of_it.then_some((kind, flags)));
                }
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The messages that gRPC framed.
pub(crate) fn messages<M: Message + Default>(mut framed: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let Some((&[_, a, b, c, d], rest)) = framed.split_first_chunk() {
        let (message, behind) = rest.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        messages.push(M::decode(message).expect("the broker answers what the protocol says"));
        framed = behind;
    }
    messages
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream_id: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream_id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A header by its name and value; `0x40`: to be known by an index from now on.
fn literal(block: &mut Vec<u8>, sort: u8, name: &str, value: &str) {
    block.push(sort);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a header is short"));
        block.extend_from_slice(text.as_bytes());
    }
}
