//! Which algorithm a token asks for.

use ring::hmac;
use serde_json::{Value, json};

use super::{Cases, word};
use crate::lab::{Lab, Signer, and_raw, claims, encode, resigned, signed_part, with, without};

pub(super) fn add(cases: &mut Cases<'_>) {
    none(cases);
    secrets(cases);
    others(cases);
    crossed(cases);
    encrypted(cases);
}

/// A1.
fn none(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let spellings = [
        "none",
        "None",
        "NONE",
        "nOnE",
        "noNe",
        "nonE",
        "none ",
        " none",
        "none\0",
        "none\n",
        "none\u{200b}",
        "n\u{043e}ne",
        "\u{ff4e}one",
        "nonε",
        "",
        "null",
        "NULL",
        "nil",
        "undefined",
        "false",
        "0",
        "plain",
        "unsecured",
        "no",
        "alg",
        "*",
    ];
    for (index, text) in spellings.into_iter().enumerate() {
        let token = signer.with_header(&with(signer.header(), "alg", text.into()));
        let name = word(index, text);
        cases.refuse(
            "A1",
            format!("alg/none_{name}_unsigned"),
            resigned(&token, []),
            "unsupported_algorithm",
        );
        cases.refuse("A1", format!("alg/none_{name}_signed"), token, "unsupported_algorithm");
    }
    for (name, value) in [
        ("null", Value::Null),
        ("false", false.into()),
        ("zero", 0.into()),
        ("array", json!(["none", "EdDSA"])),
        ("array_of_ours", json!(["EdDSA"])),
        ("object", json!({ "name": "EdDSA" })),
    ] {
        let token = signer.with_header(&with(signer.header(), "alg", value));
        cases.refuse("A1", format!("alg/none_as_{name}"), token, "bad_header");
    }
    let escaped = signer.header().to_string().replace("\"EdDSA\"", r#""\u006eone""#);
    let token = signer.token(escaped, claims().to_string());
    cases.refuse("A1", "alg/none_escaped", resigned(&token, []), "unsupported_algorithm");
    let token = signer.with_header(&without(signer.header(), "alg"));
    cases.refuse("A1", "alg/absent", token, "unsupported_algorithm");
    let bare = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(claims().to_string()));
    cases.refuse("A1", "alg/none_rfc_7519_6_1", bare, "wrong_type");
}

/// A2: what is public is used as a secret.
fn secrets(cases: &mut Cases<'_>) {
    let lab: &Lab = cases.lab;
    for signer in &lab.signers {
        let public = signer.public_bytes();
        let jwk = serde_json::to_string(&signer.jwk).unwrap();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", encode(&public));
        let secrets: [(&str, &[u8]); 6] = [
            ("public_bytes", &public),
            ("public_base64", &encode(&public).into_bytes()),
            ("jwk", jwk.as_bytes()),
            ("pem", pem.as_bytes()),
            ("kid", signer.kid().as_bytes()),
            ("empty", b""),
        ];
        for (name, secret) in secrets {
            for (alg, scheme) in
                [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
            {
                let token = signer.with_header(&with(signer.header(), "alg", alg.into()));
                let mac = hmac::sign(&hmac::Key::new(scheme, secret), signed_part(&token).as_bytes());
                let name = format!("{}/{}_{name}", signer.name, alg.to_lowercase());
                cases.refuse("A2", name, resigned(&token, mac), "unsupported_algorithm");
            }
            // The algorithm is ours and the signature a MAC.
            let token = signer.good();
            let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed_part(&token).as_bytes());
            let name = format!("{}/mac_{name}", signer.name);
            cases.refuse("A2", name, resigned(&token, mac), "bad_signature");
        }
    }
}

