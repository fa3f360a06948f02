//! Passwords: which are too weak to stand alone between the internet and somebody's telephone bill, and a strong one.
//!
//! Who records one exchange on its way can try passwords against it at home, billions a second, and no ban stops that.

use std::io::{self, Read as _};

use super::Secret;

/// Fewer characters are weak.
pub const SHORTEST: usize = 10;
/// Fewer digits are weak where there is nothing else.
const DIGITS: usize = 16;
/// Fewer different characters are weak, and fewer places where one does not simply follow the one before.
const DIFFERENT: usize = 5;
/// Letters that have to be left beside what everybody tries first, and characters beside the username.
const LEFT: usize = 4;
const LEFT_BESIDE_USERNAME: usize = 8;

/// What SIP accounts are guessed with first, a longer one before its parts. Compared as [`plain`] writes it.
const COMMON: &[&str] = &[
    "administrator",
    "grandstream",
    "freeswitch",
    "superuser",
    "asterisk",
    "iloveyou",
    "kamailio",
    "opensips",
    "password",
    "passwort",
    "business",
    "changeme",
    "telephone",
    "default",
    "elastix",
    "freepbx",
    "gateway",
    "letmein",
    "polycom",
    "provider",
    "voipswitch",
    "vos3000",
    "welcome",
    "yealink",
    "account",
    "carrier",
    "qwertyuiop",
    "asterix",
    "azerty",
    "asdfghjkl",
    "asdfgh",
    "abcdef",
    "passwd",
    "qwerty",
    "qwertz",
    "secret",
    "server",
    "zxcvbnm",
    "admin",
    "cisco",
    "goip",
    "guest",
    "hello",
    "login",
    "office",
    "phone",
    "trunk",
    "abcd",
    "demo",
    "pass",
    "root",
    "test",
    "user",
    "voip",
    "abc",
    "pbx",
    "sip",
    "vos",
];

/// Why a password is weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Few characters.
    #[error("it has fewer than {SHORTEST} characters")]
    Short,
    /// Digits alone.
    #[error("it is digits alone, and fewer than {DIGITS}")]
    Digits,
    /// One character again and again, or a sequence.
    #[error("it repeats a few characters, or counts them up")]
    Monotonous,
    /// The username.
    #[error("it is the username with little else")]
    Username,
    /// What is tried first.
    #[error("it is made of words that everybody tries first")]
    Common,
}

impl Weakness {
    /// What is weak about a password; `None` for one that may stand.
    #[must_use]
    pub fn of(username: &str, password: &Secret) -> Option<Self> {
        let text = password.expose();
        let length = text.chars().count();
        if length < SHORTEST {
            return Some(Self::Short);
        }
        if length < DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Digits);
        }
        if is_monotonous(text) {
            return Some(Self::Monotonous);
        }
        let forms = [plain(text, false), plain(text, true)];
        if forms.iter().any(|form| is_username(form, &plain(username, false))) {
            return Some(Self::Username);
        }
        forms.iter().any(|form| is_common(form)).then_some(Self::Common)
    }
}

