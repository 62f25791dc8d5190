//! Passwords known from data breaches: a filter that fits into the program.
//!
//! A key is the first 64 bits of the SHA-1 hash of a password. SHA-1, because the lists of Pwned Passwords contain
//! nothing else; a collision that somebody makes on purpose only gets their own password refused. The first bits of a key
//! choose a bucket, the next 16 are kept there in order. All numbers are little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `AUTHBRP1` |
//! | 1 | `b`: there are 2^b buckets |
//! | 4 | the number of passwords |
//! | 2, then as many as they say | where the list comes from, in UTF-8 |
//! | 4 · 2^b | for each bucket, the number of passwords in it and in all before it |
//! | 2 · number | 16 bits of each key |
//! | 32 | SHA-256 of everything before |
//!
//! A bucket holds 8 to 16 passwords on average, so that at most one of 4,096 other passwords is found by mistake.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use ring::digest;

use super::password::Password;

/// The bundled filter. `auth-service/breached-passwords/NOTICE.md` says where it comes from and how it was made.
const BUNDLED: &[u8] = include_bytes!("../../breached-passwords/filter.bin");

const MAGIC: &[u8] = b"AUTHBRP1";
/// Magic, bits, count, length of the source.
const FIXED: usize = 15;
const CHECKSUM: usize = 32;
/// The mean of passwords in a bucket is at most this.
const FULL_BUCKET: usize = 16;
/// 2^28 buckets hold all 32-bit counts.
const MOST_BITS: u8 = 28;

/// Why a file is not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenFilter {
    /// It does not begin like one.
    #[error(
        "is not a filter of breached passwords; create one with `auth-service config breached-passwords`"
    )]
    NotAFilter,
    /// It is not as long as its header says.
    #[error("is cut off or has excess bytes; copy it again")]
    WrongLength,
    /// It was changed after it was created.
    #[error("is damaged: its checksum does not match; copy it again")]
    WrongChecksum,
}

/// Why a filter was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableList {
    /// The count has 32 bits.
    #[error("more than 4294967295 passwords")]
    TooMany,
    /// The length of the source has 16 bits.
    #[error("the source must have at most 65535 bytes")]
    LongSource,
}

/// Passwords known from data breaches. May also say so of others: see
/// [`false_positive_rate`](Self::false_positive_rate).
#[derive(Clone)]
pub struct BreachedPasswords {
    bytes: Cow<'static, [u8]>,
    bits: u8,
    count: u32,
    source: Range<usize>,
}

impl BreachedPasswords {
    /// The list that comes with the program. Its checksum is not computed, so that only the pages that are used are
    /// loaded.
    pub fn bundled() -> Result<Self, BrokenFilter> {
        Self::parse(Cow::Borrowed(BUNDLED))
    }

    /// Checks the content of a file.
    pub fn from_file(bytes: Vec<u8>) -> Result<Self, BrokenFilter> {
        let filter = Self::parse(Cow::Owned(bytes))?;
        filter.check_sum()?;
        Ok(filter)
    }

    fn parse(bytes: Cow<'static, [u8]>) -> Result<Self, BrokenFilter> {
        let header = bytes.strip_prefix(MAGIC).ok_or(BrokenFilter::NotAFilter)?;
        let &[bits, a, b, c, d, low, high, ..] = header else { return Err(BrokenFilter::WrongLength) };
        let count = u32::from_le_bytes([a, b, c, d]);
        let source = usize::from(u16::from_le_bytes([low, high]));
        if bits > MOST_BITS {
            return Err(BrokenFilter::NotAFilter);
        }
        let length = FIXED + source + (4 << bits) + 2 * count as usize + CHECKSUM;
        if bytes.len() != length {
            return Err(BrokenFilter::WrongLength);
        }
        Ok(Self { bytes, bits, count, source: FIXED..FIXED + source })
    }

    fn check_sum(&self) -> Result<(), BrokenFilter> {
        let (content, sum) = self.bytes.split_at(self.bytes.len() - CHECKSUM);
        if digest::digest(&digest::SHA256, content).as_ref() == sum {
            Ok(())
        } else {
            Err(BrokenFilter::WrongChecksum)
        }
    }

