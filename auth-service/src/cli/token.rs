//! `auth-service token …`: checks tokens as a resource server does. Needs neither database nor configuration.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use verifier::{
    Clock as _, Expected, KeySet, Kid, Reason, Seconds, SystemClock, UnixTime, Verified, VerifyError,
};

use super::{Failure, jwks};

/// Maximum size of a token; `verifier` checks it first.
const MAX_TOKEN: usize = 8 * 1024;
/// Exit code if nothing could be checked.
const NOT_CHECKED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Check access tokens from standard input, one per line; print one line of JSON per token that says
    /// whether it is accepted.
    ///
    /// Exit code 0: all are accepted. 1: some are refused. 2: nothing could be checked. Does not check
    /// whether a token's session has ended or its key was compromised.
    Check(Check),
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The key set: a file, or the URL of `/.well-known/jwks.json` (https, or http to this machine).
    #[arg(long, value_name = "FILE|URL")]
    jwks: String,
    /// The exact `iss` that tokens must have.
    #[arg(long)]
    issuer: String,
    /// An accepted audience; may be repeated, and a token needs only one of them.
    #[arg(long, required = true)]
    audience: Vec<String>,
    /// Check as of this time, in Unix seconds.
    #[arg(long, value_name = "UNIX")]
    now: Option<i64>,
    /// Tolerated clock difference in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(0..=120))]
    leeway: i64,
}

/// Runs the command. A refused token is a result, not an error.
pub(crate) async fn run(TokenCommand::Check(check): TokenCommand) -> ExitCode {
    match check.run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(NOT_CHECKED)
        }
    }
}

impl Check {
    async fn run(self) -> Result<bool, Failure> {
        let keys = load_keys(&self.jwks).await?;
        let expected = Expected::new(self.issuer, self.audience).with_leeway(Seconds(self.leeway));
        let clock = SystemClock::new();
        let verify =
            |token: &str| expected.verify(token, &keys, self.now.map_or_else(|| clock.now(), UnixTime));
        Ok(check_lines(io::stdin().lock(), io::stdout().lock(), verify)?)
    }
}

async fn load_keys(place: &str) -> Result<KeySet, Failure> {
    let keys = KeySet::parse(&jwks::read(place).await?)?;
    if keys.is_empty() { Err("the key set has no usable key".into()) } else { Ok(keys) }
}

/// The result of a check. Contains no part of the token.
#[derive(Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Outcome<'a> {
    Accept { kid: &'a Kid, sub: &'a str, exp: UnixTime },
    Reject { label: &'static str, detail: String },
}

#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

/// Checks each line as it arrives, so that the command works interactively. Returns whether all tokens were
/// accepted. Stops if the output is closed.
fn check_lines(
    mut tokens: impl BufRead,
    mut output: impl Write,
    verify: impl Fn(&str) -> Result<Verified, VerifyError>,
) -> io::Result<bool> {
    let (mut token, mut all_accepted) = (Vec::new(), true);
    for line in 1.. {
        let Some(fits) = read_line(&mut tokens, &mut token)? else { break };
        let text = std::str::from_utf8(token.trim_ascii());
        let checked = match text {
            _ if !fits => Err(Reason::TooLong.into()),
            Ok("") => continue,
            Ok(text) => verify(text),
            Err(_) => Err(Reason::NotJws.into()),
        };
        all_accepted &= checked.is_ok();
        let outcome = match &checked {
            Ok(verified) => {
                Outcome::Accept { kid: verified.kid(), sub: verified.subject(), exp: verified.expires_at() }
            }
            Err(VerifyError::Invalid(reason)) => {
                Outcome::Reject { label: reason.label(), detail: reason.to_string() }
            }
            Err(error) => Outcome::Reject { label: error.label(), detail: error.to_string() },
        };
        let text = serde_json::to_string(&Line { line, outcome })?;
        match writeln!(output, "{text}").and_then(|()| output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(all_accepted)
}

/// Reads a line without its line break into `line`. Returns whether it fits: of a line that is longer than a
/// token and some white space, only the start is kept. Returns `None` at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    const MAX_LINE: usize = MAX_TOKEN + 64;
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
            assert!(line.capacity() <= 2 * (MAX_TOKEN + 64), "{}", line.capacity());
            lines.push((fits, line.len()));
        }
        lines
    }

    #[test]
    fn overlong_line_is_not_buffered() {
        let longest = MAX_TOKEN + 64;
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
}
