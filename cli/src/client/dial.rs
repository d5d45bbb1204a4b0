//! Opening connections: with or without TLS, and with the headers that every call carries.

use std::sync::Arc;
use std::time::Duration;

use proto::v2::messaging_service_client::MessagingServiceClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::Error;
use super::identity::{Headers, Identity};
use crate::control::root_cause;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
// A full batch of 32 messages of 4 MiB, and their headers.
const MAX_ANSWER_BYTES: usize = 132 << 20;

/// The generated client, with our headers on every call.
pub type Stub = MessagingServiceClient<InterceptedService<Channel, Headers>>;

/// Whether connections are encrypted, and what is asked of the server's certificate.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Plaintext.
    Off,
    /// Encrypted; any certificate is taken, as by the official Java, Go and C# clients: servers
    /// make their own by default.
    Unverified,
    /// Encrypted; the certificate must come from this authority.
    Verified {
        /// The authority's certificates, PEM.
        ca_pem: Vec<u8>,
    },
}

/// Opens connections.
#[derive(Debug, Clone)]
pub struct Dialer {
    tls: Tls,
}

impl Dialer {
    /// A dialer for one kind of connection.
    pub fn new(tls: Tls) -> Self {
        Self { tls }
    }

    /// Connects to `HOST:PORT`.
    pub async fn dial(&self, address: &str, identity: &Identity) -> Result<Stub, Error> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| Error::Unreachable {
            address: address.to_owned(),
            reason: root_cause(error),
        };
        let scheme = if matches!(self.tls, Tls::Off) { "http" } else { "https" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|_| Error::Unreachable {
                address: address.to_owned(),
                reason: "this is not HOST:PORT".to_owned(),
            })?
            .connect_timeout(CONNECT_TIMEOUT);
        let endpoint = match &self.tls {
            Tls::Off => Ok(endpoint),
            Tls::Unverified => {
                endpoint.tls_config_with_verifier(ClientTlsConfig::new(), Arc::new(AnyCertificate))
            }
            Tls::Verified { ca_pem } => {
                endpoint.tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem)))
            }
        }
        .map_err(|error| unreachable(&error))?;
        let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
        Ok(MessagingServiceClient::with_interceptor(channel, identity.headers())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES))
    }
}

/// Takes every certificate, but has the handshake signed by its key all the same.
#[derive(Debug)]
struct AnyCertificate;

impl AnyCertificate {
    fn algorithms() -> rustls::crypto::WebPkiSupportedAlgorithms {
        rustls::crypto::ring::default_provider().signature_verification_algorithms
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &Self::algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &Self::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        Self::algorithms().supported_schemes()
    }
}
