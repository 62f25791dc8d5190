//! Base64url without padding (RFC 7515 §2). Each byte string has exactly one accepted encoding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A buffer for one decoded part of a token: on the stack up to `N` bytes, on the heap beyond.
pub(crate) struct Scratch<const N: usize> {
    stack: [u8; N],
    heap: Vec<u8>,
}

impl<const N: usize> Scratch<N> {
    pub(crate) fn new() -> Self {
        Self { stack: [0; N], heap: Vec::new() }
    }

    /// Decodes `text`; `None` for padding, white space, the other alphabet, or trailing bits that are not
    /// zero. A second encoding of the same token would bypass every cache and deny list that is keyed on its
    /// text.
    pub(crate) fn decode(&mut self, text: &str) -> Option<&[u8]> {
        // `decode_slice` requires this length, rounded up to whole groups of four.
        let room = text.len().div_ceil(4) * 3;
        let out = if room <= N {
            &mut self.stack[..]
        } else {
            self.heap.resize(room, 0);
            &mut self.heap[..]
        };
        let length = URL_SAFE_NO_PAD.decode_slice(text, out).ok()?;
        Some(&out[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_string_has_one_encoding() {
        let mut scratch = Scratch::<8>::new();
        assert_eq!(scratch.decode("TQ"), Some(&b"M"[..]));
        for other in ["TR", "TQ==", "TQ=", " TQ", "T Q", "TQ\n", "T", "T+/A"] {
            assert_eq!(Scratch::<8>::new().decode(other), None, "{other:?}");
        }
    }

    #[test]
    fn long_parts_move_to_the_heap() {
        let long = vec![7; 1000];
        assert_eq!(Scratch::<16>::new().decode(&encode(&long)), Some(&long[..]));
    }
}
