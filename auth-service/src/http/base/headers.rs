//! Request headers that may occur only once.

use http::{HeaderMap, HeaderName};

/// The only value of a header; `Err` if the header is repeated or is not visible ASCII.
pub(in crate::http) fn only_value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}
