//! The rest of a program may bring other back ends, and none of them installed as the default.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use verifier::testing::TestIssuer;
use verifier::{Clock, FetchError, SystemClock, Verified, Verifier};

#[test]
fn tokens_are_checked_whatever_back_ends_others_bring() {
    let issuer = TestIssuer::new("https://auth.example.com", "orders-api");
    let verifier = Verifier::builder("https://auth.example.com")
        .audience("orders-api")
        .static_jwks(&issuer.jwks())
        .build()
        .expect("a whole description");
    let token = issuer.sign(&issuer.claims(SystemClock::new().now()));
    let verified: Verified = verifier.verify_now(&token).expect("a good token");
    assert_eq!(verified.subject(), "alice");
    // Asking it would panic: two back ends, and nobody chose.
    let asked = std::panic::catch_unwind(|| {
        let key = jsonwebtoken::DecodingKey::from_secret(b"secret");
        jsonwebtoken::crypto::verify("c2ln", b"message", &key, jsonwebtoken::Algorithm::HS256)
    });
    assert!(asked.is_err(), "this build is to hold two back ends of jsonwebtoken");
}

#[tokio::test]
async fn https_names_its_own_provider_and_installs_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(Arc::new(server()));
    let (report, mut handshakes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = report.send(acceptor.accept(stream).await.map(drop));
        }
    });
    assert!(CryptoProvider::get_default().is_none(), "nobody has chosen yet");

    let verifier = Verifier::builder("https://auth.example.com")
        .audience("orders-api")
        .jwks_url(format!("https://localhost:{}/jwks", address.port()))
        .build()
        .expect("a whole description");
    let refused = verifier.ready(Duration::from_secs(2)).await.expect_err("nobody vouches for this server");

    // TLS was spoken, up to the certificate that no public authority has signed.
    assert!(matches!(&refused, FetchError::Transport(why) if why.contains("UnknownIssuer")), "{refused}");
    let handshake = handshakes.recv().await.expect("there was one");
    let alert = handshake.expect_err("the client hangs up").to_string();
    assert!(alert.contains("UnknownCA"), "{alert}");
    assert!(CryptoProvider::get_default().is_none(), "and nobody has chosen for the process");
}

fn server() -> ServerConfig {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("a certificate and its key")
}
