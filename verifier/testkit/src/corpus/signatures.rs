//! Signatures that are nearly good.

use ring::digest::{SHA256, SHA512, digest};
use ring::signature::{RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512};
use rsa::BigUint;
use serde_json::json;

use super::Cases;
use crate::lab::{
    Lab, Signer, claims, ed25519_order, encode, p256_order, resigned, signature_of, signed_part, to_be,
    to_le, with,
};

pub(super) fn add(cases: &mut Cases<'_>) {
    let lab: &Lab = cases.lab;
    for signer in &lab.signers {
        any(cases, signer);
    }
    es256(cases, lab.p256());
    eddsa(cases, lab.ed25519());
    rs256(cases, lab.rsa());
}

/// A8, A9, A12: what applies to every algorithm.
fn any(cases: &mut Cases<'_>, signer: &Signer) {
    let token = signer.good();
    let good = signature_of(&token);
    let length = good.len();
    let case = |what: &str| format!("{}/{what}", signer.name);
    let mut refuse = |row, what: &str, signature: Vec<u8>| {
        cases.refuse(row, case(what), resigned(&token, signature), "bad_signature");
    };
    refuse("A8", "sig_empty", vec![]);
    refuse("A8", "sig_one_byte", vec![0]);
    refuse("A7", "sig_all_zero", vec![0; length]);
    refuse("A7", "sig_all_ones", vec![0xff; length]);
    refuse("A9", "sig_without_its_last_byte", good[..length - 1].to_vec());
    refuse("A9", "sig_without_its_first_byte", good[1..].to_vec());
    refuse("A9", "sig_half", good[..length / 2].to_vec());
    refuse("A9", "sig_zero_appended", [&good[..], &[0]].concat());
    refuse("A9", "sig_zero_prepended", [&[0], &good[..]].concat());
    refuse("A9", "sig_twice", good.repeat(2));
    refuse("A9", "sig_2000_bytes", vec![1; 2000]);
    refuse("A9", "sig_reversed", good.iter().rev().copied().collect());
    refuse("A9", "sig_as_hex", good.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    refuse("A9", "sig_in_base64_again", encode(&good).into_bytes());
    refuse("A9", "sig_of_nothing", signer.sign(b""));
    refuse("A9", "sig_of_the_claims_alone", signer.sign(claims().to_string().as_bytes()));
    refuse("A9", "sig_of_the_decoded_parts", {
        signer.sign(format!("{}.{}", signer.header(), claims()).as_bytes())
    });
    refuse("A9", "sig_of_the_text_and_a_dot", signer.sign(format!("{}.", signed_part(&token)).as_bytes()));
    refuse("A9", "sig_of_the_hash", signer.sign(digest(&SHA256, signed_part(&token).as_bytes()).as_ref()));
    for bit in [0, 7, length * 4, length * 8 - 1] {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refuse("A9", &format!("sig_bit_{bit}_flipped"), flipped);
    }
    let other = signer.with_claims(with(claims(), "sub", "mallory".into()).to_string());
    refuse("A9", "sig_of_another_token", signature_of(&other));

    // A12: four spare bits at the end of 64 and of 256 bytes.
    let (stem, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    for spare in 1..16 {
        let twin = alphabet.chars().nth(at + spare).unwrap();
        cases.refuse("A12", case(&format!("sig_spare_bits_{spare}")), format!("{stem}{twin}"), "not_jws");
    }
}

/// A7, A9, A10.
fn es256(cases: &mut Cases<'_>, signer: &Signer) {
    let token = signer.good();
    let good = signature_of(&token);
    let (r, s) = good.split_at(32);
    let n = p256_order();
    let number = |number: &BigUint| to_be(number, 32);
    let one = BigUint::from(1_u8);
    let p = BigUint::parse_bytes(b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff", 16)
        .unwrap();
    let values = [
        ("zero", vec![0; 32]),
        ("one", number(&one)),
        ("n_minus_1", number(&(&n - &one))),
        ("n", number(&n)),
        ("n_plus_1", number(&(&n + &one))),
        ("p", number(&p)),
        ("p_minus_n", number(&(&p - &n))),
        ("max", vec![0xff; 32]),
    ];
    for (name, value) in &values {
        let with_r = [value, s].concat();
        cases.refuse("A7", format!("es256/r_{name}"), resigned(&token, with_r), "bad_signature");
        let with_s = [r, value].concat();
        cases.refuse("A7", format!("es256/s_{name}"), resigned(&token, with_s), "bad_signature");
        for (other, second) in &values {
            let both = [&value[..], second].concat();
            cases.refuse("A7", format!("es256/r_{name}_s_{other}"), resigned(&token, both), "bad_signature");
        }
    }
    let s_number = BigUint::from_bytes_be(s);
    let twin = [r, &number(&(&n - &s_number))].concat();
    cases.accept("A10", "es256/high_s_or_its_low_twin", resigned(&token, &twin));
    cases.accept("A10", "es256/as_signed", token.clone());
    let r_twin = [&number(&(&n - BigUint::from_bytes_be(r)))[..], s].concat();
    cases.refuse("A10", "es256/r_negated", resigned(&token, r_twin), "bad_signature");
    cases.refuse("A9", "es256/swapped", resigned(&token, [s, r].concat()), "bad_signature");
    let der = der(r, s);
    cases.refuse("A9", "es256/der", resigned(&token, &der), "bad_signature");
    cases.refuse("A9", "es256/der_cut_to_64", resigned(&token, &der[..64]), "bad_signature");
    for (name, width) in [("33", 33), ("48", 48), ("66", 66)] {
        let pad = vec![0; width - 32];
        let wide = [&pad[..], r, &pad, s].concat();
        cases.refuse("A9", format!("es256/padded_to_{name}_each"), resigned(&token, wide), "bad_signature");
    }
}

/// Both numbers as ASN.1, as nearly every library but JOSE's has them.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let sign: &[u8] = if number[zeros] > 0x7f { &[0] } else { &[] };
        let body = [sign, &number[zeros..]].concat();
        [&[2, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

/// A10.
fn eddsa(cases: &mut Cases<'_>, signer: &Signer) {
    let token = signer.good();
    let good = signature_of(&token);
    let (r, s) = good.split_at(32);
    let mut refuse = |what: &str, signature: Vec<u8>| {
        cases.refuse("A10", format!("eddsa/{what}"), resigned(&token, signature), "bad_signature");
    };
    let s_number = BigUint::from_bytes_le(s);
    for times in 1..=14_u8 {
        let name = if times == 1 { "s_plus_l".to_owned() } else { format!("s_plus_{times}_l") };
        refuse(&name, [r, &to_le(&(&s_number + ed25519_order() * times))].concat());
    }
    refuse("s_negated", [r, &to_le(&(ed25519_order() - &s_number))].concat());
    refuse("s_zero", [r, &[0; 32]].concat());
    refuse("s_is_l", [r, &to_le(&ed25519_order())].concat());
    refuse("s_max", [r, &[0xff; 32]].concat());
    refuse("swapped", [s, r].concat());
    // It satisfies the equation, and no signer makes it.
    refuse("r_neutral", signer.sign_with_neutral_r(signed_part(&token).as_bytes()));
    for (name, low) in
        [("zero", 0), ("neutral", 1), ("not_canonical_zero", 0xed), ("not_canonical_one", 0xee)]
    {
        let high = if low > 1 { 0x7f } else { 0 };
        let mut point = [if low > 1 { 0xff } else { 0 }; 32];
        (point[0], point[31]) = (low, high);
        refuse(&format!("r_{name}_s_zero"), [&point[..], &[0; 32]].concat());
        refuse(&format!("r_{name}_s_kept"), [&point[..], s].concat());
    }
    let mut mirrored = good.clone();
    mirrored[31] ^= 0x80;
    refuse("r_mirrored", mirrored);
    refuse("prehashed", signer.sign(digest(&SHA512, signed_part(&token).as_bytes()).as_ref()));
    let domain = [b"SigEd25519 no Ed25519 collisions\x00\x00", signed_part(&token).as_bytes()].concat();
    refuse("with_a_context", signer.sign(&domain));
    cases.accept("A10", "eddsa/as_signed", token);
}

/// A11.
fn rs256(cases: &mut Cases<'_>, signer: &Signer) {
    let token = signer.good();
    let text = signed_part(&token).as_bytes();
    let good = signature_of(&token);
    let length = good.len();
    let n = BigUint::from_bytes_be(&signer.public_bytes());
    let number = |number: &BigUint| to_be(number, length);
    let value = BigUint::from_bytes_be(&good);
    let mut refuse = |what: &str, signature: Vec<u8>| {
        cases.refuse("A11", format!("rs256/{what}"), resigned(&token, signature), "bad_signature");
    };
    refuse("pss_sha256", signer.sign_padded(&RSA_PSS_SHA256, text));
    refuse("pss_sha384", signer.sign_padded(&RSA_PSS_SHA384, text));
    refuse("pss_sha512", signer.sign_padded(&RSA_PSS_SHA512, text));
    refuse("sha384", signer.sign_padded(&RSA_PKCS1_SHA384, text));
    refuse("sha512", signer.sign_padded(&RSA_PKCS1_SHA512, text));
    refuse("one", number(&BigUint::from(1_u8)));
    refuse("n", number(&n));
    refuse("n_minus_1", number(&(&n - BigUint::from(1_u8))));
    refuse("n_minus_s", number(&(&n - &value)));
    // One byte longer than the modulus, if it does not fit.
    refuse("s_plus_n", (&value + &n).to_bytes_be());

    let hash = digest(&SHA256, text);
    let info = |prefix: &[u8], hash: &[u8]| [prefix, hash].concat();
    let sha256 = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
        0x04, 0x20,
    ];
    let block = |kind: u8, pad: u8, tail: &[u8]| {
        let padding = vec![pad; length - 3 - tail.len()];
        [&[0, kind], &padding[..], &[0], tail].concat()
    };
    let right = info(&sha256, hash.as_ref());
    // The forge itself works, or the rest would prove nothing.
    assert_eq!(signer.sign_block(&block(1, 0xff, &right)), good);
    let edited = |at: usize, byte: u8| {
        let mut prefix = sha256;
        prefix[at] = byte;
        block(1, 0xff, &info(&prefix, hash.as_ref()))
    };
    let long = [&[0x30, 0x81, 0x31], &sha256[2..], hash.as_ref()].concat();
    let no_null = [&[0x30, 0x2f, 0x30, 0x0b], &sha256[4..15], &[4, 0x20], hash.as_ref()].concat();
    let mut separated_late = block(1, 0xff, &right);
    separated_late[10] = 0;
    let garbage = |after: u8| {
        // Bleichenbacher 2006: short padding, the rest of the block free.
        let head = [&[0, 1][..], &[0xff; 8], &[0], &right].concat();
        [&head[..], &vec![after; length - head.len()]].concat()
    };
    for (name, block) in [
        ("block_type_0", block(0, 0, &right)),
        ("block_type_2", block(2, 0xff, &right)),
        ("padding_of_zeros", block(1, 0, &right)),
        ("padding_of_ones", block(1, 1, &right)),
        ("padding_interrupted", separated_late),
        ("short_padding_zeros_after", garbage(0)),
        ("short_padding_ones_after", garbage(0xff)),
        ("hash_alone", block(1, 0xff, hash.as_ref())),
        ("null_left_out", block(1, 0xff, &no_null)),
        ("length_in_long_form", block(1, 0xff, &long)),
        ("length_one_more", edited(1, 0x32)),
        ("hash_named_sha384", edited(14, 2)),
        ("hash_named_sha512", edited(14, 3)),
        ("tag_of_set", edited(0, 0x31)),
        ("null_with_length", edited(16, 1)),
        ("hash_length_one_less", edited(18, 0x1f)),
        ("garbage_in_the_hash", block(1, 0xff, &info(&sha256, &[7; 32]))),
        ("hash_of_other_text", block(1, 0xff, &info(&sha256, digest(&SHA256, b"other").as_ref()))),
    ] {
        refuse(name, signer.sign_block(&block));
    }
    cases.accept("A11", "rs256/as_signed", token);
    let strong = Signer::rsa(3072);
    let keys = json!({ "keys": [strong.jwk] }).to_string();
    let keys = std::sync::Arc::new(verifier::KeySet::parse(keys.as_bytes()).unwrap());
    let asked = super::Asked { keys, ..cases.asked.clone() };
    cases.asking(asked, |cases| cases.accept("A11", "rs256/3072_bits", strong.good()));
}
