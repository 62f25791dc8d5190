//! Rules for new passwords.

use zeroize::Zeroizing;

use super::breached::BreachedPasswords;
use super::password::Password;
use super::user::fold;

/// Why a password is refused. The message follows "the password".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer code points than the policy requires.
    #[error("must have at least {0} characters")]
    TooShort(u32),
    /// More code points than [`PasswordPolicy::LONGEST`].
    #[error("must have at most {} characters", PasswordPolicy::LONGEST)]
    TooLong,
    /// It contains the user name.
    #[error("must not contain the user name")]
    ContainsUsername,
    /// Without the parts that repeat others, it has fewer code points than the policy requires.
    #[error("repeats itself; it must have at least {0} characters without the repetitions")]
    Repetitive(u32),
    /// It is in the list of passwords known from data breaches.
    #[error("is known from a data breach. Choose one that you have not used elsewhere")]
    Breached,
    /// It can be guessed with few attempts; the text gives the reason.
    #[error("is too easy to guess. {0}")]
    Guessable(String),
}

/// Rules for new passwords: length, resistance to guessing, and no known breach. There are no composition rules (NIST SP
/// 800-63B-4 §3.1.1.2).
#[derive(Clone, Copy, Debug)]
pub struct PasswordPolicy<'a> {
    /// The minimum number of code points.
    pub min_length: u32,
    /// Passwords that are refused.
    pub breached: &'a BreachedPasswords,
}

impl PasswordPolicy<'_> {
    /// The maximum number of code points.
    pub const LONGEST: usize = 256;

    /// The number of code points that are estimated: the time grows with the square, and 100 chosen by an
    /// attacker would take a second.
    const JUDGED: usize = 48;

    /// Checks a new password of the user with this normalised name. Takes milliseconds of CPU time, at most
    /// 200 ms.
    ///
    /// A password that is refused is still refused if it is repeated as a whole, any number of times: apart from length and
    /// name, the rules see only what repetition does not change.
    pub fn check(&self, password: &Password, username: &str) -> Result<(), WeakPassword> {
        let text: Zeroizing<Vec<char>> = Zeroizing::new(password.text().chars().collect());
        if text.len() < self.min_length as usize {
            return Err(WeakPassword::TooShort(self.min_length));
        }
        if text.len() > Self::LONGEST {
            return Err(WeakPassword::TooLong);
        }
        // Most good passwords contain some name of one or two letters.
        if username.chars().count() > 2 && Zeroizing::new(fold(password.text())).contains(username) {
            return Err(WeakPassword::ContainsUsername);
        }
        if self.is_breached(&text) {
            return Err(WeakPassword::Breached);
        }
        let mut unit = &text[..];
        while let Some(period) = period(unit) {
            let mut fewer_times = (period..unit.len()).step_by(period);
            if fewer_times.any(|length| self.is_breached(&unit[..length])) {
                return Err(WeakPassword::Breached);
            }
            unit = &unit[..period];
        }
        let novel = Zeroizing::new(without_copies(unit));
        if novel.len() < self.min_length as usize {
            return Err(WeakPassword::Repetitive(self.min_length));
        }
        Self::estimate(unit, username)?;
        let core = Zeroizing::new(without_runs(&novel));
        if core[..] == *unit {
            return Ok(());
        }
        Self::estimate(&core, username).map_err(|_| {
            let advice = "Repetitions and sequences such as aaa or 1234 do not make it better.";
            WeakPassword::Guessable(advice.to_owned())
        })
    }

    /// Whether it is in the list as it is written, or in lower case.
    fn is_breached(&self, text: &[char]) -> bool {
        let text = Zeroizing::new(text.iter().collect::<String>());
        self.breached.contains(&text) || self.breached.contains(&Zeroizing::new(text.to_lowercase()))
    }

    fn estimate(text: &[char], username: &str) -> Result<(), WeakPassword> {
        let judged = Zeroizing::new(text.iter().take(Self::JUDGED).collect::<String>());
        let estimate = zxcvbn::zxcvbn(&judged, &[username]);
        if estimate.score() >= zxcvbn::Score::Three {
            return Ok(());
        }
        let advice = estimate.feedback().and_then(|feedback| {
            let suggestion = feedback.suggestions().first().map(ToString::to_string);
            feedback.warning().map(|warning| warning.to_string()).or(suggestion)
        });
        Err(WeakPassword::Guessable(advice.unwrap_or_else(|| "Add a few uncommon words.".to_owned())))
    }
}

