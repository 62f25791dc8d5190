//! A3: whatever a token says about where its key is, nobody connects to it.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use verifier::{NoExtra, Verifier};

use testkit::corpus::keys::key_references;
use testkit::lab::{Lab, claims, with};
use testkit::{AUDIENCE, ISSUER};

#[test]
fn token_that_names_an_address_makes_nobody_connect_to_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let verifier = Verifier::builder(ISSUER).audience(AUDIENCE).static_jwks(&lab.jwks()).build().unwrap();
    let away = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .jwks_url("https://127.0.0.1:1/jwks.json")
        .build()
        .unwrap();
    runtime.block_on(async {
        for (name, more, issuer) in key_references(&lab, &address) {
            for (signer, stranger) in lab.signers.iter().zip(&lab.strangers) {
                let mut header = signer.header();
                more.as_object().unwrap().iter().for_each(|(name, value)| header[name] = value.clone());
                let claims = with(claims(), "iss", issuer.as_str().into()).to_string();
                let unknown = with(header.clone(), "kid", "unknown".into()).to_string();
                for token in [stranger.token(header.to_string(), &claims), stranger.token(unknown, &claims)] {
                    // One with all its keys, and one that would dearly like to fetch some.
                    assert!(verifier.verify::<NoExtra>(&token).await.is_err(), "{name}");
                    assert!(away.verify::<NoExtra>(&token).await.is_err(), "{name}");
                }
            }
        }
    });
    drop((verifier, away, runtime));
    // A connection waits in the listener's queue from the moment it is made; every task has ended.
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let _witness = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(listener.accept().is_ok(), "the listener would have noticed");
}
