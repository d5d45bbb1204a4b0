//! The certificate of a listener: made here, or from files that are read again when they change.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use self::validity::Validity;
use crate::yaml::Section;

mod validity;

/// How often the files are looked at: a certificate is replaced days before it expires.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A certificate and its key, in PEM. Kubernetes mounts a Secret of type `kubernetes.io/tls` as such files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and behind it those that lead to the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Files {
    /// From the section `certificate` of a configuration, with the keys `file` and `keyFile`.
    pub fn read_from(section: &mut Section<'_>) -> Option<Self> {
        let (mut certificate, mut key) = (None, None);
        if !(section.has("file") && section.has("keyFile")) {
            section.problem("a certificate needs both file and keyFile".to_owned());
        }
        section.text("file", |text| certificate = Some(text.into()));
        section.text("keyFile", |text| key = Some(text.into()));
        Some(Self { certificate: certificate?, key: key? })
    }

    /// What they hold now.
    fn read(&self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        Ok((read(&self.certificate)?, read(&self.key)?))
    }
}

/// What clients are shown.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: Option<Files>,
    current: RwLock<Current>,
    /// Why what the files hold now is not shown; empty where it is.
    problem: RwLock<String>,
}

/// What a port shows its clients, for whoever tells of it.
#[derive(Debug, Clone)]
pub struct Shown(Option<Arc<Certificate>>);

impl Shown {
    pub(crate) fn of(certificate: Option<&Arc<Certificate>>) -> Self {
        Self(certificate.cloned())
    }

    /// This, or where there is none the other.
    pub fn or(self, other: Self) -> Self {
        Self(self.0.or(other.0))
    }

    /// How the certificate of the files stands; nothing where there are none.
    pub fn state(&self) -> Option<proto::control::CertificateState> {
        let certificate = self.0.as_ref().filter(|certificate| certificate.files.is_some())?;
        let Validity { not_before_ms, not_after_ms } = certificate.current.read().validity?;
        let problem = certificate.problem.read().clone();
        Some(proto::control::CertificateState { not_before_ms, not_after_ms, problem })
    }
}

#[derive(Debug)]
struct Current {
    /// What the files held.
    pem: Option<(Vec<u8>, Vec<u8>)>,
    certified: Arc<CertifiedKey>,
    validity: Option<Validity>,
}

impl Current {
    fn new(pem: Option<(Vec<u8>, Vec<u8>)>, certified: CertifiedKey) -> Self {
        let validity = certified.cert.first().and_then(|certificate| Validity::of(certificate));
        Self { pem, certified: Arc::new(certified), validity }
    }
}

impl Certificate {
    /// From these files; without any, a key is made and its certificate signed here.
    ///
    /// # Errors
    /// With a sentence that names the file.
    pub(crate) fn load(files: Option<Files>) -> io::Result<Self> {
        let current = match &files {
            None => Current::new(None, self_signed()?),
            Some(files) => {
                let pem = files.read()?;
                let certified = certified(files, &pem)?;
                Current::new(Some(pem), certified)
            }
        };
        Ok(Self { files, current: RwLock::new(current), problem: RwLock::default() })
    }

    /// Reads the files again. True: they had changed. What cannot be used is told, and the last good one stays.
    fn refresh(&self) -> io::Result<bool> {
        let Some(files) = &self.files else { return Ok(false) };
        let pem = files.read()?;
        if self.current.read().pem.as_ref() == Some(&pem) {
            return Ok(false);
        }
        let certified = certified(files, &pem)?;
        *self.current.write() = Current::new(Some(pem), certified);
        Ok(true)
    }

    /// Looks at the files until the stop.
    pub(crate) async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        if self.files.is_none() {
            return;
        }
        let mut look = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            let this = Arc::clone(&self);
            let refreshed = tokio::task::spawn_blocking(move || this.refresh()).await;
            match refreshed.expect("reading a certificate does not panic") {
                Ok(changed) => {
                    self.problem.write().clear();
                    if changed {
                        tracing::info!("the certificate for clients was replaced");
                    }
                }
                // Between the two files' replacements they do not belong together: the next look finds them whole.
                Err(error) => {
                    let problem = error.to_string();
                    if std::mem::replace(&mut *self.problem.write(), problem.clone()) != problem {
                        tracing::warn!(%error, "the certificate for clients cannot be replaced, the last one stays");
                    }
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().certified))
    }
}

fn certified(files: &Files, (certificate, key): &(Vec<u8>, Vec<u8>)) -> io::Result<CertifiedKey> {
    let bad = |path: &PathBuf, what: &str| io::Error::other(format!("{}: {what}", path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(&files.certificate, &format!("is no certificate in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, "holds no certificate: write it in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| bad(&files.key, &format!("holds no private key in PEM: {error}")))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| bad(&files.key, &format!("does not belong to the certificate: {error}")))
}

fn self_signed() -> io::Result<CertifiedKey> {
    // The names by which it is reached on the machine of a developer.
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    CertifiedKey::from_der(vec![made.cert.der().clone()], key, &ring::default_provider())
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &Files, name: &str) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    }

    fn shown(certificate: &Certificate) -> Vec<u8> {
        certificate.current.read().certified.cert[0].to_vec()
    }

    #[test]
    fn a_certificate_is_read_again_when_its_files_change_and_a_bad_one_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        let missing = Certificate::load(Some(files.clone())).unwrap_err();
        assert!(missing.to_string().contains("tls.crt"), "{missing}");
        write(&files, "one");
        let certificate = Certificate::load(Some(files.clone())).unwrap();
        let first = shown(&certificate);
        assert!(!certificate.refresh().unwrap());
        write(&files, "two");
        assert!(certificate.refresh().unwrap());
        let second = shown(&certificate);
        assert_ne!(first, second);

        let key = std::fs::read(&files.key).unwrap();
        write(&files, "three");
        std::fs::write(&files.key, key).unwrap();
        let mixed = certificate.refresh().unwrap_err();
        assert!(mixed.to_string().contains("does not belong to the certificate"), "{mixed}");
        std::fs::write(&files.certificate, "nothing").unwrap();
        assert!(certificate.refresh().unwrap_err().to_string().contains("holds no certificate"));
        std::fs::write(&files.key, "nothing").unwrap();
        write(&files, "four");
        std::fs::write(&files.key, "nothing").unwrap();
        assert!(certificate.refresh().unwrap_err().to_string().contains("holds no private key"));
        assert_eq!(shown(&certificate), second, "the last good one stays");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_tells_of_it_knows_when_it_expires_and_that_the_next_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        write(&files, "one");
        let certificate = Arc::new(Certificate::load(Some(files.clone())).unwrap());
        let state = Shown::of(Some(&certificate)).state().unwrap();
        assert!(state.not_before_ms < state.not_after_ms && state.problem.is_empty(), "{state:?}");
        let own = Arc::new(Certificate::load(None).unwrap());
        assert_eq!((Shown::of(Some(&own)).state(), Shown::of(None).state()), (None, None));

        let stop = CancellationToken::new();
        let keeping = Arc::clone(&certificate).keep_fresh(stop.clone());
        let until = async |told: &str| {
            while !Shown::of(Some(&certificate)).state().unwrap().problem.contains(told) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let changing = async {
            std::fs::write(&files.key, "nothing").unwrap();
            until("holds no private key").await;
            write(&files, "two");
            while !Shown::of(Some(&certificate)).state().unwrap().problem.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            stop.cancel();
        };
        tokio::join!(keeping, changing);
    }
}
