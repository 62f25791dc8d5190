//! `auth-service token …`: checks tokens as a resource server does, and says what is wrong with them.

mod input;
mod liveness;
mod unverified;

use std::io::{self, BufRead, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use auth_service::boot::database::Access;
use auth_service::config::{ADMIN_AUDIENCE, Loaded};
use clap::{Args, Subcommand};
use serde::Serialize;
use verifier::{
    Clock as _, Expected, KeySet, Kid, Reason, Seconds, SystemClock, UnixTime, Verified, VerifyError,
};

use super::installation::{Context, Installation};
use super::output::{self, Output, when};
use super::{Failure, jwks};
use input::{pasted, read_line};
use liveness::{Liveness, SessionState};
use unverified::Unverified;

/// Exit code if nothing could be checked.
const NOT_CHECKED: u8 = 2;
/// Time to read stored settings; a resource server may have no database.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Say of access tokens on standard input, one per line, whether a resource server accepts them, and if not, why.
    ///
    /// Asks the issuer whether the session has ended, if it can be reached. Never prints any part of a token, only what its
    /// claims say. Exit code 0: all are accepted. 1: some are refused. 2: nothing could be checked.
    #[command(
        after_help = "Examples:\n  echo \"$ACCESS\" | auth-service token explain\n  auth-service token explain --issuer https://auth.example.com --audience api < tokens"
    )]
    Explain(Explain),
    /// As `explain --json`.
    #[command(hide = true)]
    Check(Explain),
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The key set: a file, or the URL of `/.well-known/jwks.json` (https, or http to this machine). Defaults to that of
    /// the issuer.
    #[arg(long, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// The exact `iss` that tokens must have. Defaults to that of the local configuration.
    #[arg(long)]
    issuer: Option<String>,
    /// An accepted audience; may be repeated, and a token needs only one of them. Defaults to all audiences of the local
    /// configuration.
    #[arg(long)]
    audience: Vec<String>,
    /// Check as of this time, in Unix seconds.
    #[arg(long, value_name = "UNIX")]
    now: Option<i64>,
    /// Tolerated clock difference in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(0..=120))]
    leeway: i64,
}

/// Runs the command. A refused token is a result, not an error.
pub(crate) async fn run(context: &Context, command: TokenCommand) -> ExitCode {
    let (explain, output) = match command {
        TokenCommand::Explain(explain) => (explain, context.output),
        TokenCommand::Check(explain) => (explain, Output { json: true, quiet: true }),
    };
    match explain.run(context, output).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            output::error(&failure.to_string());
            ExitCode::from(NOT_CHECKED)
        }
    }
}

impl Explain {
    async fn run(self, context: &Context, output: Output) -> Result<bool, Failure> {
        let (issuer, audiences) = match (self.issuer, self.audience) {
            (Some(issuer), audiences) if !audiences.is_empty() => (issuer, audiences),
            (issuer, audiences) => {
                let loaded = context.load()?;
                let audiences = if audiences.is_empty() { local_audiences(&loaded).await } else { audiences };
                (issuer.unwrap_or(loaded.config.issuer), audiences)
            }
        };
        let place = self.jwks.unwrap_or_else(|| format!("{issuer}/.well-known/jwks.json"));
        let document = jwks::read(&place).await?;
        let keys = KeySet::parse(&document)?;
        if keys.is_empty() {
            return Err(format!("the key set at {place} has no usable key").into());
        }
        let leeway = Seconds(self.leeway);
        output.remark(&format!(
            "expected: issuer {issuer}, audience {}, a key of {place}",
            audiences.join(" or ")
        ));
        let liveness = match self.now {
            // The feed tells only what is over now.
            Some(_) => Liveness::unknown(),
            None => Liveness::new(&issuer, &audiences, leeway, &document),
        };
        let check = Check {
            expected: Expected::new(&issuer, &audiences).with_leeway(leeway),
            issuer,
            audiences,
            keys,
            now: self.now.map(UnixTime),
            liveness,
            output,
        };
        if io::stdin().is_terminal() {
            output.remark("paste tokens, one per line; Ctrl-D ends the input");
        }
        check.lines(io::stdin().lock()).await
    }
}

/// The audiences of the local configuration, with stored settings if the database can be read, and that of the admin API.
async fn local_audiences(loaded: &Loaded) -> Vec<String> {
    let stored = async {
        let installation = Installation::open(loaded.clone(), Access::Read).await?;
        Ok::<_, Failure>(installation.settings().await?.now().audiences.clone())
    };
    let audiences = match tokio::time::timeout(SETTINGS_TIMEOUT, stored).await {
        Ok(Ok(audiences)) => audiences,
        _ => loaded.settings.audiences.clone(),
    };
    [audiences, vec![ADMIN_AUDIENCE.to_owned()]].concat()
}

