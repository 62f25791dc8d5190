//! Strict JSON parsing without copies.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::core::error::Reason;

/// A string, borrowed from the document unless it has escapes.
pub(crate) struct Text<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// An object that is read strictly: no member twice, and every known one of its type.
pub(crate) trait Object<'de>: Default {
    /// What serde's messages call it.
    const WHAT: &'static str;
    /// The fault when the text is not such an object.
    const MALFORMED: Reason;

    /// Reads a known `member` into its place and skips any other.
    fn take<A: MapAccess<'de>>(&mut self, member: Member<'_, 'de, A>) -> Result<(), A::Error>;
}

/// The object that is the whole of `json`, or the first fault in it.
pub(crate) fn parse<'de, T: Object<'de>>(json: &'de str) -> Result<T, Reason> {
    let mut fault = T::MALFORMED;
    let mut reader = serde_json::Deserializer::from_str(json);
    let object = reader.deserialize_map(ObjectVisitor { fault: &mut fault, object: PhantomData });
    object.and_then(|object| reader.end().map(|()| object)).map_err(|_| fault)
}

/// As [`parse`], for an object inside another document.
pub(crate) fn deserialize<'de, T: Object<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let mut fault = T::MALFORMED;
    deserializer.deserialize_map(ObjectVisitor { fault: &mut fault, object: PhantomData })
}

/// A member whose value is to be read or skipped.
pub(crate) struct Member<'m, 'de, A> {
    name: Text<'de>,
    map: &'m mut A,
    fault: &'m mut Reason,
    unknown: &'m mut BTreeSet<Cow<'de, str>>,
}

impl<'de, A: MapAccess<'de>> Member<'_, 'de, A> {
    /// Its name, without escapes: `"a"` and `"\u0061"` are one.
    pub(crate) fn name(&self) -> &str {
        &self.name.0
    }

    /// Reads the value into `slot`. `bad` is the fault if it has another type.
    pub(crate) fn read_into<T: Deserialize<'de>>(
        self,
        slot: &mut Option<T>,
        bad: Reason,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(duplicate(self.fault));
        }
        let malformed = std::mem::replace(self.fault, bad);
        *slot = Some(self.map.next_value()?);
        *self.fault = malformed;
        Ok(())
    }

    /// Ignores the value of a member that is not known.
    pub(crate) fn skip(self) -> Result<(), A::Error> {
        self.map.next_value::<Skipped>()?;
        if self.unknown.insert(self.name.0) { Ok(()) } else { Err(duplicate(self.fault)) }
    }
}

fn duplicate<E: Error>(fault: &mut Reason) -> E {
    *fault = Reason::DuplicateName;
    E::custom("duplicate member")
}

/// Reads an object in one pass.
struct ObjectVisitor<'r, T> {
    /// What to report if reading ends in an error.
    fault: &'r mut Reason,
    object: PhantomData<T>,
}

impl<'de, T: Object<'de>> Visitor<'de> for ObjectVisitor<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        // Empty, and free, for most tokens. A tree, because a header is read before anything about its sender
        // is known: an attacker who chooses the names must not be able to make lookups slow.
        let mut unknown = BTreeSet::new();
        while let Some(name) = map.next_key()? {
            object.take(Member { name, map: &mut map, fault: self.fault, unknown: &mut unknown })?;
        }
        Ok(object)
    }
}

/// Any value, read and dropped. Unlike `serde::de::IgnoredAny` it observes the depth limit of `serde_json`
/// (128) and validates escapes and numbers.
pub(crate) struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Skipped {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Text<'de>, Self>()?.is_some() {}
        Ok(self)
    }
}
