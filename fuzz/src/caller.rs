//! Carries out a call over a channel, its bytes as they are.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::call::Call;

/// No call may take so long, however busy the machine is: it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// The answer to a call.
#[derive(Debug)]
pub struct Outcome {
    /// The messages that came, encoded.
    pub messages: Vec<Bytes>,
    /// How the call failed as gRPC, after these messages.
    pub failed: Option<Status>,
}

/// Makes the call and waits for the end of its answer.
///
/// # Errors
/// It does not end.
pub async fn carry_out(channel: &Channel, call: &Call) -> Result<Outcome, String> {
    let answered = tokio::time::timeout(HANGS, answer(channel.clone(), call)).await;
    answered.map_err(|_| format!("no end of the answer within {HANGS:?}"))
}

async fn answer(channel: Channel, call: &Call) -> Outcome {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
    let mut outcome = Outcome { messages: Vec::new(), failed: None };
    outcome.failed = read(&mut grpc, call, &mut outcome.messages).await.err();
    outcome
}

async fn read(
    grpc: &mut tonic::client::Grpc<Channel>,
    call: &Call,
    messages: &mut Vec<Bytes>,
) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let mut request = Request::new(tokio_stream::iter(call.messages.clone()));
    *request.metadata_mut() = metadata(call);
    let path = http::uri::PathAndQuery::from_static(call.rpc.path());
    let mut stream = grpc.streaming(request, path, Raw).await?.into_inner();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(())
}

fn metadata(call: &Call) -> MetadataMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        // What is no value of a header cannot be sent.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    MetadataMap::from_headers(headers)
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }
}
