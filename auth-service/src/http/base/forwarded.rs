//! What proxies forward about the client: `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Both are lists, possibly over several lines, to which each proxy appends the address that it saw.

use std::net::IpAddr;

use http::HeaderMap;

/// The members of `X-Forwarded-For`. Empty ones do not count (RFC 9110, section 5.6.1).
pub(super) fn x_forwarded_for(headers: &HeaderMap) -> Vec<String> {
    let members = lines(headers, "x-forwarded-for")
        .flat_map(|line| line.split(',').map(|member| member.trim().to_owned()).collect::<Vec<_>>());
    members.filter(|member| !member.is_empty()).collect()
}

/// The `for` parameters of `Forwarded`, without quotes. An element without one gives an empty text, and so does a line
/// with an unclosed quotation: the proxy's own element may be inside it.
pub(super) fn forwarded(headers: &HeaderMap) -> Vec<String> {
    lines(headers, "forwarded")
        .flat_map(|line| match split(&line, ',') {
            Some(elements) => elements.into_iter().filter(|element| !element.is_empty()).map(node).collect(),
            None => vec![String::new()],
        })
        .collect()
}

/// The address of a member: an IPv4 address, or an IPv6 address with or without brackets, and possibly a port.
/// `None` for `unknown`, for obfuscated identifiers and for everything else.
pub(super) fn address(member: &str) -> Option<IpAddr> {
    let (bare, port) = match member.strip_prefix('[') {
        Some(rest) => {
            let (bare, port) = rest.split_once(']')?;
            return is_port(port).then(|| bare.parse().ok()).flatten().map(IpAddr::V6).map(canonical);
        }
        None if member.matches(':').count() == 1 => member.split_at(member.find(':')?),
        None => (member, ""),
    };
    is_port(port).then(|| bare.parse().ok()).flatten().map(canonical)
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Whether this is nothing, or a colon and a port, which may be obfuscated (RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(port) => {
            !port.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => text.is_empty(),
    }
}

fn lines<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = String> + 'a {
    headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
}

/// The value of the only `for` parameter of an element.
fn node(element: &str) -> String {
    let parameters = split(element, ';').unwrap_or_default();
    let mut values = parameters
        .iter()
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .map(|(_, value)| value.trim());
    match (values.next(), values.next()) {
        (Some(value), None) => unquoted(value),
        _ => String::new(),
    }
}

/// The trimmed parts of a text between separators outside quotations. `None` if a quotation is not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                parts.push(text[start..at].trim());
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    (!is_quoted).then_some(parts)
}

/// A token as it is, or the text of a quoted string (RFC 9110, section 5.6.4).
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| {
            (http::HeaderName::from_static(name), HeaderValue::from_bytes(line.as_bytes()).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn addresses_have_brackets_and_ports_or_neither() {
        for (member, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("192.0.2.1:_port", Some("192.0.2.1")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("[2001:db8::7]", Some("2001:db8::7")),
            ("[2001:db8::7]:443", Some("2001:db8::7")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:80", Some("192.0.2.1")),
            ("[192.0.2.1]", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:80 x", None),
            ("[2001:db8::7", None),
            ("[2001:db8::7]x", None),
            ("unknown", None),
            ("_hidden", None),
            ("example.com", None),
            ("", None),
        ] {
            assert_eq!(address(member), expected.map(|text| text.parse().unwrap()), "{member}");
        }
    }

    #[test]
    fn empty_members_do_not_count() {
        let headers = headers("x-forwarded-for", &["198.51.100.7, , ", "", " ,192.0.2.1:80"]);
        assert_eq!(x_forwarded_for(&headers), ["198.51.100.7", "192.0.2.1:80"]);
    }

    /// The examples of RFC 7239, sections 4 and 7.
    #[test]
    fn for_parameters_of_the_specification() {
        for (line, expected) in [
            (r#"for="_gazonk""#, vec!["_gazonk"]),
            (r#"For="[2001:db8:cafe::17]:4711""#, vec!["[2001:db8:cafe::17]:4711"]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", vec!["192.0.2.60"]),
            ("for=192.0.2.43, for=198.51.100.17", vec!["192.0.2.43", "198.51.100.17"]),
            (
                r#"for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown"#,
                vec!["192.0.2.43", "[2001:db8:cafe::17]", "unknown"],
            ),
        ] {
            assert_eq!(forwarded(&headers("forwarded", &[line])), expected, "{line}");
        }
        let lines = ["for=192.0.2.43", "for=198.51.100.17;by=203.0.113.60;proto=http;host=example.com"];
        assert_eq!(forwarded(&headers("forwarded", &lines)), ["192.0.2.43", "198.51.100.17"]);
    }

    #[test]
    fn separators_in_a_quotation_separate_nothing() {
        let line = r#"by="a,b;for=1.1.1.1";for="192.0\.2.1", ,proto=http"#;
        assert_eq!(forwarded(&headers("forwarded", &[line])), ["192.0.2.1", ""]);
    }

    #[test]
    fn malformed_elements_have_no_address() {
        // A client that opens a quotation cannot put the element of the proxy behind it into its own.
        for line in [
            r#"for=192.0.2.1, for="x, for=198.51.100.7"#,
            "for=192.0.2.1;for=192.0.2.2",
            "192.0.2.1",
            "proto=http",
        ] {
            assert_eq!(forwarded(&headers("forwarded", &[line])), [""], "{line}");
        }
        let line = r#"for=192.0.2.1, for=", for="[2001:db8::7]""#;
        assert_eq!(forwarded(&headers("forwarded", &[line])), [""]);
    }
}
