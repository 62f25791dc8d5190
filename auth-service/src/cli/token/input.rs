//! Tokens as people paste them, one per line.

use std::io::{self, BufRead};

/// Maximum size of a line: that of a token, which `verifier` checks first, and room for what surrounds it.
const MAX_LINE: usize = 8 * 1024 + 64;

/// The token in a pasted line: without white space, quotes, a comma, and the words before it in a header.
pub(super) fn pasted(line: &str) -> &str {
    let mut text = line;
    loop {
        let quotes: [char; 5] = ['"', '\'', '`', ',', ';'];
        let inner = text.trim().trim_matches(quotes).trim();
        let inner = ["authorization:", "bearer "].into_iter().fold(inner, without);
        if inner.len() == text.len() {
            return text;
        }
        text = inner;
    }
}

/// The text after `prefix`, which may be in upper or lower case.
fn without<'a>(text: &'a str, prefix: &str) -> &'a str {
    match text.split_at_checked(prefix.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(prefix) => rest,
        _ => text,
    }
}

/// Reads a line without its line break into `line`. Returns whether it fits: of a line that is longer than a
/// token and some white space, only the start is kept. Returns `None` at the end of the input.
pub(super) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut fits, mut has_begun) = (true, false);
    loop {
        let chunk = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        if chunk.is_empty() {
            return Ok(has_begun.then_some(fits));
        }
        has_begun = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        fits &= line.len() + part.len() <= MAX_LINE;
        if fits {
            line.extend_from_slice(part);
        }
        let used = end.map_or(chunk.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(Some(fits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], chunk: usize) -> Vec<(bool, usize)> {
        let mut input = io::BufReader::with_capacity(chunk, input);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while let Some(fits) = read_line(&mut input, &mut line).unwrap() {
            assert!(line.capacity() <= 2 * MAX_LINE, "{}", line.capacity());
            lines.push((fits, line.len()));
        }
        lines
    }

    #[test]
    fn overlong_line_is_not_buffered() {
        let longest = MAX_LINE;
        let input = [vec![b'x'; longest], vec![b'x'; longest + 1], vec![b'x'; 3_000_000], b"abc".to_vec()];
        for chunk in [1, 7, 8_192, 1_000_000] {
            let found = lines(&input.join(&b'\n'), chunk);
            let fits: Vec<bool> = found.iter().map(|(fits, _)| *fits).collect();
            assert_eq!(fits, [true, false, false, true], "in chunks of {chunk}");
            assert_eq!((found[0].1, found[3].1), (longest, 3));
        }
    }

    #[test]
    fn last_line_break_is_optional_and_empty_input_has_no_line() {
        assert_eq!(lines(b"a\nb", 10), [(true, 1), (true, 1)]);
        assert_eq!(lines(b"a\n\n", 10), [(true, 1), (true, 0)]);
        assert_eq!(lines(b"", 10), []);
    }

    #[test]
    fn the_token_is_found_in_what_people_paste() {
        for text in [
            "a.b.c",
            "  a.b.c\r",
            "Bearer a.b.c",
            "bearer  a.b.c",
            "Authorization: Bearer a.b.c",
            "'authorization: bearer a.b.c'",
            "\"a.b.c\",",
            "`a.b.c`",
        ] {
            assert_eq!(pasted(text), "a.b.c", "{text:?}");
        }
        assert_eq!(pasted("Bearer"), "Bearer");
        assert_eq!(pasted("bearera.b.c"), "bearera.b.c");
        assert_eq!(pasted("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"), "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}");
    }
}
