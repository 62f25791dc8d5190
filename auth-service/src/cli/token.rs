//! `auth-service token …`: what a resource server would say to a token, and why. Needs no database and no configuration.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use verifier::{
    Clock as _, Expected, KeySet, Kid, Reason, Seconds, SystemClock, UnixTime, Verified, VerifyError,
};

use super::{Failure, jwks};

/// No token is longer; see the first check of `verifier`.
const LONGEST_TOKEN: usize = 8 * 1024;
/// Nothing was checked.
const NOT_CHECKED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Check access tokens, one a line from standard input: a line of JSON for each says whether it is accepted, or why not.
    ///
    /// Exit code 0: all are accepted. 1: some are refused. 2: nothing could be checked. Whether a token's session has ended or its
    /// key is revoked is not looked up.
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
    /// The service that checks; may be given several times, one of them is enough.
    #[arg(long, required = true)]
    audience: Vec<String>,
    /// Check as if it were this second (Unix time).
    #[arg(long, value_name = "UNIX")]
    now: Option<i64>,
    /// The clock difference to tolerate, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(0..=120))]
    leeway: i64,
}

/// Runs the command; a token that is refused is an answer, not a failure.
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
        let judge =
            |token: &str| expected.verify(token, &keys, self.now.map_or_else(|| clock.now(), UnixTime));
        Ok(check_lines(io::stdin().lock(), io::stdout().lock(), judge)?)
    }
}

async fn load_keys(place: &str) -> Result<KeySet, Failure> {
    let keys = KeySet::parse(&jwks::read(place).await?)?;
    if keys.is_empty() { Err("the key set has no key that can be used".into()) } else { Ok(keys) }
}

/// What is said of one line. Never any part of the token.
#[derive(Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Answer<'a> {
    Accept { kid: &'a Kid, sub: &'a str, exp: UnixTime },
    Reject { label: &'static str, detail: String },
}

#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    #[serde(flatten)]
    answer: Answer<'a>,
}

/// Answers each line at once, so that it can be used by hand. Whether all tokens were accepted. A reader that stops reading ends it.
fn check_lines(
    mut tokens: impl BufRead,
    mut answers: impl Write,
    judge: impl Fn(&str) -> Result<Verified, VerifyError>,
) -> io::Result<bool> {
    let (mut token, mut all_accepted) = (Vec::new(), true);
    for line in 1.. {
        let Some(fits) = read_line(&mut tokens, &mut token)? else { break };
        let text = std::str::from_utf8(token.trim_ascii());
        let judged = match text {
            _ if !fits => Err(Reason::TooLong.into()),
            Ok("") => continue,
            Ok(text) => judge(text),
            Err(_) => Err(Reason::NotJws.into()),
        };
        all_accepted &= judged.is_ok();
        let answer = match &judged {
            Ok(verified) => {
                Answer::Accept { kid: verified.kid(), sub: verified.subject(), exp: verified.expires_at() }
            }
            Err(VerifyError::Invalid(reason)) => {
                Answer::Reject { label: reason.label(), detail: reason.to_string() }
            }
            Err(error) => Answer::Reject { label: error.label(), detail: error.to_string() },
        };
        let text = serde_json::to_string(&Line { line, answer })?;
        match writeln!(answers, "{text}").and_then(|()| answers.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(all_accepted)
}

/// Reads a line without its end into `line`, of which it keeps no more than a token may have and a little white space: `Some(false)`
/// says that it was longer. `None` at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    const ROOM: usize = LONGEST_TOKEN + 64;
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
        fits &= line.len() + part.len() <= ROOM;
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
            assert!(line.capacity() <= 2 * (LONGEST_TOKEN + 64), "{}", line.capacity());
            lines.push((fits, line.len()));
        }
        lines
    }

    #[test]
    fn a_line_is_kept_only_as_far_as_a_token_can_be_long() {
        let longest = LONGEST_TOKEN + 64;
        let input = [vec![b'x'; longest], vec![b'x'; longest + 1], vec![b'x'; 3_000_000], b"abc".to_vec()];
        for chunk in [1, 7, 8_192, 1_000_000] {
            let found = lines(&input.join(&b'\n'), chunk);
            let fits: Vec<bool> = found.iter().map(|(fits, _)| *fits).collect();
            assert_eq!(fits, [true, false, false, true], "in chunks of {chunk}");
            assert_eq!((found[0].1, found[3].1), (longest, 3));
        }
    }

    #[test]
    fn the_last_line_needs_no_end_and_an_empty_input_has_no_line() {
        assert_eq!(lines(b"a\nb", 10), [(true, 1), (true, 1)]);
        assert_eq!(lines(b"a\n\n", 10), [(true, 1), (true, 0)]);
        assert_eq!(lines(b"", 10), []);
    }
}
