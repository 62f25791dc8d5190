//! `exp`, `nbf`, `iat`: their types, and the time of asking.

use serde_json::json;
use verifier::{Expected, Seconds, UnixTime};

use super::{Asked, Cases, word};
use crate::lab::{claims, with, with_raw, without};
use crate::{AUDIENCE, ISSUER, NOW};

pub(super) fn add(cases: &mut Cases<'_>) {
    malformed(cases);
    numbers(cases);
    edges(cases);
    leeway(cases);
    ages(cases);
}

/// A14.
fn malformed(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for (index, raw) in [
            "\"1800000100\"",
            "\"\"",
            "\"never\"",
            "\"2027-01-15T08:00:00Z\"",
            "null",
            "true",
            "false",
            "[]",
            "[1800000100]",
            "{}",
            r#"{"$numberLong":"1800000100"}"#,
            "NaN",
            "Infinity",
            "-Infinity",
            "1e400",
            "-1e400",
            "1e300",
            "1e16",
            "9007199254740993.0",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "0x6b49d264",
            "01800000100",
            "+1800000100",
            "1800000100.",
            ".5",
            "1_800_000_100",
            "1,800,000,100",
            "1800000100n",
            "",
        ]
        .into_iter()
        .enumerate()
        {
            let token = signer.with_claims(with_raw(&claims(), name, raw));
            // A number that ends early is one; what follows is then a fault of the object.
            let ends_early =
                ["0x6", "1_8", "1,8"].iter().any(|start| raw.starts_with(start)) || raw.ends_with('n');
            let label = if ends_early { "bad_claims" } else { "bad_claim" };
            cases.refuse("A14", format!("{name}/malformed_{}", word(index, raw)), token, label);
        }
    }
}

/// A14, A25: numbers of every size.
fn numbers(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let mut check = |name: &str, raw: &str, wants: Result<(), &'static str>| {
        let token = signer.with_claims(with_raw(&claims(), name, raw));
        let case = format!("{name}/number_{}", raw.replace('-', "minus_").replace(['.', '+'], "_"));
        match wants {
            Ok(()) => cases.accept("A25", case, token),
            Err(label) => cases.refuse("A25", case, token, label),
        }
    };
    for raw in
        ["0", "-0", "-1", "-0.5", "1", "0.1", "1e9", "1799999999.999", "1800000000", "-9223372036854775808"]
    {
        check("exp", raw, Err("expired"));
    }
    for raw in [
        "1800000000.5",
        "1800000001",
        "1.8000003e9",
        "18000003E2",
        "1800003600",
        "1800003599.5",
        "1800000300.0",
    ] {
        check("exp", raw, Ok(()));
    }
    for raw in [
        "1800003601",
        "1800003600.5",
        "4000000000",
        "9007199254740991.0",
        "9223372036854775807",
        "253402300800",
    ] {
        check("exp", raw, Err("lives_too_long"));
    }
    for raw in ["0", "-1", "-9223372036854775808", "1800000000", "1799999999.5", "1.8e9"] {
        check("nbf", raw, Ok(()));
    }
    for raw in ["1800000001", "1800000000.5", "1e10", "9223372036854775807"] {
        check("nbf", raw, Err("not_yet_valid"));
        // Without `nbf`, `iat` stands in its place.
        check("iat", raw, Err("issued_in_future"));
    }
    for raw in ["1799996700", "1799996699.5", "1800000000", "1799999999.1"] {
        check("iat", raw, Ok(()));
    }
    for raw in ["1799996699", "0", "-1", "-9223372036854775808", "1e3"] {
        check("iat", raw, Err("lives_too_long"));
    }
    let late = with(with(claims(), "iat", json!(1_800_000_250)), "nbf", json!(1_799_999_000));
    cases.refuse("A25", "iat/after_nbf", signer.with_claims(late.to_string()), "issued_in_future");
    let only = without(with(claims(), "iat", json!(1_800_000_250)), "nbf");
    cases.refuse("A25", "iat/in_place_of_nbf", signer.with_claims(only.to_string()), "not_yet_valid");
    let backwards = with(with(claims(), "iat", json!(1_800_000_000)), "exp", json!(1_799_999_000));
    cases.refuse("A25", "exp/before_iat", signer.with_claims(backwards.to_string()), "expired");
}

