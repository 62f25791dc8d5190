//! Paging of lists: `limit` and `after` in the query, `next` in the response.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::http::base::code::Code;
use crate::http::base::error::Problem;

/// The query of a list: how many items, and after which one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PageQuery {
    #[serde(default = "PageQuery::default_limit")]
    limit: u32,
    #[serde(default)]
    after: Option<String>,
}

impl PageQuery {
    const MAX_LIMIT: u32 = 200;

    fn default_limit() -> u32 {
        50
    }

    /// One more than the requested number of items; the surplus one shows that another page follows.
    pub(in crate::http) fn limit(&self) -> Result<u32, Problem> {
        if (1..=Self::MAX_LIMIT).contains(&self.limit) {
            Ok(self.limit + 1)
        } else {
            Err(Problem::new(Code::MalformedRequest).detail("`limit` must be from 1 to 200"))
        }
    }

    /// The position after which the page starts, as [`next`](Self::next) encoded it.
    pub(in crate::http) fn after<T>(
        &self,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(after) = &self.after else { return Ok(None) };
        let place = URL_SAFE_NO_PAD
            .decode(after)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|place| !place.is_empty() && !place.chars().any(char::is_control))
            .and_then(|place| read(&place));
        let refusal =
            || Problem::new(Code::MalformedRequest).detail("`after` must be the `next` of an earlier page");
        place.map(Some).ok_or_else(refusal)
    }

    /// Removes the surplus item and returns the cursor of the next page, `None` on the last page. `place` must contain no
    /// control characters.
    pub(in crate::http) fn next<T>(
        &self,
        items: &mut Vec<T>,
        place: impl FnOnce(&T) -> String,
    ) -> Option<String> {
        let limit = self.limit as usize;
        if items.len() <= limit {
            return None;
        }
        items.truncate(limit);
        items.last().map(|last| URL_SAFE_NO_PAD.encode(place(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_next_and_a_cursor_reads_back() {
        let query = PageQuery { limit: 2, after: None };
        let mut items = vec!["a", "b"];
        assert_eq!(query.next(&mut items, |item| (*item).to_owned()), None);
        let mut items = vec!["a", "b", "c"];
        let next = query.next(&mut items, |item| (*item).to_owned());
        assert_eq!(items, ["a", "b"]);
        let query = PageQuery { limit: 2, after: next };
        assert_eq!(query.after(|place| Some(place.to_owned())).unwrap(), Some("b".to_owned()));
    }

    #[test]
    fn a_forged_cursor_is_refused() {
        for after in ["!", "YQBi", "", "_w"] {
            let query = PageQuery { limit: 2, after: Some(after.to_owned()) };
            let read = |place: &str| (!place.is_empty()).then(|| place.to_owned());
            assert!(query.after(read).is_err(), "{after}");
        }
    }
}