struct Check {
    expected: Expected,
    issuer: String,
    audiences: Vec<String>,
    keys: KeySet,
    /// `None`: the time at which a token is read.
    now: Option<UnixTime>,
    liveness: Liveness,
    output: Output,
}

/// What is known of a token. Contains no part of it.
#[derive(Debug, Default, Serialize)]
struct Explanation {
    line: u64,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<Kid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aud: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<UnixTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionState>,
}

impl Check {
    /// Checks each line as it arrives, so that the command works interactively. Returns whether all tokens were accepted.
    async fn lines(&self, mut tokens: impl BufRead) -> Result<bool, Failure> {
        let clock = SystemClock::new();
        let (mut token, mut is_empty, mut all_accepted) = (Vec::new(), true, true);
        for line in 1.. {
            let Some(fits) = read_line(&mut tokens, &mut token)? else { break };
            let text = std::str::from_utf8(token.trim_ascii()).map(pasted);
            if text == Ok("") {
                continue;
            }
            is_empty = false;
            let now = self.now.unwrap_or_else(|| clock.now());
            let mut explanation = match text {
                _ if !fits => refused(&Reason::TooLong),
                Ok(text) => self.explain(text, now).await,
                Err(_) => refused(&Reason::NotJws),
            };
            explanation.line = line;
            all_accepted &= explanation.result == "accept";
            self.print(&explanation, now)?;
        }
        if is_empty {
            return Err("no token was given: pass one per line on standard input, such as `echo \"$ACCESS\" | auth-service token explain`".into());
        }
        Ok(all_accepted)
    }

    async fn explain(&self, token: &str, now: UnixTime) -> Explanation {
        if token.starts_with("rt1.") {
            return Explanation {
                result: "reject",
                label: Some("refresh_token"),
                detail: Some(
                    "a refresh token, which only /v1/refresh takes; resource servers take the access token"
                        .to_owned(),
                ),
                ..Explanation::default()
            };
        }
        let verified: Verified = match self.expected.verify(token, &self.keys, now) {
            Ok(verified) => verified,
            Err(VerifyError::Invalid(reason)) => {
                let found = Unverified::read(token);
                let detail = found.compare(&reason, &self.issuer, &self.audiences, now);
                return Explanation {
                    detail: detail.or_else(|| Some(reason.to_string())),
                    ..refused(&reason)
                };
            }
            Err(error) => {
                let (label, detail) = (Some(error.label()), Some(error.to_string()));
                return Explanation { result: "reject", label, detail, ..Explanation::default() };
            }
        };
        let session = self.liveness.of(token).await;
        let known = Explanation {
            result: "accept",
            kid: Some(verified.kid().clone()),
            sub: Some(verified.subject().to_owned()),
            iss: Some(verified.issuer().to_owned()),
            aud: verified.audience().to_vec(),
            exp: Some(verified.expires_at()),
            session: Some(session.state),
            ..Explanation::default()
        };
        match session.refused {
            Some(reason) => {
                let detail = match &reason {
                    Reason::RevokedSession => {
                        "the session has ended: logged out, or ended by an operator or a password change"
                            .to_owned()
                    }
                    Reason::RevokedKey => "the key that signed it was withdrawn as compromised".to_owned(),
                    other => other.to_string(),
                };
                Explanation { result: "reject", label: Some(reason.label()), detail: Some(detail), ..known }
            }
            None => known,
        }
    }

    fn print(&self, explanation: &Explanation, now: UnixTime) -> Result<(), Failure> {
        let dash = || "-".to_owned();
        let mut values = vec![("line", explanation.line.to_string())];
        match explanation.label {
            None => values.push(("result", "accepted".to_owned())),
            Some(label) => {
                values.push(("result", format!("refused: {label}")));
                values.push(("why", explanation.detail.clone().unwrap_or_else(dash)));
            }
        }
        if explanation.kid.is_some() {
            values.extend([
                ("subject", explanation.sub.clone().unwrap_or_else(dash)),
                ("issuer", explanation.iss.clone().unwrap_or_else(dash)),
                ("audience", explanation.aud.join(" ")),
                ("key", explanation.kid.as_ref().map_or_else(dash, ToString::to_string)),
                ("expires", when(explanation.exp, now)),
                ("session", explanation.session.map_or_else(dash, |session| session.text().to_owned())),
            ]);
        }
        self.output.object(explanation, &values)
    }
}

fn refused(reason: &Reason) -> Explanation {
    Explanation {
        result: "reject",
        label: Some(reason.label()),
        detail: Some(reason.to_string()),
        ..Explanation::default()
    }
}
