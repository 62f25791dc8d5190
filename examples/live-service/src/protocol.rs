//! The frames that client and service exchange: one JSON object per text frame, distinguished by `type`.

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};

/// The subprotocol. A browser offers it in addition to the one that carries the token.
pub(crate) const NAME: &str = "live";

/// Maximum size of a frame. The largest content is a token.
pub(crate) const MAX_FRAME: usize = 16 * 1024;
/// Maximum size of a message as JSON: a PostgreSQL notification holds 8000 bytes.
const MAX_MESSAGE: usize = 6 * 1024;
const MAX_NAME: usize = 128;

/// Frames from the client.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FromClient {
    Send(Send),
    /// A new token of the same session, before the old one expires.
    Renew {
        access_token: String,
    },
}

/// A message to an inbox.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    /// Chosen by the client, different for each message. A message sent again with the same id is not stored
    /// again.
    pub(crate) id: String,
    /// The subject whose inbox it is; the sender's own if absent.
    pub(crate) to: Option<String>,
    pub(crate) body: String,
}

impl Send {
    /// Refuses messages that do not fit into a row and a notification.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let names = [Some(&self.id), self.to.as_ref()];
        let names_fit = names.into_iter().flatten().all(|name| (1..=MAX_NAME).contains(&name.len()));
        // PostgreSQL stores any text except this character.
        let has_nul = [Some(&self.id), self.to.as_ref(), Some(&self.body)]
            .into_iter()
            .flatten()
            .any(|text| text.contains('\0'));
        match () {
            () if !names_fit || has_nul => Err(Refusal::BadRequest),
            () if json(&self.body).len() > MAX_MESSAGE => Err(Refusal::TooLarge),
            () => Ok(()),
        }
    }
}

/// Frames from the service.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ToClient<'a> {
    /// The first frame. `seq` is the position of the inbox, `expires_at` the end of the token.
    Welcome { replica: &'a str, subject: &'a str, seq: i64, expires_at: i64 },
    /// A message of the user's inbox. Its `seq` is one more than that of the previous one.
    Message(&'a Message),
    /// The messages after `after` and up to `until` are no longer kept.
    Missed { after: i64, until: i64 },
    /// The message is stored and will reach every device of its user, now or when the device reconnects.
    Sent { id: &'a str, seq: i64 },
    /// The socket now uses the new token.
    Renewed { expires_at: i64 },
    /// Nothing was done.
    Error { code: Refusal, id: Option<&'a str> },
}

impl ToClient<'_> {
    pub(crate) fn frame(&self) -> Utf8Bytes {
        json(self).into()
    }
}

/// A stored message.
#[derive(Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) seq: i64,
    pub(crate) from: String,
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) sent_at: i64,
}

/// Why nothing was done.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// Not one of the frames above.
    BadRequest,
    /// The message is larger than 6 KiB.
    TooLarge,
    /// To another user, without the permission `live:send`.
    Forbidden,
    /// The new token is not valid. The socket keeps the old one.
    InvalidToken,
    /// The new token belongs to another subject.
    OtherSubject,
    /// The new token belongs to another session.
    OtherSession,
    /// The database or the issuer's keys are unavailable. The message may or may not have been stored: send
    /// it again with the same id.
    Unavailable,
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("text and numbers have a JSON form")
}