/// A25: the same token second by second.
fn edges(cases: &mut Cases<'_>) {
    let lab = cases.lab;
    for signer in &lab.signers {
        let token = signer.good();
        for (offset, wants) in [
            (i64::MIN, Err("not_yet_valid")),
            (-86_400, Err("not_yet_valid")),
            (-1, Err("not_yet_valid")),
            (0, Ok(())),
            (1, Ok(())),
            (299, Ok(())),
            (300, Err("expired")),
            (301, Err("expired")),
            (86_400, Err("expired")),
            (i64::MAX, Err("expired")),
        ] {
            let asked = Asked { now: NOW + Seconds(offset), ..cases.asked.clone() };
            cases.asking(asked, |cases| {
                let name = format!("exp/{}_exact_{offset}", signer.name);
                match wants {
                    Ok(()) => cases.accept("A25", name, token.clone()),
                    Err(label) => cases.refuse("A25", name, token.clone(), label),
                }
            });
        }
    }
}

/// A25: leeway is granted on both sides, and never more than two minutes of it.
fn leeway(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let token = signer.good();
    for (asked_for, granted) in [
        (0, 0),
        (1, 1),
        (30, 30),
        (120, 120),
        (121, 120),
        (86_400, 120),
        (i64::MAX, 120),
        (-60, 0),
        (i64::MIN, 0),
    ] {
        let expected = Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(asked_for));
        for (side, offset, wants) in [
            ("before", -granted - 1, Err("not_yet_valid")),
            ("first", -granted, Ok(())),
            ("last", 299 + granted, Ok(())),
            ("after", 300 + granted, Err("expired")),
        ] {
            let asked =
                Asked { expected: expected.clone(), now: NOW + Seconds(offset), ..cases.asked.clone() };
            cases.asking(asked, |cases| {
                let name = format!("nbf/leeway_{asked_for}_{side}");
                match wants {
                    Ok(()) => cases.accept("A25", name, token.clone()),
                    Err(label) => cases.refuse("A25", name, token.clone(), label),
                }
            });
        }
    }
}

/// A25: years in which clocks have been known to end.
fn ages(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for (name, now) in [
        ("1970", 0),
        ("before_1970", -1_000),
        ("2038", i64::from(i32::MAX)),
        ("after_2038", i64::from(i32::MAX) + 1),
        ("2100", 4_107_542_400),
        ("2106", i64::from(u32::MAX)),
        ("after_2106", i64::from(u32::MAX) + 1),
        ("2262", 9_223_372_037),
        ("9999", 253_402_300_799),
        ("leap_day", 1_835_395_200),
        ("leap_second", 1_483_228_799),
    ] {
        let at = |offset: i64| UnixTime(now + offset);
        let claims =
            with(with(with(claims(), "iat", json!(now)), "nbf", json!(now)), "exp", json!(now + 300));
        let token = signer.with_claims(claims.to_string());
        for (edge, now, wants) in [
            ("start", at(0), Ok(())),
            ("early", at(-1), Err("not_yet_valid")),
            ("end", at(299), Ok(())),
            ("late", at(300), Err("expired")),
        ] {
            let asked = Asked { now, ..cases.asked.clone() };
            cases.asking(asked, |cases| match wants {
                Ok(()) => cases.accept("A25", format!("now/{name}_{edge}"), token.clone()),
                Err(label) => cases.refuse("A25", format!("now/{name}_{edge}"), token.clone(), label),
            });
        }
    }
}