    /// Whether the list contains this password, exactly as it is written.
    pub fn contains(&self, password: &str) -> bool {
        let (bucket, rest) = split(key_of(password.as_bytes()), self.bits);
        self.bucket(bucket).is_some_and(|entries| {
            let (pairs, _) = entries.as_chunks::<2>();
            pairs.binary_search_by_key(&rest, |pair| u16::from_le_bytes(*pair)).is_ok()
        })
    }

    /// The number of passwords in the list.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where the list comes from.
    pub fn source(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes[self.source.clone()])
    }

    /// The share of passwords outside the list that [`contains`](Self::contains) finds all the same.
    pub fn false_positive_rate(&self) -> f64 {
        f64::from(self.count) / 2_f64.powi(i32::from(self.bits) + 16)
    }

    /// The bytes of a bucket. `None` if the counts make no sense, which only a forged file can achieve.
    fn bucket(&self, number: usize) -> Option<&[u8]> {
        let counts = &self.bytes[self.source.end..];
        let start = match number.checked_sub(1) {
            Some(before) => u32_at(counts, 4 * before)?,
            None => 0,
        };
        let end = u32_at(counts, 4 * number)?;
        let entries = counts.get(4 << self.bits..counts.len() - CHECKSUM)?;
        entries.get(2 * start as usize..2 * end as usize)
    }
}

impl fmt::Debug for BreachedPasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreachedPasswords")
            .field("source", &self.source())
            .field("len", &self.count)
            .finish_non_exhaustive()
    }
}

/// The key of a line of a list: a password, or its SHA-1 hash in hexadecimal, followed by `:` and a number in the lists of
/// Pwned Passwords. `None` for an empty line.
pub fn key_of_line(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(line).ok();
    if let Some(hash) = text.and_then(hash_of_line) {
        return Some(hash);
    }
    // As passwords are compared, if it is text.
    let normal = text.map(|text| Password::new(text.to_owned()));
    Some(key_of(normal.as_ref().map_or(line, |password| password.text().as_bytes())))
}

fn hash_of_line(line: &str) -> Option<u64> {
    let (hash, count) = line.split_once(':').unwrap_or((line, ""));
    let is_hash = hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_line = is_hash && count.bytes().all(|byte| byte.is_ascii_digit());
    is_line.then(|| u64::from_str_radix(&hash[..16], 16).ok()).flatten()
}

