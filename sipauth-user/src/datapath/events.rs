//! What the kernel programs tell of single packets, through the ring buffer.

use std::io;

use aya::maps::{Map, MapData, RingBuf};
use sipauth_common::{
    abi,
    event::{Event, Registered},
};
use tokio::io::unix::AsyncFd;

use super::{DatapathError, Maps};

/// One of the two things that are told.
#[derive(Clone)]
pub enum Told {
    /// A sampled refusal.
    Refusal(Event),
    /// The softswitch answered a registration.
    Registered(Box<Registered>),
}

/// The reading end. The reader's position lives in the map, so what no agent has read yet survives a restart.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Opens the ring buffer; inside a tokio runtime.
    ///
    /// # Errors
    /// The map cannot be mapped into memory.
    pub fn open(maps: &Maps) -> Result<Self, DatapathError> {
        let failed = |source: io::Error| DatapathError::Map {
            map: abi::MAP_EVENTS,
            source,
        };
        let data = MapData::from_fd(maps.events()?).map_err(|error| failed(io::Error::other(error)))?;
        let map = Map::from_map_data(data).map_err(|error| failed(io::Error::other(error)))?;
        let ring = RingBuf::try_from(map).map_err(|error| failed(io::Error::other(error)))?;
        // SAFETY: the ring owns its file descriptor for as long as it lives, and always answers with the same one.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(|error| failed(error.into()))?;
        Ok(Self { ring })
    }

    /// Waits for events and appends what is there to `into`, at most `limit`.
    ///
    /// # Errors
    /// The system's answer to waiting.
    pub async fn read(&mut self, into: &mut Vec<Told>, limit: usize) -> io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        for _ in 0..limit {
            let Some(item) = ready.get_inner_mut().next() else {
                ready.clear_ready();
                break;
            };
            if item.len() == size_of::<Event>() {
                // SAFETY: as long as an `Event`, all of whose bit patterns are valid; read without asking for alignment.
                into.push(Told::Refusal(unsafe { item.as_ptr().cast::<Event>().read_unaligned() }));
            } else if item.len() == size_of::<Registered>() {
                // SAFETY: as above, for a `Registered`.
                into.push(Told::Registered(Box::new(unsafe {
                    item.as_ptr().cast::<Registered>().read_unaligned()
                })));
            }
        }
        Ok(())
    }
}
