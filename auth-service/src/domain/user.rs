//! Users: ids, names, roles and permissions.

use std::{collections::BTreeSet, fmt};

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use uuid::Uuid;

/// The permanent id of a user; the claim `sub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Uuid);

impl UserId {
    /// A version 4 UUID made of 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Parses the id in its text form: lower case with hyphens; other spellings are refused.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text).map(Self)
    }

    /// The 16 bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Why a text is not a valid user name. The message follows "the user name".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsernameError {
    /// The name is empty after normalisation.
    #[error("must not be empty")]
    Empty,
    /// Longer than [`Username::LONGEST`].
    #[error("must have at most 128 characters")]
    TooLong,
    /// White space, control or format characters, which are invisible or look alike.
    #[error("must not contain spaces, control or invisible characters")]
    Invisible,
    /// A combining mark without a base letter.
    #[error("must not begin with a combining mark")]
    LeadingMark,
}

/// A user name as it is stored and compared: NFKC and case-folded, so that names that differ only in case or
/// width are the same in every database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

impl Username {
    /// The maximum length in code points of the stored form.
    pub const LONGEST: usize = 128;

    /// Normalises a typed name. A stored name stays unchanged.
    pub fn parse(text: &str) -> Result<Self, UsernameError> {
        // Folding can make the text 18 times as long, so its length is checked before folding, too.
        if text.chars().count() > Self::LONGEST {
            return Err(UsernameError::TooLong);
        }
        let folded = fold(text);
        match folded.chars().next() {
            None => Err(UsernameError::Empty),
            Some(first) if is_combining_mark(first) => Err(UsernameError::LeadingMark),
            _ if folded.chars().any(is_invisible) => Err(UsernameError::Invisible),
            _ if folded.chars().count() > Self::LONGEST => Err(UsernameError::TooLong),
            _ => Ok(Self(folded)),
        }
    }

    /// The stored form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Repeats NFKC and default case folding until neither has an effect (Unicode 3.13, D147 without its
/// ignorables).
pub(super) fn fold(text: &str) -> String {
    let mut folded = text.nfkc().collect::<String>();
    loop {
        let next = caseless::default_case_fold_str(&folded).nfkc().collect::<String>();
        if next == folded {
            return folded;
        }
        folded = next;
    }
}

/// Invisible characters: controls, white space, joiners, direction marks, variation selectors, tags.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text is not a valid role name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role name has 1 to 64 letters, digits and . _ : -, and starts with a letter or digit")]
pub struct RoleNameError;

/// The name of a role: 1 to 64 of `A-Z a-z 0-9 . _ : -`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(String);

impl RoleName {
    /// Checks the length and the characters; the name is not folded.
    pub fn parse(text: &str) -> Result<Self, RoleNameError> {
        let shape = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
        let begins_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if begins_well && text.len() <= 64 && text.bytes().all(shape) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RoleNameError)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a valid permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a permission has 1 to 128 printable ASCII characters, except space, quote and backslash")]
pub struct PermissionError;

/// A permission: one scope token of RFC 6749 §3.3, such as `orders:read`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission(String);

impl Permission {
    /// Checks the characters: `%x21 / %x23-5B / %x5D-7E`, 1 to 128 of them.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        let shape = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if (1..=128).contains(&text.len()) && text.bytes().all(shape) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PermissionError)
        }
    }

    /// The permission as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `str` and `Permission` have the same order, so that a set can be searched with either.
impl std::borrow::Borrow<str> for Permission {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A set of permissions; separated by single spaces on the wire and in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet(BTreeSet<Permission>);

impl PermissionSet {
    /// Parses permissions separated by single spaces. The empty text is the empty set; duplicates are
    /// allowed.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(' ').map(Permission::parse).collect()
    }

    /// Whether `permission` is in the set.
    pub fn contains(&self, permission: &str) -> bool {
        self.0.contains(permission)
    }

    /// Whether this set contains all of `other`: a holder of this set may grant `other`.
    pub fn is_superset(&self, other: &Self) -> bool {
        self.0.is_superset(&other.0)
    }