fn others(cases: &mut Cases<'_>) {
    for signer in &cases.lab.signers {
        for alg in [
            "RS384",
            "RS512",
            "PS256",
            "PS384",
            "PS512",
            "ES384",
            "ES512",
            "ES256K",
            "ESP256",
            "Ed448",
            "EdDSA25519",
            "eddsa",
            "EDDSA",
            "ed25519",
            "Ed25519 ",
            "es256",
            "rs256",
            "ES256 ",
            "RS-256",
            "SHA256withRSA",
            "ML-DSA-44",
            "HS256",
            "dir",
            "B",
        ] {
            let token = signer.with_header(&with(signer.header(), "alg", alg.into()));
            let name = format!("alg/{}_{}", signer.name, word(alg.len(), alg));
            cases.refuse("A2", name, token, "unsupported_algorithm");
        }
    }
    // RFC 9864 gives EdDSA over Ed25519 a name of its own, and both are ours.
    let signer = cases.lab.ed25519();
    cases.accept(
        "A2",
        "alg/rfc_9864_name",
        signer.with_header(&with(signer.header(), "alg", "Ed25519".into())),
    );
}

/// A2: the algorithm of one key with the name of another.
fn crossed(cases: &mut Cases<'_>) {
    let lab: &Lab = cases.lab;
    for named in &lab.signers {
        for claimed in lab.signers.iter().filter(|other| other.name != named.name) {
            let header = with(named.header(), "alg", claimed.alg().into());
            let signed_by = |signer: &Signer| signer.with_header(&header);
            for (who, signer) in [("named", named), ("claimed", claimed)] {
                let name = format!("cross/{}_key_as_{}_signed_by_{who}", named.name, claimed.name);
                cases.refuse("A2", name, signed_by(signer), "wrong_algorithm");
            }
            let name = format!("cross/{}_token_signed_by_{}", named.name, claimed.name);
            cases.refuse("A2", name, claimed.with_header(&named.header()), "bad_signature");
        }
        if named.name != "eddsa" {
            let token = named.with_header(&with(named.header(), "alg", "Ed25519".into()));
            cases.refuse("A2", format!("cross/{}_key_as_ed25519", named.name), token, "wrong_algorithm");
        }
    }
}

/// A20, A24: encrypted tokens, whatever they look like.
fn encrypted(cases: &mut Cases<'_>) {
    let signer = cases.lab.rsa();
    for alg in
        ["RSA1_5", "RSA-OAEP", "RSA-OAEP-256", "A128KW", "A256GCMKW", "ECDH-ES", "ECDH-ES+A256KW", "dir"]
    {
        let header = with(with(signer.header(), "alg", alg.into()), "enc", "A256GCM".into());
        let name = alg.to_lowercase().replace(['-', '+'], "_");
        cases.refuse(
            "A20",
            format!("alg/jwe_{name}_three_parts"),
            signer.with_header(&header),
            "unsupported_algorithm",
        );
        let parts =
            [encode(header.to_string()), encode([7; 256]), encode([7; 12]), encode([7; 64]), encode([7; 16])];
        cases.refuse("A20", format!("alg/jwe_{name}_five_parts"), parts.join("."), "not_jws");
    }
    for alg in ["PBES2-HS256+A128KW", "PBES2-HS512+A256KW"] {
        for rounds in ["1", "2147483647", "1e308", "99999999999999999999"] {
            let header = with(with(signer.header(), "alg", alg.into()), "p2s", "AAAA".into());
            let header = and_raw(&header, "p2c", rounds);
            let name = format!("size/p2c_huge_{}_{}", &alg[6..11].to_lowercase(), word(0, rounds));
            let token = signer.token(&header, claims().to_string());
            cases.refuse("A24", name.clone(), token, "unsupported_algorithm");
            let parts = [encode(&header), encode([7; 40]), encode([7; 12]), encode([7; 64]), encode([7; 16])];
            cases.refuse("A24", format!("{name}_five_parts"), parts.join("."), "not_jws");
        }
    }
    let header = and_raw(&signer.header(), "p2c", "2147483647");
    cases.accept("A24", "size/p2c_beside_our_algorithm", signer.token(header, claims().to_string()));
}
