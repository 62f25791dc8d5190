//! JSON objects as they stand there.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// An object with its members in order, duplicates included.
pub struct Pairs(pub Vec<(String, Value)>);

impl Pairs {
    /// `None` if there is a duplicate member.
    pub fn once(self) -> Option<BTreeMap<String, Value>> {
        let count = self.0.len();
        let members: BTreeMap<_, _> = self.0.into_iter().collect();
        (members.len() == count).then_some(members)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
                    // A number out of range is text like any other in a member that nobody reads.
                    pairs.push((name, serde_json::from_str(raw.get()).unwrap_or_default()));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