/// Lower case, letters and digits only; `disguised` reads the digits and signs that stand in for letters as these.
fn plain(text: &str, disguised: bool) -> String {
    let letter = |c: char| match c {
        '0' => 'o',
        '1' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    let characters = text.chars().map(|c| if disguised { letter(c) } else { c });
    characters.flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}

fn is_monotonous(text: &str) -> bool {
    let mut different: Vec<char> = text.chars().collect();
    let steps = different.windows(2).filter(|pair| {
        let (a, b) = (u32::from(pair[0]), u32::from(pair[1]));
        a.abs_diff(b) > 1 && !matches!((pair[0], pair[1]), ('9', '0') | ('0', '9'))
    });
    let steps = steps.count();
    different.sort_unstable();
    different.dedup();
    different.len() < DIFFERENT || steps < DIFFERENT - 1
}

fn is_username(password: &str, username: &str) -> bool {
    if username.is_empty() {
        return false;
    }
    let backwards: String = username.chars().rev().collect();
    // Of a username of a letter or two nobody can say that a password has it.
    let has = |name: &str| username.len() > 2 && password.contains(name) && password.replace(name, "").len() < LEFT_BESIDE_USERNAME;
    has(username) || has(&backwards) || username.contains(password) || backwards.contains(password)
}

fn is_common(password: &str) -> bool {
    let rest = COMMON.iter().fold(password.to_owned(), |rest, word| rest.replace(word, ""));
    rest != password && rest.chars().filter(|c| c.is_alphabetic()).count() < LEFT
}

/// Letters and digits alone, which every device and every configuration file takes, without those that are taken for each other.
const ALPHABET: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Of [`ALPHABET`], log2 57 = 5.83 bits each: 128.3 bits.
const GENERATED: usize = 22;

/// A password that nobody guesses.
///
/// # Errors
/// The kernel has no random numbers.
pub fn generate(username: &str) -> io::Result<Secret> {
    let mut random = std::fs::File::open("/dev/urandom")?;
    loop {
        let mut text = String::with_capacity(GENERATED);
        while text.len() < GENERATED {
            let mut bytes = zeroize::Zeroizing::new([0; 64]);
            random.read_exact(&mut *bytes)?;
            // Six bits, and what lies beyond the alphabet is thrown away: each character is as likely as any other.
            let characters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
            text.extend(characters.take(GENERATED - text.len()).copied().map(char::from));
        }
        let password = Secret::new(text);
        // Chance makes one that its own rules refuse once in more than all the time there is.
        if Weakness::of(username, &password).is_none() {
            return Ok(password);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn weakness(username: &str, password: &str) -> Option<Weakness> {
        Weakness::of(username, &Secret::new(password.to_owned()))
    }

    #[test]
    fn a_weak_password_is_weak_for_a_reason() {
        for (password, expected) in [
            ("", Weakness::Short),
            ("Kq7-xTm2z", Weakness::Short),
            ("4915112345", Weakness::Digits),
            ("739120488265193", Weakness::Digits),
            ("1234567890123456", Weakness::Monotonous),
            ("9876543210987654", Weakness::Monotonous),
            ("abcdefghijkl", Weakness::Monotonous),
            ("aaaaaaaaaaaaab", Weakness::Monotonous),
            ("xyxyxyxyxyxyxy", Weakness::Monotonous),
            ("office-one", Weakness::Username),
            ("OfficeOne2024!", Weakness::Username),
            ("officeoneofficeone", Weakness::Username),
            ("eno_eciffo", Weakness::Username),
            ("Password2024!", Weakness::Common),
            ("P@ssw0rd1234", Weakness::Common),
            ("asterisk.12345", Weakness::Common),
            ("sippassword", Weakness::Common),
            ("changeme-trunk-1", Weakness::Common),
        ] {
            assert_eq!(weakness("office-one", password), Some(expected), "{password}");
        }
    }

    #[test]
    fn a_password_that_takes_long_to_guess_may_stand() {
        for password in [
            "s3cret of the lab",
            "correct horse battery",
            "Kq7-xTm2z9",
            "7391204882651937",
            "v9Wm2pTx4Kd8Rq3",
            "sip-trunk-blue-harbour",
            "\u{e4}pfel und birnen",
        ] {
            assert_eq!(weakness("office-one", password), None, "{password}");
        }
        // A username of two letters is in many words, one of five beside enough else.
        assert_eq!(weakness("of", "the end of the line"), None);
        assert_eq!(weakness("gw001", "gw001-Kq7xTm2z"), None);
    }

    #[test]
    fn a_generated_password_is_strong_and_never_the_same() {
        let made: HashSet<String> = (0..500)
            .map(|_| generate("office-one").expect("random numbers").expose().to_owned())
            .collect();
        assert_eq!(made.len(), 500);
        let all: HashSet<u8> = made.iter().flat_map(|text| text.bytes()).collect();
        assert_eq!(all.len(), ALPHABET.len(), "every character comes up: 11,000 were drawn");
        assert!(
            made.iter()
                .all(|text| text.len() == GENERATED && text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        );
        assert!(f64::from(u32::try_from(ALPHABET.len()).expect("small")).log2() * 22.0 >= 128.0);
    }
}
