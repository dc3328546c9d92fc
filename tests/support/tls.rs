//! Certificates made on the spot, and a relay that speaks TLS before a backend that does not.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod, SslStream};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

use super::network::serve;

const DAY: i64 = 24 * 3600;

/// A certificate with its key.
pub struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub enum Validity {
    Now,
    Past,
    Future,
}

impl Identity {
    /// A certificate authority that nobody knows.
    pub fn authority() -> Self {
        // Not two of one name: issuers are found by it.
        Self::make(
            &format!("Authority {:x}", fastrand::u64(..)),
            None,
            Validity::Now,
        )
    }

    /// A certificate for a server, signed by this authority.
    pub fn sign(&self, host: &str, validity: Validity) -> Self {
        Self::make(host, Some(self), validity)
    }

    /// The certificate, as a file holds it.
    pub fn pem(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }

    fn make(name: &str, issuer: Option<&Self>, validity: Validity) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let serial = BigNum::from_u32(fastrand::u32(1..)).unwrap();
        builder
            .set_serial_number(&Asn1Integer::from_bn(&serial).unwrap())
            .unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_pubkey(&key).unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64;
        let (from, to) = match validity {
            Validity::Now => (now - DAY, now + DAY),
            Validity::Past => (now - 2 * DAY, now - DAY),
            Validity::Future => (now + DAY, now + 2 * DAY),
        };
        builder
            .set_not_before(&Asn1Time::from_unix(from).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::from_unix(to).unwrap())
            .unwrap();
        match issuer {
            None => {
                builder.set_issuer_name(&subject).unwrap();
                builder
                    .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
                    .unwrap();
                builder.sign(&key, MessageDigest::sha256()).unwrap();
            }
            Some(issuer) => {
                builder
                    .set_issuer_name(issuer.certificate.subject_name())
                    .unwrap();
                let host = SubjectAlternativeName::new()
                    .dns(name)
                    .build(&builder.x509v3_context(None, None))
                    .unwrap();
                builder.append_extension(host).unwrap();
                builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
            }
        }
        Self {
            certificate: builder.build(),
            key,
        }
    }
}

/// A port on 127.0.0.1 that speaks TLS as `identity` and passes on to `to` what it is told.
pub fn terminate(identity: &Identity, to: SocketAddr) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    acceptor.set_certificate(&identity.certificate).unwrap();
    acceptor.set_private_key(&identity.key).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    serve(listener, move |stream| {
        let tls = acceptor.accept(stream).map_err(io::Error::other)?;
        splice(tls, TcpStream::connect(to)?)
    });
    port
}

/// One thread for both ways: a TLS stream cannot be read and written at once.
fn splice(mut tls: SslStream<TcpStream>, mut plain: TcpStream) -> io::Result<()> {
    tls.get_ref().set_nonblocking(true)?;
    plain.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut SourceFd(&tls.get_ref().as_raw_fd()), Token(0), both)?;
    poll.registry()
        .register(&mut SourceFd(&plain.as_raw_fd()), Token(1), both)?;
    let (mut forth, mut back) = (Vec::new(), Vec::new());
    let mut ready = Events::with_capacity(4);
    loop {
        while carry(&mut tls, &mut plain, &mut forth)? || carry(&mut plain, &mut tls, &mut back)? {}
        // A TLS stream may have to write before it can read on: the limit is for what no readiness tells.
        poll.poll(&mut ready, Some(Duration::from_secs(1)))?;
    }
}

/// Reads once and writes what there is; whether anything moved. The end of either side is an error.
fn carry(from: &mut impl Read, to: &mut impl Write, pending: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 16 << 10];
    let mut moved = false;
    if pending.is_empty() {
        match from.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                pending.extend(&chunk[..n]);
                moved = true;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    while !pending.is_empty() {
        match to.write(pending) {
            Ok(n) => {
                pending.drain(..n);
                moved = true;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(moved)
}
