//! The text of a token as a whole: its parts and its alphabet.

use serde_json::{Value, json};

use super::{Cases, word};
use crate::lab::{Signer, claims, encode, resigned, signed_part, with};

pub(super) fn add(cases: &mut Cases<'_>) {
    for signer in &cases.lab.signers {
        spelling(cases, signer);
    }
    parts(cases);
    compressed(cases);
    junk(cases);
}

/// A token of these two texts as they are, signed well.
fn signed_text(signer: &Signer, header: &str, claims: &str) -> String {
    let text = format!("{header}.{claims}");
    format!("{text}.{}", encode(signer.sign(text.as_bytes())))
}

type Spelling<'s> = &'s dyn Fn(&str) -> String;

/// A12: other spellings of the same bytes. The signature covers the spelling, so only the alphabet is at
/// fault.
fn spelling(cases: &mut Cases<'_>, signer: &Signer) {
    // One byte more than whole groups of three, so that there are spare bits, and in the claims characters
    // that the two alphabets write differently.
    let ragged = |object: Value| {
        let text = object.to_string();
        encode(format!("{text}{}", " ".repeat((4 - text.len() % 3) % 3)))
    };
    let header = ragged(signer.header());
    let body = ragged(with(claims(), "note", "????>>>>~~~~ÿÿÿ".into()));
    assert!(header.len() % 4 == 2 && body.len() % 4 == 2 && body.contains(['-', '_']));
    cases.accept("A12", format!("form/{}_canonical", signer.name), signed_text(signer, &header, &body));
    let next = |text: &str| {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (stem, last) = text.split_at(text.len() - 1);
        format!("{stem}{}", alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap())
    };
    let spellings: [(&str, Spelling<'_>); 16] = [
        ("padded_once", &|text| format!("{text}=")),
        ("padded", &|text| format!("{text}==")),
        ("padded_too_much", &|text| format!("{text}====")),
        ("spare_bits", &|text| next(text)),
        ("space_before", &|text| format!(" {text}")),
        ("space_after", &|text| format!("{text} ")),
        ("space_inside", &|text| format!("{} {}", &text[..4], &text[4..])),
        ("newline_after", &|text| format!("{text}\n")),
        ("newline_inside", &|text| {
            format!("{}\r\n{}", &text[..64.min(text.len())], &text[64.min(text.len())..])
        }),
        ("tab_inside", &|text| format!("{}\t{}", &text[..8], &text[8..])),
        ("nul_after", &|text| format!("{text}\0")),
        ("one_character_more", &|text| format!("{text}AAA")),
        ("standard_alphabet", &|text| format!("{}/+", &text[..text.len() - 2])),
        ("percent", &|text| format!("{}%3D", &text[..text.len() - 1])),
        ("wide_letters", &|text| format!("\u{ff25}{}", &text[1..])),
        ("byte_order_mark", &|text| format!("\u{feff}{text}")),
    ];
    for (name, spell) in spellings {
        let case = |part: &str| format!("form/{}_{part}_{name}", signer.name);
        cases.refuse("A12", case("header"), signed_text(signer, &spell(&header), &body), "not_jws");
        cases.refuse("A12", case("claims"), signed_text(signer, &header, &spell(&body)), "not_jws");
        let token = signed_text(signer, &header, &body);
        let (text, signature) = token.rsplit_once('.').unwrap();
        cases.refuse("A12", case("signature"), format!("{text}.{}", spell(signature)), "not_jws");
    }
}

/// A20.
fn parts(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let good = signer.good();
    let parts: Vec<_> = good.split('.').collect();
    let [header, body, signature] = parts[..] else { panic!("three parts") };
    for (name, text) in [
        ("empty", String::new()),
        ("one_dot", ".".into()),
        ("header_alone", header.into()),
        ("without_signature_and_dot", format!("{header}.{body}")),
        ("dot_after", format!("{good}.")),
        ("dot_before", format!(".{good}")),
        ("double_dot", format!("{header}..{body}.{signature}")),
        ("four_parts", format!("{good}.{signature}")),
        ("five_parts", format!("{good}.{signature}.{signature}")),
        ("signature_first", format!("{signature}:{header}.{body}")),
        ("two_tokens", format!("{good},{good}")),
        ("two_tokens_space", format!("{good} {good}")),
        ("two_tokens_glued", format!("{good}{good}")),
        ("bearer_inside", format!("Bearer {good}")),
        ("quoted", format!("\"{good}\"")),
        ("bracketed", format!("<{good}>")),
        ("space_after", format!("{good} ")),
        ("newline_after", format!("{good}\n")),
        ("carriage_return", format!("{good}\r\n")),
        ("nul_after", format!("{good}\0")),
        ("url_parameter", format!("access_token={good}")),
        ("fragment", format!("{good}#x")),
        ("sd_jwt", format!("{good}~WyJzYWx0IiwibmFtZSIsIngiXQ~")),
        ("full_width_dots", good.replace('.', "\u{ff0e}")),
        ("commas", good.replace('.', ",")),
        ("percent_dots", good.replace('.', "%2E")),
        (
            "flattened_json",
            json!({ "protected": header, "payload": body, "signature": signature }).to_string(),
        ),
        (
            "general_json",
            json!({ "payload": body, "signatures": [{ "protected": header, "signature": signature }] })
                .to_string(),
        ),
        ("json_with_dots", format!(r#"{{"payload":"{body}","a":".","b":".","signature":"{signature}"}}"#)),
        ("header_not_encoded", format!("{}.{body}.{signature}", signer.header())),
        ("claims_not_encoded", format!("{header}.{}.{signature}", claims())),
        ("paseto", "v4.public.eyJzdWIiOiJ4In0".into()),
        ("refresh_token", format!("rt1.{}", encode([7; 56]))),
        ("all_dots", "...".into()),
        ("two_dots", "..".into()),
    ] {
        // An empty header is no JSON, and "." is the only thing wrong with none.
        let label = if name == "two_dots" { "bad_header" } else { "not_jws" };
        cases.refuse("A20", format!("form/{name}"), text, label);
    }
    cases.refuse("A20", "form/detached_claims", format!("{header}..{signature}"), "bad_signature");
    cases.refuse("A20", "form/signed_nothing", signed_text(signer, header, ""), "bad_claims");
    cases.refuse("A20", "form/header_empty", signed_text(signer, "", body), "bad_header");
    let nested = with(signer.header(), "cty", "JWT".into()).to_string();
    cases.refuse("A20", "form/token_in_a_token", signer.token(nested, &good), "bad_claims");
    cases.refuse("A20", "form/claims_and_header_swapped", signed_text(signer, body, header), "wrong_type");
}

/// A21: nothing is ever inflated.
fn compressed(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let header = with(signer.header(), "zip", "DEF".into());
    let plain = claims().to_string().into_bytes();
    let length = u16::try_from(plain.len()).unwrap();
    // One stored block: valid DEFLATE without compressing.
    let deflated = [&[1], &length.to_le_bytes()[..], &(!length).to_le_bytes(), &plain].concat();
    let zlib = [&[0x78, 0x01], &deflated[..], &[0; 4]].concat();
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &deflated[..], &[0; 8]].concat();
    for (name, body) in [("def", &deflated), ("zlib", &zlib), ("gzip", &gzip)] {
        let token = signer.token(header.to_string(), body);
        cases.refuse("A21", format!("claims/zip_{name}"), token, "bad_claims");
    }
    // 8 KiB of a block that would inflate to megabytes.
    let bomb = [&[0xed, 0xc1, 0x01][..], &[0; 5900]].concat();
    cases.refuse("A21", "claims/zip_bomb", signer.token(header.to_string(), bomb), "bad_claims");
    let header_zipped = signer.token(deflated.clone(), claims().to_string());
    cases.refuse("A21", "form/header_deflated", header_zipped, "bad_header");
    cases.accept("A21", "claims/zip_named_and_not_done", signer.with_header(&header));
    let jwe =
        json!({ "alg": "dir", "enc": "A128CBC-HS256", "zip": "DEF", "kid": signer.kid(), "typ": "at+jwt" });
    let bomb = encode([0_u8; 5000]);
    let token = format!("{}..{}.{bomb}.{}", encode(jwe.to_string()), encode([7; 16]), encode([7; 16]));
    cases.refuse("A21", "form/jwe_zip_bomb", token, "not_jws");
}

/// A28: texts that have upset parsers before.
fn junk(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for (index, text) in [
        "\u{0}.\u{0}.\u{0}",
        "\u{10ffff}.\u{10ffff}.\u{10ffff}",
        "é.é.é",
        "e.e.e",
        "A.A.A",
        "-._.-",
        "=.=.=",
        "é",
        "😀.😀.",
        "\u{202e}.a.b",
        "a.b.c",
        "AA.A.AA",
        "AAAAA.AAAA.AAAA",
        "../..",
        "%00.%00.%00",
        "\n.\n.\n",
        "null",
        "{}",
        "[]",
    ]
    .into_iter()
    .enumerate()
    {
        cases.refuse("A28", format!("junk/text_{}", word(index, text)), text.to_owned(), "not_jws");
    }
    let bytes: [(&str, &[u8]); 12] = [
        ("nothing", b""),
        ("nul", b"\0"),
        ("not_utf8", b"\xff\xfe"),
        ("half_of_two_bytes", b"{\"a\":\"\xc3\"}"),
        ("overlong", b"{\"\xc1\xa1\":1}"),
        ("surrogate_bytes", b"{\"a\":\"\xed\xa0\x80\"}"),
        ("lone_surrogate", br#"{"a":"\ud800"}"#),
        ("half_escape", br#"{"a":"\u00"#),
        ("control_character", b"{\"a\":\"\x01\"}"),
        ("utf16", b"\xfe\xff\0{\0}"),
        ("mark", b"\xef\xbb\xbf{}"),
        ("trailing_comma", br#"{"a":1,}"#),
    ];
    for (name, text) in bytes {
        let token = signer.token(text, claims().to_string());
        cases.refuse("A28", format!("junk/header_{name}"), token, "bad_header");
        cases.refuse("A28", format!("junk/claims_{name}"), signer.with_claims(text), "bad_claims");
        let token = resigned(&signer.token(text, text), text);
        cases.refuse("A28", format!("junk/everywhere_{name}"), token, "bad_header");
    }
    let good = signer.good();
    let length = signed_part(&good).len();
    for cut in (0..=length).step_by(17) {
        cases.refuse("A28", format!("junk/cut_at_{cut}"), good[..cut].to_owned(), "not_jws");
    }
    // After whole groups of characters, so that no spare bits are left.
    for cut in (length + 1..good.len()).step_by(16) {
        cases.refuse("A28", format!("junk/cut_at_{cut}"), good[..cut].to_owned(), "bad_signature");
    }
}
