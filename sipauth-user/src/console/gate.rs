//! Who may look: whoever has shown the token holds a session, and guesses are limited.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sipauth_common::address::Address;

use super::token::{self, Token};

/// How long a session lasts.
pub(super) const SESSION: Duration = Duration::from_secs(12 * 3_600);
/// Most sessions; the oldest gives way.
const SESSIONS: usize = 64;
/// Wrong tokens of one source that are looked at at once.
const GUESSES: f64 = 5.0;
/// Until another one is.
const PER_GUESS: Duration = Duration::from_secs(10);
/// Sources whose guesses are remembered; the one that has not guessed for longest gives way.
const SOURCES: usize = 1_024;

/// What comes of a login.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// The session's secret, for the cookie.
    Welcome(String),
    /// Not the token.
    Wrong,
    /// Too many wrong ones; nothing was compared.
    Later,
    /// No random numbers for a session.
    Failed,
}

/// The token, the sessions, and who guessed.
pub(super) struct Gate {
    token: Token,
    /// Fingerprint of a session's secret, and when it ends.
    sessions: Mutex<HashMap<[u8; 32], Instant>>,
    /// What is left of a source's guesses, and as of when.
    guesses: Mutex<HashMap<Address, (f64, Instant)>>,
}

impl Gate {
    pub(super) fn new(token: Token) -> Self {
        Self {
            token,
            sessions: Mutex::default(),
            guesses: Mutex::default(),
        }
    }

    pub(super) fn login(&self, given: &str, from: IpAddr, now: Instant) -> Login {
        let source = Address::from(from).sender();
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        let left = guesses.get(&source).map_or(GUESSES, |(left, when)| {
            let back = now.saturating_duration_since(*when).as_secs_f64() / PER_GUESS.as_secs_f64();
            (left + back).min(GUESSES)
        });
        if left < 1.0 {
            return Login::Later;
        }
        if !self.token.is(given) {
            make_room(&mut guesses, SOURCES, |(_, when)| *when);
            guesses.insert(source, (left - 1.0, now));
            return Login::Wrong;
        }
        guesses.remove(&source);
        drop(guesses);
        let Ok(secret) = token::random() else { return Login::Failed };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, end| *end > now);
        make_room(&mut sessions, SESSIONS, |end| *end);
        sessions.insert(token::hash(&secret), now + SESSION);
        Login::Welcome(secret.to_string())
    }

    /// Whether a session is open. What is looked up is a hash, whose place in the table tells nothing of the secret.
    pub(super) fn admits(&self, secret: &str, now: Instant) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&token::hash(secret)).is_some_and(|end| *end > now)
    }

    pub(super) fn logout(&self, secret: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&token::hash(secret));
    }
}

fn make_room<K: Copy + Eq + Hash, V>(all: &mut HashMap<K, V>, most: usize, age: impl Fn(&V) -> Instant) {
    if all.len() < most {
        return;
    }
    if let Some(oldest) = all.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| *key) {
        all.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "the token of this test";

    fn gate() -> Gate {
        Gate::new(Token::new(TOKEN))
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn the_token_opens_a_session_that_ends() {
        let (gate, now) = (gate(), Instant::now());
        let Login::Welcome(secret) = gate.login(TOKEN, address(1), now) else {
            panic!("not let in")
        };
        assert!(gate.admits(&secret, now) && !gate.admits(TOKEN, now) && !gate.admits("", now));
        assert!(!gate.admits(&secret, now + SESSION));
        gate.logout(&secret);
        assert!(!gate.admits(&secret, now));
    }

    #[test]
    fn guesses_are_limited_by_source_and_the_limit_passes() {
        let (gate, now) = (gate(), Instant::now());
        for _ in 0..5 {
            assert_eq!(gate.login("guess", address(1), now), Login::Wrong);
        }
        assert_eq!(
            gate.login(TOKEN, address(1), now),
            Login::Later,
            "the right one is not looked at either"
        );
        assert!(
            matches!(gate.login(TOKEN, address(2), now), Login::Welcome(_)),
            "another source is free"
        );
        let later = now + PER_GUESS;
        assert_eq!(gate.login("guess", address(1), later), Login::Wrong);
        assert_eq!(gate.login("guess", address(1), later), Login::Later);
        assert!(matches!(gate.login(TOKEN, address(1), later + PER_GUESS), Login::Welcome(_)));

        // One sender has a whole /64.
        let six = |last: u16| IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
        for last in 0..5 {
            assert_eq!(gate.login("guess", six(last), now), Login::Wrong);
        }
        assert_eq!(gate.login("guess", six(99), now), Login::Later);
    }

    #[test]
    fn sessions_and_guesses_are_bounded() {
        let (gate, now) = (gate(), Instant::now());
        let Login::Welcome(first) = gate.login(TOKEN, address(1), now) else {
            panic!("not let in")
        };
        for n in 0..SESSIONS as u64 {
            assert!(matches!(
                gate.login(TOKEN, address(2), now + Duration::from_secs(n + 1)),
                Login::Welcome(_)
            ));
        }
        assert!(!gate.admits(&first, now), "the oldest gave way");
        assert_eq!(gate.sessions.lock().unwrap().len(), SESSIONS);
        for n in 0..5_000 {
            gate.login("guess", address(1_000 + n), now);
        }
        assert_eq!(gate.guesses.lock().unwrap().len(), SOURCES);
    }
}