/// Copies and sequences of fewer characters are not counted as such: good passwords contain them by chance.
const SHORTEST: usize = 3;

/// The length of the shortest beginning that is repeated to the end of a text, the last time perhaps in part: 4 for `abcdabcda`.
/// `None` if there is no repetition.
fn period(text: &[char]) -> Option<usize> {
    let is_period =
        |period: &usize| text[*period..].iter().zip(text).all(|(later, earlier)| same(*later, *earlier));
    (1..=text.len().checked_sub(SHORTEST)?).find(is_period)
}

/// The characters that are not part of a copy of an earlier three. A copy of what is there, added to the text, adds none.
fn without_copies(text: &[char]) -> Vec<char> {
    let is_copy = |start: usize| match text.get(start..start + SHORTEST) {
        Some(three) => text[..start + SHORTEST - 1]
            .windows(SHORTEST)
            .any(|earlier| earlier.iter().zip(three).all(|(left, right)| same(*left, *right))),
        None => false,
    };
    let is_in_copy = |at: usize| (at.saturating_sub(SHORTEST - 1)..=at).any(is_copy);
    (0..text.len()).filter(|at| !is_in_copy(*at)).map(|at| text[at]).collect()
}

/// The characters that are not part of three or more equal ones, or of three or more that follow each other in the alphabet,
/// in numbers or on a keyboard, in either direction.
fn without_runs(text: &[char]) -> Vec<char> {
    let is_run = |start: usize| match text.get(start..start + SHORTEST) {
        Some([first, second, third]) => {
            let (one, two) = (step(*first, *second), step(*second, *third));
            one.is_some() && one == two
        }
        _ => false,
    };
    let is_in_run = |at: usize| (at.saturating_sub(SHORTEST - 1)..=at).any(is_run);
    (0..text.len()).filter(|at| !is_in_run(*at)).map(|at| text[at]).collect()
}

/// The direction from one character to the next: 0 if they are the same, `None` if they have nothing to do with each other.
fn step(from: char, to: char) -> Option<i8> {
    let (from, to) = (lower(from), lower(to));
    if from == to {
        Some(0)
    } else if follows(from, to) {
        Some(1)
    } else if follows(to, from) {
        Some(-1)
    } else {
        None
    }
}

fn follows(first: char, second: char) -> bool {
    const ROWS: [&str; 4] = ["1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"];
    u32::from(first) + 1 == u32::from(second)
        || ROWS.iter().any(|row| row.chars().zip(row.chars().skip(1)).any(|pair| pair == (first, second)))
}

fn same(left: char, right: char) -> bool {
    left == right || lower(left) == lower(right)
}

