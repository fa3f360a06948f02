//! The token that opens the console: one line in a file of mode 0600.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The file in the state directory.
const FILE: &str = "console-token";
/// Shortest token of an operator's own.
const SHORTEST: usize = 16;
/// Longest.
const LONGEST: usize = 256;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file.
    #[error("console-token-file: cannot use {}: {source}; check the path and its owner", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody can read it.
    #[error("console-token-file: everybody can read {}; type `chmod 600 {}`", path.display(), path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// Not a token.
    #[error(
        "console-token-file: {} must hold one line of {SHORTEST} to {LONGEST} printable characters without spaces; make one with `openssl rand -hex 32`",
        path.display()
    )]
    Form {
        /// Which.
        path: PathBuf,
    },
}

/// A token, as its hash: nothing that could be shown by mistake, and of one length whatever is compared with it.
pub(super) struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    pub(super) fn new(text: &str) -> Self {
        Self(hash(text))
    }

    /// In constant time.
    pub(super) fn is(&self, given: &str) -> bool {
        self.0.ct_eq(&hash(given)).into()
    }
}

/// A fingerprint of something secret.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// 32 random bytes in hexadecimal.
pub(super) fn random() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    fs::File::open("/dev/urandom")?.read_exact(bytes.as_mut())?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// The token that an operator chose.
pub(super) fn read(path: &Path) -> Result<Token, TokenError> {
    let failed = |source| TokenError::File {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o004 != 0 {
        return Err(TokenError::Open { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    let token = text.trim_end();
    if !(SHORTEST..=LONGEST).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Form { path: path.to_owned() });
    }
    Ok(Token::new(token))
}

/// The token of an earlier start, else a new one, in the state directory.
pub(super) fn read_or_make(state_dir: &Path) -> Result<(Token, PathBuf), TokenError> {
    let path = state_dir.join(FILE);
    if path.exists() {
        return Ok((read(&path)?, path));
    }
    let failed = |source| TokenError::File {
        path: path.clone(),
        source,
    };
    let token = random().map_err(failed)?;
    // Complete under another name first: after a crash half a token would be refused for ever.
    let unfinished = state_dir.join(format!("{FILE}~"));
    let write = || {
        let _ = fs::remove_file(&unfinished);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(token.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(failed)?;
    Ok((Token::new(&token), path))
}