/// Creates the content of a file from the keys of passwords, in any order. `source` says where they come from.
pub fn build(mut keys: Vec<u64>, source: &str) -> Result<Vec<u8>, UnusableList> {
    keys.sort_unstable();
    keys.dedup();
    let count = u32::try_from(keys.len()).map_err(|_| UnusableList::TooMany)?;
    let length = u16::try_from(source.len()).map_err(|_| UnusableList::LongSource)?;
    let bits = keys.len().div_ceil(FULL_BUCKET).next_power_of_two().trailing_zeros().to_le_bytes()[0];

    let mut bytes = Vec::with_capacity(FIXED + source.len() + (4 << bits) + 2 * keys.len() + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.push(bits);
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(source.as_bytes());
    let mut before = 0_u32;
    let mut buckets = keys.iter().map(|key| split(*key, bits).0).peekable();
    for bucket in 0..1_usize << bits {
        while buckets.next_if_eq(&bucket).is_some() {
            before += 1;
        }
        bytes.extend_from_slice(&before.to_le_bytes());
    }
    bytes.extend(keys.iter().flat_map(|key| split(*key, bits).1.to_le_bytes()));
    let sum = digest::digest(&digest::SHA256, &bytes);
    bytes.extend_from_slice(sum.as_ref());
    Ok(bytes)
}

fn key_of(password: &[u8]) -> u64 {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
    hash.as_ref().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// The bucket of a key, and what is kept in it.
fn split(key: u64, bits: u8) -> (usize, u16) {
    let both = key >> (48 - bits);
    let [low, high, ..] = both.to_le_bytes();
    // At most 28 bits.
    (usize::try_from(both >> 16).unwrap_or_default(), u16::from_le_bytes([low, high]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(lines: &[&str]) -> BreachedPasswords {
        let keys = lines.iter().filter_map(|line| key_of_line(line.as_bytes())).collect();
        BreachedPasswords::from_file(build(keys, "a test").unwrap()).unwrap()
    }

    fn numbered(from: u32, to: u32) -> Vec<String> {
        (from..to).map(|number| format!("password-{number}")).collect()
    }

    #[test]
    fn every_password_of_the_list_is_found_at_every_size() {
        for size in [0, 1, 2, 16, 17, 32, 33, 1000, 5000] {
            let lines = numbered(0, size);
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let filter = filter(&lines);
            assert_eq!((filter.len(), filter.is_empty(), &*filter.source()), (size, size == 0, "a test"));
            assert!(lines.iter().all(|line| filter.contains(line)), "{size}");
        }
    }

    #[test]
    fn other_passwords_are_found_as_rarely_as_stated() {
        let lines = numbered(0, 5000);
        let filter = filter(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(filter.false_positive_rate() <= 1.0 / 4096.0);
        let found = numbered(5000, 405_000).iter().filter(|other| filter.contains(other)).count();
        let expected = 400_000.0 * filter.false_positive_rate();
        // Four standard deviations.
        let spread = 4.0 * expected.sqrt();
        let found = f64::from(u32::try_from(found).unwrap());
        assert!((expected - spread..expected + spread).contains(&found), "{found} of {expected}");
    }

    #[test]
    fn list_may_have_duplicates_hashes_and_windows_lines() {
        // SHA-1 of `plum tractor` and of `cobalt 49`.
        let filter = filter(&[
            "crème brûlée",
            "cre\u{300}me bru\u{302}le\u{301}e",
            "",
            "with return\r",
            "FB9E44B84B92C2B267AF229E18F53C6E7F6B759D:17",
            "eac70754f9c9b9bfd4f3d07d5a1b425647d1888d",
        ]);
        assert_eq!(filter.len(), 4);
        for found in ["crème brûlée", "with return", "plum tractor", "cobalt 49"] {
            assert!(filter.contains(found), "{found}");
        }
        assert!(!filter.contains("with return\r"));
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes =
            build(numbered(0, 100).iter().filter_map(|line| key_of_line(line.as_bytes())).collect(), "x");
        let bytes = bytes.unwrap();
        let refusal = |bytes: &[u8]| BreachedPasswords::from_file(bytes.to_vec()).map(drop);
        assert_eq!(refusal(&bytes), Ok(()));
        assert_eq!(refusal(b"password\n123456\n"), Err(BrokenFilter::NotAFilter));
        for length in [8, FIXED - 1, FIXED, bytes.len() - 1] {
            assert_eq!(refusal(&bytes[..length]), Err(BrokenFilter::WrongLength), "{length}");
        }
        assert_eq!(refusal(&[&bytes[..], b"\n"].concat()), Err(BrokenFilter::WrongLength));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(refusal(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn senseless_counts_find_nothing() {
        let mut bytes = build(vec![key_of(b"x")], "").unwrap();
        bytes[FIXED..FIXED + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let content = bytes.len() - CHECKSUM;
        let sum = digest::digest(&digest::SHA256, &bytes[..content]);
        bytes[content..].copy_from_slice(sum.as_ref());
        assert!(!BreachedPasswords::from_file(bytes).unwrap().contains("x"));
    }

    #[test]
    fn bundled_list_is_large_enough_small_enough_and_whole() {
        let bundled = BreachedPasswords::bundled().unwrap();
        assert_eq!(bundled.check_sum(), Ok(()));
        assert!(bundled.len() >= 1_000_000);
        assert!(BUNDLED.len() <= 4 << 20);
        for known in ["qwerty123456", "1q2w3e4r5t6y", "passwordpassword", "unbelievable", "iloveyou12345"] {
            assert!(bundled.contains(known), "{known}");
        }
        assert!(!bundled.contains("plum-tractor-cobalt-49"));
    }

    #[test]
    fn bundled_list_errs_as_rarely_as_its_notice_says() {
        let bundled = BreachedPasswords::bundled().unwrap();
        assert!(bundled.false_positive_rate() < 0.000_19);
        let wrong =
            numbered(0, 200_000).iter().filter(|other| bundled.contains(&format!("~{other}~"))).count();
        assert!((10..=66).contains(&wrong), "{wrong} of 200,000, expected 37");
    }
}