fn lower(character: char) -> char {
    character.to_lowercase().next().unwrap_or(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::breached::{build, key_of_line};
    use crate::domain::user::Username;
    use e2e::random::Random;

    fn list(lines: &[&str]) -> BreachedPasswords {
        let keys = lines.iter().filter_map(|line| key_of_line(line.as_bytes())).collect();
        BreachedPasswords::from_file(build(keys, "a test").unwrap()).unwrap()
    }

    fn check_with(breached: &BreachedPasswords, text: &str, name: &str) -> Result<(), WeakPassword> {
        let policy = PasswordPolicy { min_length: 12, breached };
        policy.check(&Password::new(text.to_owned()), Username::parse(name).unwrap().as_str())
    }

    fn check(text: &str, name: &str) -> Result<(), WeakPassword> {
        check_with(&list(&[]), text, name)
    }

    /// What `rule` leaves of a text.
    fn left(rule: impl Fn(&[char]) -> Vec<char>, text: &str) -> String {
        rule(&text.chars().collect::<Vec<_>>()).into_iter().collect()
    }

    #[test]
    fn length_counts_code_points_after_composition() {
        let words = "plum tractor cobalt";
        assert_eq!(check(&words[..11], "alice"), Err(WeakPassword::TooShort(12)));
        // Twelve code points as typed, six when composed.
        assert_eq!(check(&"e\u{301}".repeat(6), "alice"), Err(WeakPassword::TooShort(12)));
        let noise = (0..=u8::MAX).map(|i| char::from(b'!' + i.wrapping_mul(37) % 90));
        let long: String = words.chars().chain(noise).take(256).collect();
        assert_eq!(check(&long, "alice"), Ok(()));
        assert_eq!(check(&format!("{long}x"), "alice"), Err(WeakPassword::TooLong));
    }

    #[test]
    fn guessable_passwords_are_refused_with_a_reason() {
        for weak in ["password1234", "qwertyuiop123", "123456789012", "abcdefghijklm", "Password2024!"] {
            let refusal = check(weak, "alice").expect_err(weak);
            assert!(matches!(refusal, WeakPassword::Guessable(_)), "{weak}: {refusal}");
            assert!(!refusal.to_string().contains(weak));
        }
        for good in [
            "plum-tractor-cobalt-49",
            "correct horse battery staple",
            "Ψηλό βουνό και θάλασσα",
            "xK4!vQ9#mW2@",
            // A run, and a copy of three characters, in twelve and fifteen.
            "xK4!vabc9#mW",
            "xK4!vQ9#mW2@xK4",
        ] {
            assert_eq!(check(good, "alice"), Ok(()), "{good}");
        }
    }

    #[test]
    fn password_must_not_contain_the_user_name_in_any_case() {
        assert_eq!(check("plum-ALICE-cobalt-49", "alice"), Err(WeakPassword::ContainsUsername));
        assert_eq!(check("plum-tractor-cobalt-49", "al"), Ok(()));
    }

    #[test]
    fn repetitions_do_not_lengthen_a_password() {
        let refusal = Err(WeakPassword::Repetitive(12));
        for text in [
            &"p4s5w0rd!".repeat(4),
            "p4s5w0rd!-P4S5W0RD!-p4s5w0rd!",
            "p4s5w0rd!1p4s5w0rd!2p4s5w0rd",
            "p4s5w0rd!!!!!!!!!!!!",
            "aaaaaaaaaaaaaaaa",
            // Eleven characters that nobody would guess, twice; and the first of them again.
            "xK4!vQ9#mW2xK4!vQ9#mW2",
            "xK4!vQ9#mW2xK4!",
        ] {
            assert_eq!(check(text, "alice"), refusal, "{text}");
        }
        assert_eq!(check("xK4!vQ9#mW2@xK4!vQ9#mW2@", "alice"), Ok(()));
    }

    #[test]
    fn padding_does_not_strengthen_a_password() {
        for text in [
            "p4s5w0rd!abcdef",
            "p4s5w0rd!1234567890",
            "p4s5w0rd!0987654321zyx",
            "p4s5w0rd!qwertyuiopasdfgh",
            "111222333444",
            "aaabbbcccddd",
            "123abc456def",
            "p4s5w0rd!111222333",
        ] {
            let refusal = check(text, "alice");
            assert!(matches!(refusal, Err(WeakPassword::Guessable(_))), "{text}: {refusal:?}");
        }
    }

    #[test]
    fn breached_passwords_are_refused_also_in_capitals_and_repeated() {
        let known = "plum-tractor-cobalt-49";
        let breached = list(&[known]);
        for text in [known, "Plum-Tractor-Cobalt-49", &known.repeat(3), &format!("{known}{}", &known[..3])] {
            assert_eq!(check_with(&breached, text, "alice"), Err(WeakPassword::Breached), "{text}");
        }
        assert_eq!(check_with(&breached, "plum-tractor-cobalt-48", "alice"), Ok(()));
    }

    #[test]
    fn breached_repetition_is_refused_also_when_it_is_repeated() {
        let known = "plum-tractor-cobalt-49".repeat(2);
        let breached = list(&[&known]);
        assert_eq!(check_with(&breached, &known.repeat(2), "alice"), Err(WeakPassword::Breached));
        assert_eq!(check_with(&breached, "plum-tractor-cobalt-49", "alice"), Ok(()));
    }

    #[test]
    fn period_is_the_length_of_what_is_repeated() {
        for (text, expected) in [
            ("abcdabcda", Some(4)),
            ("abcdABCD", Some(4)),
            ("abcabc", Some(3)),
            ("aaaa", Some(1)),
            ("aaa", None),
            ("abcdab", None),
            ("abcdabc", Some(4)),
            ("abcxabcabcxabc", Some(7)),
            ("abcd", None),
            ("", None),
        ] {
            assert_eq!(period(&text.chars().collect::<Vec<_>>()), expected, "{text:?}");
        }
    }

    #[test]
    fn copies_of_three_characters_are_left_out() {
        for (text, expected) in [
            ("abcdefabc", "abcdef"),
            ("abcdefab", "abcdefab"),
            ("abc-ABC-abcd", "abc-d"),
            ("aaaa", "a"),
            ("", ""),
            ("ab", "ab"),
        ] {
            assert_eq!(left(without_copies, text), expected, "{text}");
        }
    }

    #[test]
    fn runs_of_three_characters_are_left_out() {
        for (text, expected) in [
            ("xaaax", "xx"),
            ("xaax", "xaax"),
            ("xabcx", "xx"),
            ("xabx", "xabx"),
            ("x321x", "xx"),
            ("890", ""),
            ("qWeRtz", "z"),
            ("poi-aceg", "-aceg"),
            ("", ""),
        ] {
            assert_eq!(left(without_runs, text), expected, "{text}");
        }
    }

    /// Texts between good and bad: words, runs, copies and noise in random order.
    fn text(random: &Random) -> String {
        let mut text = String::new();
        for _ in 0..=random.below(4) {
            let part = match random.below(4) {
                0 => random.word(1 + random.below(6)),
                1 => (*random.pick(&["p4s5w0rd!", "dragon", "Summer", "2019", "qwerty", "iss"]).unwrap())
                    .to_owned(),
                2 => random.word(1).repeat(1 + random.below(5)),
                _ => text.chars().skip(random.below(4)).take(1 + random.below(6)).collect(),
            };
            text.push_str(&part);
        }
        text
    }

    #[test]
    fn repetition_never_makes_a_refused_password_acceptable() {
        let random = Random::announced("repetition_never_makes_a_refused_password_acceptable");
        let (mut refused, mut accepted) = (0, 0);
        for _ in 0..2000 {
            let text = text(&random);
            let breached = if random.below(4) == 0 { list(&[&text]) } else { list(&[]) };
            if check_with(&breached, &text, "iss").is_ok() {
                accepted += 1;
                continue;
            }
            refused += 1;
            let times = 2 + random.below(3);
            let repeated = text.repeat(times);
            assert!(check_with(&breached, &repeated, "iss").is_err(), "{text:?}, {times} times");
        }
        assert!(refused > 50 && accepted > 50, "{refused} refused, {accepted} accepted");
    }

    #[test]
    fn what_is_already_there_adds_nothing() {
        let random = Random::announced("what_is_already_there_adds_nothing");
        for _ in 0..2000 {
            let text = format!("{}{}", random.word(3), text(&random));
            let start = random.below(text.len() - 2);
            let length = 3 + random.below(text.len() - start - 2);
            let before = left(without_copies, &text);
            let after = left(without_copies, &format!("{text}{}", &text[start..start + length]));
            let mut rest = before.chars();
            assert!(after.chars().all(|kept| rest.any(|one| one == kept)), "{text:?}, {start}, {length}");
        }
    }
}