    /// The permissions in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).cloned().collect()
    }

    /// The permissions in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.union(&other.0).cloned().collect()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The permissions in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.0.iter()
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().collect())
    }
}

/// The permissions in alphabetical order, separated by single spaces.
impl fmt::Display for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, permission) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{permission}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        Username::parse(text).unwrap().as_str().to_owned()
    }

    #[test]
    fn names_that_differ_only_in_case_or_width_are_equal() {
        for (typed, stored) in [
            ("Alice", "alice"),
            ("ＡＬＩＣＥ", "alice"),
            ("Straße", "strasse"),
            ("ﬁona", "fiona"),
            ("e\u{301}ve", "\u{e9}ve"),
            ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
            ("İ", "i\u{307}"),
        ] {
            assert_eq!(folded(typed), stored);
        }
    }

    #[test]
    fn folding_a_stored_name_changes_nothing() {
        for point in (0..=0x10_ffff).filter_map(char::from_u32) {
            let once = fold(&format!("a{point}\u{301}"));
            assert_eq!(fold(&once), once, "U+{:04X}", point as u32);
        }
    }

    #[test]
    fn invisible_characters_are_refused() {
        for bad in
            ["a b", "a\n", "\u{0}", "a\u{a0}b", "a\u{200b}b", "a\u{202e}b", "\u{feff}a", "a\u{e0041}", "a\t"]
        {
            assert_eq!(Username::parse(bad), Err(UsernameError::Invisible), "{bad:?}");
        }
        assert_eq!(Username::parse(""), Err(UsernameError::Empty));
        assert_eq!(Username::parse("\u{301}a"), Err(UsernameError::LeadingMark));
    }

    #[test]
    fn limit_counts_the_stored_form() {
        assert!(Username::parse(&"a".repeat(128)).is_ok());
        assert_eq!(Username::parse(&"a".repeat(129)), Err(UsernameError::TooLong));
        assert_eq!(Username::parse(&"ß".repeat(65)), Err(UsernameError::TooLong));
        assert!(Username::parse(&"ß".repeat(64)).is_ok());
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = UserId::from_random([0xab; 16]);
        assert_eq!(UserId::parse(&id.to_string()), Some(id));
        for other in [id.to_string().to_uppercase(), id.to_string().replace('-', ""), format!("{{{id}}}")] {
            assert_eq!(UserId::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn permissions_are_scope_tokens() {
        for good in ["a", "orders:read", "!", "~", "a/b.c[]", &"x".repeat(128)] {
            assert!(Permission::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a\"", "a\\", "é", "a\n", &"x".repeat(129)] {
            assert_eq!(Permission::parse(bad), Err(PermissionError), "{bad}");
        }
    }

    #[test]
    fn sets_have_one_written_form() {
        let set = PermissionSet::parse("b a b").unwrap();
        assert_eq!(set.to_string(), "a b");
        assert!(PermissionSet::parse("").unwrap().is_empty());
        for bad in [" ", "a  b", " a", "a "] {
            assert!(PermissionSet::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn superset_intersection_and_union_of_permissions() {
        let all = PermissionSet::parse("a b c").unwrap();
        let some = PermissionSet::parse("a d").unwrap();
        assert!(!all.is_superset(&some));
        assert!(all.is_superset(&PermissionSet::parse("a c").unwrap()));
        assert!(all.is_superset(&PermissionSet::default()));
        assert_eq!(all.intersection(&some).to_string(), "a");
        assert_eq!(all.union(&some).to_string(), "a b c d");
        assert!(some.contains("d") && !some.contains("b"));
    }

    #[test]
    fn role_names_allow_only_plain_characters() {
        for good in ["admin", "A.b_c:d-1", &"r".repeat(64)] {
            assert!(RoleName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "é", &"r".repeat(65)] {
            assert_eq!(RoleName::parse(bad), Err(RoleNameError), "{bad}");
        }
    }
}
