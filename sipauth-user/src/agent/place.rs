//! The programs on their interfaces: put there, put back, taken off, and replaced where their maps have to be of another size.

use std::sync::{MutexGuard, PoisonError};

use sipauth_common::abi;
use tracing::{error, info, warn};

use super::{bans, damage::Contents, fill, state::Agent};
use crate::{
    config::{Settings, XdpMode},
    datapath::{self, Bounds, DatapathError, Demand, Pins, Programs, Sizes},
};

/// Where programs belong, for a job in another thread.
#[derive(Clone)]
struct Place {
    interfaces: Vec<String>,
    mode: XdpMode,
    pins: Pins,
}

impl Place {
    fn attach(&self, programs: &mut Programs, interface: &str) -> Result<(), DatapathError> {
        // The way out first: the agent's answers must find it.
        let egress = datapath::attach_egress(programs.egress()?, interface, &self.pins)?;
        let ingress = datapath::attach_ingress(programs.ingress()?, interface, self.mode, &self.pins)?;
        info!(interface, mode = self.mode.label(), egress = egress.label(), ?ingress, "attached");
        Ok(())
    }
}

/// The sizes to load with at the start. Where the store is damaged nobody knows what there is to be: those that there are.
pub(super) fn sizes(contents: &Contents, settings: &Settings, pins: &Pins) -> Result<Sizes, DatapathError> {
    if contents.store.is_err() {
        return Ok(Sizes::kept(|map| pins.entries(map)));
    }
    let accounts = contents.snapshot.iter().filter(|(_, gateway)| gateway.credentials.is_some());
    let each = u32::try_from(accounts.count())
        .unwrap_or(u32::MAX)
        .next_power_of_two()
        .min(abi::MAX_ENTRIES);
    // With a quarter more each keeps one also where room is made, which leaves seven eighths.
    let flows = settings.max_flows.max(each + each / 4);
    let bounds = Bounds {
        flows: datapath::entries_for_flows(flows, datapath::cpus()?),
        peers: settings.max_peers,
        bans: settings.max_bans,
    };
    let demand = Demand {
        bans: bans::room(contents.bans.len()),
        ..contents.snapshot.demand()
    };
    Ok(Sizes::new(&demand, &bounds).over(&demand, |map| pins.entries(map)))
}

