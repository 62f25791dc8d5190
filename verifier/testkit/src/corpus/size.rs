//! Tokens that are long, deep or crowded.

use serde_json::Value;

use super::Cases;
use crate::AUDIENCE;
use crate::lab::{Lab, Signer, and_raw, claims, with, with_raw};

pub(super) fn add(cases: &mut Cases<'_>) {
    sizes(cases);
    nesting(cases);
    crowds(cases);
}

/// A token whose whole text has this many bytes.
fn token_of_length(signer: &Signer, length: usize) -> String {
    let token = |note: usize, header: usize| {
        let header = format!("{}{}", signer.header(), " ".repeat(header));
        signer.token(header, with(claims(), "note", "x".repeat(note).into()).to_string())
    };
    let rest = length - token(0, 0).len();
    // Groups of three bytes take four characters: some lengths need a space in the header.
    (0..3)
        .flat_map(|header| (rest * 3 / 4 - 6..rest * 3 / 4 + 3).map(move |note| (note, header)))
        .map(|(note, header)| token(note, header))
        .find(|token| token.len() == length)
        .unwrap()
}

/// A22.
fn sizes(cases: &mut Cases<'_>) {
    let lab: &Lab = cases.lab;
    for signer in &lab.signers {
        for (length, wants) in [
            (2048, Ok(())),
            (6000, Ok(())),
            (8191, Ok(())),
            (8192, Ok(())),
            (8193, Err("too_long")),
            (9000, Err("too_long")),
        ] {
            let (name, token) =
                (format!("size/{}_{length}_bytes", signer.name), token_of_length(signer, length));
            match wants {
                Ok(()) => cases.accept("A22", name, token),
                Err(label) => cases.refuse("A22", name, token, label),
            }
        }
        let long = signer.with_claims(with(claims(), "note", "x".repeat(64 * 1024).into()).to_string());
        cases.refuse("A22", format!("size/{}_well_signed_64_kib", signer.name), long, "too_long");
    }
    for (name, text) in [
        ("64_kib_of_a", "a".repeat(65_536)),
        ("64_kib_of_dots", ".".repeat(65_536)),
        ("64_kib_of_nul", "\0".repeat(65_536)),
        ("20000_dots", ".".repeat(20_000)),
        ("8193_dots", ".".repeat(8193)),
        ("8193_bytes_in_wide_letters", "é".repeat(4097)),
        ("a_megabyte", "eyJ.".repeat(262_144)),
        ("good_and_64_kib", format!("{}{}", lab.ed25519().good(), "A".repeat(65_536))),
        ("20000_parts", "e30.".repeat(20_000)),
    ] {
        cases.refuse("A22", format!("size/{name}"), text, "too_long");
    }
    for (name, text) in [
        ("8192_dots", ".".repeat(8192)),
        ("8192_of_a", "A".repeat(8192)),
        ("8192_of_nul", "\0".repeat(8192)),
        ("2000_parts", "e30.".repeat(2000)),
        ("8192_spaces", " ".repeat(8192)),
    ] {
        cases.refuse("A22", format!("size/{name}"), text, "not_jws");
    }
    // Before a signature is known to be good, the header is all that is read.
    let (signer, stranger) = (lab.ed25519(), &lab.strangers[0]);
    let names = |count: usize| (0..count).fold(String::new(), |all, index| format!("{all}\"{index:x}\":0,"));
    let crowded = signer.header().to_string().replacen('{', &format!("{{{}", names(700)), 1);
    cases.refuse("A22", "size/700_header_names", stranger.token(&crowded, "{}"), "bad_signature");
    cases.accept("A22", "size/600_header_names_well_signed", {
        let crowded = signer.header().to_string().replacen('{', &format!("{{{}", names(600)), 1);
        signer.token(crowded, claims().to_string())
    });
    let same = signer.header().to_string().replacen('{', &format!("{{{}", "\"a\":0,".repeat(900)), 1);
    cases.refuse("A22", "size/900_times_one_header_name", stranger.token(same, "{}"), "duplicate_name");
    let padded = format!("{}{}", signer.header(), " ".repeat(5000));
    cases.refuse("A22", "size/header_of_spaces", stranger.token(padded, "{}"), "bad_signature");
    let value = with(signer.header(), "x", "x".repeat(5000).into()).to_string();
    cases.refuse("A22", "size/header_value_of_5000", stranger.token(value, "{}"), "bad_signature");
    let crowded = claims().to_string().replacen('{', &format!("{{{}", names(700)), 1);
    cases.accept("A22", "size/700_claims", signer.with_claims(crowded));
}

