//! An incremental parser of server-sent events (WHATWG HTML §9.2).
//!
//! Every byte is processed once, and memory is bounded by the size of one event.

/// Room in a line of data for what surrounds the value.
const LINE_OVERHEAD: usize = 64;

/// An event. A missing name is `message` in the standard; here it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Why parsing failed. The reader must not be used after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An event or a line is longer than the limit.
    TooLong,
    /// Not UTF-8. The standard would insert replacement characters.
    NotText,
}

/// Parses events from chunks of any size.
#[derive(Debug)]
pub(crate) struct Reader {
    limit: usize,
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    is_first_line: bool,
}

impl Reader {
    /// A reader of events with up to `limit` bytes of data.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            after_cr: false,
            is_first_line: true,
        }
    }

    /// The number of bytes of the incomplete event.
    pub(crate) fn pending(&self) -> usize {
        self.line.len() + self.event.data.len()
    }

    /// Parses the next bytes of the stream and appends the complete events to `events`. They are valid even
    /// if a fault follows.
    pub(crate) fn push(&mut self, mut chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        while let Some(first) = chunk.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &chunk[..end.unwrap_or(chunk.len())];
            if self.line.len() + piece.len() > self.limit + LINE_OVERHEAD {
                return Err(Fault::TooLong);
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            self.after_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.end_line(&line, events)?;
        }
        Ok(())
    }

    fn end_line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        let mut line = std::str::from_utf8(line).map_err(|_| Fault::NotText)?;
        if std::mem::take(&mut self.is_first_line) {
            line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // An event without data is dropped.
            if std::mem::take(&mut self.has_data) {
                events.push(event);
            }
            return Ok(());
        }
        // A comment is a field without a name.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" if value.len() > LINE_OVERHEAD => return Err(Fault::TooLong),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                if self.event.data.len() + value.len() > self.limit {
                    return Err(Fault::TooLong);
                }
                self.event.data.push_str(value);
            }
            // `id` and `retry` are for browsers; the standard ignores other fields.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    fn read(chunks: &[&[u8]], limit: usize) -> (Vec<(String, String)>, Result<(), Fault>) {
        let (mut reader, mut events) = (Reader::new(limit), Vec::new());
        let outcome = chunks.iter().try_for_each(|chunk| reader.push(chunk, &mut events));
        (events.into_iter().map(|event| (event.name, event.data)).collect(), outcome)
    }

    fn all(text: &str) -> Vec<(String, String)> {
        let (events, outcome) = read(&[text.as_bytes()], 1000);
        assert_eq!(outcome, Ok(()), "{text:?}");
        events
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        assert_eq!(all("event: delta\ndata: abc\n\n"), [event("delta", "abc")]);
        assert_eq!(all("event:delta\ndata:abc\n\n"), [event("delta", "abc")]);
        assert_eq!(all("data:  abc\n\n"), [event("", " abc")], "one space is taken, not two");
        assert_eq!(all("data: a:b\n\n"), [event("", "a:b")]);
        assert_eq!(all("data: a\ndata: b\ndata\n\n"), [event("", "a\nb\n")]);
        assert_eq!(all("data\n\n"), [event("", "")]);
        assert_eq!(all("event: x\n\ndata: y\n\n"), [event("", "y")], "a name without data is forgotten");
        assert_eq!(all(": hello\n\n:\n\nid: 7\nretry: 1\nelse: 2\n\n"), []);
        assert_eq!(all("event: a\ndata: 1\n\nevent: b\ndata: 2\n\n"), [event("a", "1"), event("b", "2")]);
        assert_eq!(
            all("data: a\r\n\r\ndata: b\r\rdata: c\n\r\n"),
            ["a", "b", "c"].map(|data| event("", data))
        );
        assert_eq!(all("\u{FEFF}data: a\n\n"), [event("", "a")]);
        assert_eq!(all("data: a\n\n\u{FEFF}data: b\n\n"), [event("", "a")]);
        assert_eq!(all("data: an event that has not ended\n"), []);
        assert_eq!(all("data: ü\n\n"), [event("", "ü")]);
    }

    #[test]
    fn limit_is_exact_and_holds_for_lines_without_an_end() {
        for (length, good) in [(100, true), (101, false)] {
            let one = format!("data: {}\n\n", "x".repeat(length));
            assert_eq!(read(&[one.as_bytes()], 100).1.is_ok(), good, "{length}");
            let two = format!("data: {}\ndata: {}\n\n", "x".repeat(50), "x".repeat(length - 51));
            assert_eq!(read(&[two.as_bytes()], 100).1.is_ok(), good, "{length} in two lines");
        }
        for endless in ["data: ", ": ", "", "event: "] {
            let (mut reader, mut events) = (Reader::new(100), Vec::new());
            assert_eq!(reader.push(endless.as_bytes(), &mut events), Ok(()));
            let outcome = (0..1000).try_for_each(|_| {
                assert!(reader.line.capacity() <= 512, "{}", reader.line.capacity());
                reader.push(b"xxx", &mut events)
            });
            assert_eq!(outcome, Err(Fault::TooLong), "{endless:?}");
        }
    }

    #[test]
    fn endless_comments_take_no_memory() {
        let (mut reader, mut events) = (Reader::new(100), Vec::new());
        for _ in 0..10_000 {
            reader.push(b": keep-alive\n", &mut events).unwrap();
            assert_eq!((reader.pending(), events.len()), (0, 0));
        }
    }

    #[test]
    fn invalid_utf_8_ends_the_stream_after_the_events_before_it() {
        let (events, outcome) = read(&[b"data: a\n\ndata: \xff\n\ndata: b\n\n"], 100);
        assert_eq!((events, outcome), (vec![event("", "a")], Err(Fault::NotText)));
        assert_eq!(read(&[b"data: \xc3", b"\xbc\n\n"], 100).0, [event("", "ü")], "a cut inside a character");
    }

    /// The stream in one piece.
    fn whole(bytes: &[u8]) -> (Vec<(String, String)>, Result<(), Fault>) {
        read(&[bytes], 40)
    }

    fn fragment() -> impl Strategy<Value = Vec<u8>> {
        let text = [
            "event: delta",
            "data: x",
            "data",
            ":",
            ": c",
            "id: 1",
            "\n",
            "\n\n",
            "\r",
            "\r\n",
            "\u{FEFF}",
            "ü",
        ];
        prop_oneof![
            8 => select(text.map(|text| text.as_bytes().to_vec()).to_vec()),
            1 => vec(any::<u8>(), 0..4),
            1 => (0..60_usize).prop_map(|length| vec![b'x'; length]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn chunks_make_no_difference(fragments in vec(fragment(), 0..24), cuts in vec(any::<Index>(), 0..8)) {
            let bytes = fragments.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks, 40), whole(&bytes));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&single, 40), whole(&bytes));
        }
    }
}
