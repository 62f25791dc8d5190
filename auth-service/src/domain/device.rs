//! The device value: a client that sends it back is one from which the user has logged in before.
//!
//! `dv1.` + base64url(MAC key id, u32 ‖ device id, 16 random bytes ‖ HMAC-SHA-256 tag, 32 bytes), numbers in network byte
//! order: 74 characters. The tag is over everything before it, including the prefix, and over the id of the user and their
//! credential version, which the value does not contain: it tells its holder nothing about the user, and a new password makes
//! it void. Nothing is stored per device until it is used with a wrong password.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use secrecy::SecretString;

use super::user::UserId;

const PREFIX: &str = "dv1.";
const BODY: usize = 4 + 16;
const TAG: usize = 32;
const ENCODED: usize = ((BODY + TAG) * 4).div_ceil(3);

/// The random id of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId([u8; 16]);

impl DeviceId {
    /// The id with these random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The user to whom a device belongs, and the version of their credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// Changes with the password and the right to log in.
    pub credential_version: i64,
}

/// A well-formed device value with an unchecked MAC.
#[derive(Clone, Copy, Debug)]
pub struct UncheckedDevice {
    mac_key_id: u32,
    id: DeviceId,
    tag: [u8; TAG],
}

impl UncheckedDevice {
    /// Parses a value; `None` if it is malformed or not in its canonical spelling.
    pub fn parse(value: &str) -> Option<Self> {
        let encoded = value.strip_prefix(PREFIX).filter(|encoded| encoded.len() == ENCODED)?;
        let mut bytes = [0; BODY + TAG];
        URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes).ok()?;
        let (key_id, rest) = bytes.split_first_chunk::<4>()?;
        let (id, tag) = rest.split_first_chunk::<16>()?;
        Some(Self { mac_key_id: u32::from_be_bytes(*key_id), id: DeviceId(*id), tag: tag.try_into().ok()? })
    }

    /// The id of the key to check the MAC with.
    pub fn mac_key_id(&self) -> u32 {
        self.mac_key_id
    }

    /// The device's id, which anyone can have made up before the check.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Whether the value was made for `owner`. Compares in constant time.
    pub fn belongs_to(&self, owner: &Owner, key: &hmac::Key) -> bool {
        hmac::verify(key, &authenticated(self.mac_key_id, self.id, owner), &self.tag).is_ok()
    }
}

/// The device value for `owner`.
pub fn seal(id: DeviceId, owner: &Owner, mac_key_id: u32, key: &hmac::Key) -> SecretString {
    let authenticated = authenticated(mac_key_id, id, owner);
    let mut bytes = [0; BODY + TAG];
    bytes[..BODY].copy_from_slice(&authenticated[PREFIX.len()..][..BODY]);
    bytes[BODY..].copy_from_slice(hmac::sign(key, &authenticated).as_ref());
    let mut value = String::with_capacity(PREFIX.len() + ENCODED);
    value.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut value);
    value.into()
}

fn authenticated(mac_key_id: u32, id: DeviceId, owner: &Owner) -> Vec<u8> {
    let version = owner.credential_version.to_be_bytes();
    [PREFIX.as_bytes(), &mac_key_id.to_be_bytes(), &id.0, owner.user.as_bytes(), &version].concat()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn owner(user: u8, credential_version: i64) -> Owner {
        Owner { user: UserId::from_random([user; 16]), credential_version }
    }

    fn value() -> String {
        seal(DeviceId::from_random([7; 16]), &owner(1, 3), 9, &key(1)).expose_secret().to_owned()
    }

    #[test]
    fn value_belongs_to_its_user_until_the_credentials_change() {
        let (value, key_1) = (value(), key(1));
        let device = UncheckedDevice::parse(&value).unwrap();
        assert_eq!((value.len(), device.mac_key_id(), device.id()), (74, 9, DeviceId::from_random([7; 16])));
        assert!(device.belongs_to(&owner(1, 3), &key_1));
        assert!(!device.belongs_to(&owner(1, 4), &key_1), "another password");
        assert!(!device.belongs_to(&owner(2, 3), &key_1), "another user");
        assert!(!device.belongs_to(&owner(1, 3), &key(2)), "another installation");
    }

    #[test]
    fn every_change_of_a_value_is_refused() {
        let value = value();
        for place in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let accepted = UncheckedDevice::parse(&changed)
                .is_some_and(|device| device.belongs_to(&owner(1, 3), &key(1)));
            assert!(!accepted, "{changed}");
        }
        for bad in ["", "dv1.", &value[..73], &format!("{value}A"), &value.replace("dv1", "rt1")] {
            assert!(UncheckedDevice::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn value_contains_nothing_of_its_user() {
        let same = |user| {
            let value = seal(DeviceId::from_random([7; 16]), &owner(user, 3), 9, &key(1));
            value.expose_secret()[..4 + BODY * 4 / 3].to_owned()
        };
        assert_eq!(same(1), same(2));
    }
}