impl Agent {
    /// The programs, for one who puts them somewhere or takes them off.
    fn turn(&self) -> MutexGuard<'_, Option<Programs>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Place {
        let settings = self.settings();
        Place {
            interfaces: settings.interfaces.clone(),
            mode: settings.xdp_mode,
            pins: self.pins().clone(),
        }
    }

    /// Does something with the programs where that is allowed.
    fn with<T: Send + 'static>(
        &self,
        programs: &mut Option<Programs>,
        job: impl FnOnce(&Place, &mut Programs) -> T + Send + 'static,
    ) -> Option<T> {
        let (place, mut taken) = (self.place(), programs.take()?);
        let (taken, result) = self.privileged.run(move || {
            let result = job(&place, &mut taken);
            (taken, result)
        });
        *programs = Some(taken);
        Some(result)
    }

    /// Puts the programs on every interface, and off those that an earlier agent protected and this one does not.
    /// Maps of another size than were pinned take the place of these.
    pub(super) fn attach(&self) -> Result<(), DatapathError> {
        let mut turn = self.turn();
        let put = |place: &Place, programs: &mut Programs| {
            place
                .interfaces
                .iter()
                .try_for_each(|interface| place.attach(programs, interface))?;
            for interface in datapath::interfaces(&place.pins) {
                if !place.interfaces.contains(&interface) {
                    warn!(interface, "detached: not among the interfaces any more");
                    datapath::detach(&place.pins, Some(&interface))?;
                }
            }
            settle(programs, &place.pins)
        };
        if self.with(&mut turn, put).unwrap_or(Ok(false))? {
            self.maps().renew_prefilter()?;
        }
        // What an earlier agent had left was merged.
        if self.damage().is_none() {
            fill::flows(&self.maps(), &self.accounts().snapshot)?;
        }
        Ok(())
    }

    /// Puts the programs back on interfaces that lost them: one that was deleted and made anew (a VLAN, a bond, a tunnel) has none,
    /// and the softswitch stands open behind it. An interface that is not there is looked for again the next time.
    pub(super) fn attach_lost(&self) {
        let mut turn = self.turn();
        if self.shutdown.is_cancelled() {
            return;
        }
        self.with(&mut turn, |place, programs| {
            for interface in &place.interfaces {
                if !matches!(datapath::has_program(interface), Ok(false)) {
                    continue;
                }
                match place.attach(programs, interface) {
                    Ok(()) => warn!(interface, "had lost its programs"),
                    Err(error) => error!(interface, %error, "not protected"),
                }
            }
        });
    }

    /// Takes everything down; the agent ends then, and puts nothing back.
    pub(super) fn detach_all(&self) -> Result<(), DatapathError> {
        let _turn = self.turn();
        let pins = self.pins().clone();
        self.privileged.run(move || datapath::detach(&pins, None))?;
        self.shutdown.cancel();
        Ok(())
    }

    /// Makes sure that the maps have room for this. Larger ones take the place of those that have not, with all that these have, and no packet
    /// notices. The caller holds the store, so that no gateway changes meanwhile.
    pub(super) fn make_room(&self, demand: &Demand) -> Result<(), DatapathError> {
        let present = |map| self.maps().capacity(map);
        if demand.beyond(present).is_empty() {
            return Ok(());
        }
        let mut turn = self.turn();
        let sizes = Sizes::kept(|map| Some(present(map))).grown(demand);
        if let Some((map, needed)) = demand.beyond(|map| sizes.of(map).unwrap_or(0)).into_iter().next() {
            return Err(DatapathError::Full {
                map,
                needed,
                most: sizes.of(map).unwrap_or(0),
            });
        }
        let mut new = self.privileged.load(self.pins(), &sizes, &self.maps())?;
        fill::sources(&new.maps, &self.accounts().snapshot.tables())?;
        // What the old programs learn from here on is in the old maps alone, or in a prefilter that the new programs do not have.
        self.maps().suspend_prefilter();
        new.maps.suspend_prefilter();
        if let Some(replacement) = &mut new.replacement {
            replacement.copy(&new.maps).inspect_err(|_| self.renew())?;
        }
        let mut new = Some(new);
        let put =
            |place: &Place, programs: &mut Programs| place.interfaces.iter().try_for_each(|interface| place.attach(programs, interface));
        let put = self.with(&mut new, put).unwrap_or(Ok(()));
        if let Err(error) = put {
            // Not some with these maps and some with those. An interface that is gone is another matter, which is looked into every second.
            let back = |place: &Place, programs: &mut Programs| {
                for interface in &place.interfaces {
                    if let Err(error) = place.attach(programs, interface) {
                        error!(interface, %error, "the program that was there could not be put back");
                    }
                }
            };
            self.with(&mut turn, back);
            self.renew();
            return Err(error);
        }
        let settled = self
            .with(&mut new, |place, programs| settle(programs, &place.pins))
            .unwrap_or(Ok(false));
        if let Some(new) = &new {
            self.set_maps(std::sync::Arc::clone(&new.maps));
        }
        *turn = new;
        self.renew();
        settled.map(drop)
    }

    /// Puts the prefilter in force again.
    fn renew(&self) {
        if let Err(error) = self.maps().renew_prefilter() {
            warn!(%error, "there is no prefilter: strangers cost more than they need to");
        }
    }
}

/// The last part of a replacement, once the programs are in their places; whether there was one. The prefilter is to be renewed then.
fn settle(programs: &mut Programs, pins: &Pins) -> Result<bool, DatapathError> {
    let Some(replacement) = programs.replacement.take() else {
        return Ok(false);
    };
    replacement.merge(&programs.maps)?;
    replacement.pin(&programs.maps, pins)?;
    for (map, before) in replacement.names() {
        info!(map, before, now = programs.maps.capacity(map), "entries that the map has room for");
    }
    Ok(true)
}