/// A23.
fn nesting(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let arrays = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for depth in [1, 64, 126] {
        for (kind, value) in [("arrays", arrays(depth)), ("objects", objects(depth))] {
            let name = format!("size/nested_{depth}_{kind}");
            cases.accept("A23", format!("{name}_claim"), signer.with_claims(and_raw(&claims(), "x", &value)));
            let header = and_raw(&signer.header(), "x", &value);
            cases.accept("A23", format!("{name}_header"), signer.token(header, claims().to_string()));
        }
    }
    for depth in [128, 500, 900] {
        for (kind, value) in [("arrays", arrays(depth)), ("objects", objects(depth.min(700)))] {
            let name = format!("size/nested_{depth}_{kind}");
            let token = signer.with_claims(and_raw(&claims(), "x", &value));
            cases.refuse("A23", format!("{name}_claim"), token, "bad_claims");
            let header = and_raw(&signer.header(), "x", &value);
            let token = signer.token(header, claims().to_string());
            cases.refuse("A23", format!("{name}_header"), token, "bad_header");
        }
    }
    for (name, value) in [("open_arrays", "[".repeat(5000)), ("open_objects", "{\"a\":".repeat(1000))] {
        let token = signer.with_claims(and_raw(&claims(), "x", &value));
        cases.refuse("A23", format!("size/nested_{name}_claim"), token, "bad_claims");
        let token = signer.token(and_raw(&signer.header(), "x", &value), "{}");
        cases.refuse("A23", format!("size/nested_{name}_header"), token, "bad_header");
    }
}

/// A23: numbers of many digits, lists of many members.
fn crowds(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let (nines, small) = ("9".repeat(5000), format!("0.{}1", "0".repeat(5000)));
    let digits = |name: &str, value: &str| signer.with_claims(with_raw(&claims(), name, value));
    cases.refuse("A23", "size/digits_in_exp", digits("exp", &nines), "bad_claim");
    cases.refuse("A23", "size/digits_after_the_point_in_exp", digits("exp", &small), "expired");
    cases.refuse("A23", "size/digits_in_unknown_claim", digits("x", &nines), "bad_claims");
    cases.accept("A23", "size/digits_after_the_point", digits("x", &small));
    cases.refuse("A23", "size/digits_in_exponent", digits("x", &format!("1e{nines}")), "bad_claims");
    cases.accept("A23", "size/digits_in_negative_exponent", digits("x", &format!("1e-{nines}")));
    let mut audiences: Vec<Value> = vec!["a".into(); 1200];
    let many = |all: &[Value]| signer.with_claims(with(claims(), "aud", all.into()).to_string());
    cases.refuse("A23", "size/1200_audiences", many(&audiences), "wrong_audience");
    audiences.push(AUDIENCE.into());
    cases.accept("A23", "size/1201_audiences_with_ours", many(&audiences));
    let roles = with(claims(), "roles", vec!["r"; 1200].into()).to_string();
    cases.accept("A23", "size/1200_roles", signer.with_claims(roles));
    let scope = with(claims(), "scope", " ".repeat(5000).into()).to_string();
    cases.accept("A23", "size/scope_of_spaces", signer.with_claims(scope));
}
