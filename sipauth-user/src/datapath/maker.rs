//! A process of its own that makes larger maps and loads the programs over them, for an agent that has given up its capabilities.
//!
//! It is forked off before there is any thread, keeps what loading asks for, has no socket but the one to the agent, and takes nothing but sizes
//! from there. What it makes it pins beside what is in force (`next-…`), where the agent opens it, which asks for no capability, and removes the
//! pins at once. It ends with the agent.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
};

use nix::unistd::{ForkResult, fork};

use super::{DatapathError, Maps, Pins, Programs, Sizes, load};

/// Longest answer: an error may have the verifier's last words.
const ANSWER: usize = 64 * 1024;

/// The agent's end.
#[derive(Debug)]
pub struct Maker {
    pins: Pins,
    stream: Mutex<UnixStream>,
}

impl Maker {
    /// Starts the process, which calls `prepare` first. To be called before there is any other thread.
    ///
    /// # Errors
    /// No process to be had.
    pub fn start(pins: Pins, prepare: impl FnOnce() -> Result<(), caps::errors::CapsError>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // SAFETY: there is only this thread, so the child may do all that the parent may.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => Ok(Self {
                pins,
                stream: Mutex::new(ours),
            }),
            ForkResult::Child => {
                drop(ours);
                let served = prepare().map_err(io::Error::other).and_then(|()| serve(theirs, &pins));
                std::process::exit(i32::from(served.is_err()));
            }
        }
    }

    /// As [`load`], where `present` are the maps in force; those that need not be of another size stay.
    ///
    /// # Errors
    /// As [`load`], and an end of the process.
    pub fn load(&self, sizes: &Sizes, present: &Maps) -> Result<Programs, DatapathError> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = ask(&mut stream, sizes).map_err(DatapathError::Maker)?;
        let made = match answer.split_once(' ') {
            Some(("made", ingress)) => Programs::adopt(&self.pins, ingress, sizes, present),
            _ => Err(DatapathError::Maker(io::Error::other(answer))),
        };
        self.pins.clear_next()?;
        made
    }
}

fn ask(stream: &mut UnixStream, sizes: &Sizes) -> io::Result<String> {
    stream.write_all(&sizes.to_bytes())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; (u32::from_le_bytes(length) as usize).min(ANSWER)];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Until the agent ends.
fn serve(mut stream: UnixStream, pins: &Pins) -> io::Result<()> {
    let mut asked = [0; Sizes::BYTES];
    loop {
        match stream.read_exact(&mut asked) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return stream.shutdown(Shutdown::Both),
            Err(error) => return Err(error),
        }
        let made = load(Some(pins), &Sizes::from_bytes(&asked)).and_then(|mut programs| programs.pin_next(pins).map(|()| programs.ingress));
        let answer = match made {
            Ok(ingress) => format!("made {ingress}"),
            Err(error) => error.to_string().chars().take(ANSWER / 4).collect(),
        };
        stream.write_all(&u32::try_from(answer.len()).unwrap_or(0).to_le_bytes())?;
        stream.write_all(answer.as_bytes())?;
    }
}
