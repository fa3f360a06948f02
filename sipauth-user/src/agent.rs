//! The agent: puts the parts together, fills the maps before it attaches, and leaves everything enforcing when it ends.
//!
//! The order of the start is what makes a restart invisible: maps are taken over and brought to the store's state by their
//! difference, the sockets are there before the first packet is handed over, the program is replaced last.

mod answers;
mod bans;
mod census;
mod challenger;
mod change;
mod damage;
mod directory;
mod events;
mod explain;
mod fill;
mod flows;
mod history;
mod measure;
mod names;
mod pardons;
mod place;
mod refusals;
mod reload;
mod room;
mod sample;
mod service;
mod sieve;
mod state;
mod status;
mod trace;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{damage::Contents, directory::Punted, state::Agent};
use crate::{
    auth::{self, Timestamp, Uses},
    config::{Origin, Settings},
    console::Console,
    control::{self, Transport},
    datapath::{self, Events, Pins},
    metrics,
    privilege::Privileged,
    records,
    store::{Store, StoreError},
    worker::{Options, PuntPorts, Workers},
};

/// The kernel program takes the agent for dead after [`fill::HEARTBEAT_LIMIT`]; this is well below.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often to see whether new nonce keys or a new copy of the store are due.
const STORE_LOOK: Duration = Duration::from_secs(600);

/// Runs until SIGTERM, SIGINT or `sipauth detach`. Enforcement goes on after the first two. SIGHUP has the settings read again from
/// their `origin`.
///
/// # Errors
/// Anything that keeps it from starting, and a worker that ended by itself.
pub async fn run(settings: Settings, origin: Origin, privileged: Privileged) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    // Before anything else: without a handler it would end the agent.
    let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    raise_descriptors();
    let listener = control::bind(&settings.socket, settings.socket_group.as_deref())?;
    for interface in &settings.interfaces {
        datapath::preflight(interface, &settings.bpffs)?;
    }
    let pins = Pins::open(&settings.bpffs)?;
    let contents = Contents::load(&settings, &pins).await?;

    let (place, sizes) = (pins.clone(), place::sizes(&contents, &settings, &pins)?);
    let mut programs = privileged.run(move || datapath::load(Some(&place), &sizes))?;
    if let Some(replacement) = &mut programs.replacement {
        programs.maps.suspend_prefilter();
        replacement.copy(&programs.maps)?;
    }
    contents.fill(&programs.maps, &settings)?;
    if programs.replacement.is_none() {
        programs.maps.renew_prefilter()?;
    }
    let gateways = contents.snapshot.len();
    let (records, refusals) = records::queue();
    let agent = Arc::new(Agent::new(
        (settings, origin),
        (pins, programs),
        records,
        contents,
        privileged,
        shutdown.clone(),
    )?);
    if agent.damage().is_none() {
        // Before any flow is entered.
        room::make(&agent)?;
    }
    let recorder = records::start(&agent.records, refusals, Arc::clone(&agent) as _).context("cannot start a thread")?;
    let workers = match agent.damage() {
        None => {
            let (shared, stop) = (Arc::clone(&agent), shutdown.clone());
            Some(agent.privileged.run(move || start_workers(&shared, &stop))?)
        }
        Some(_) => None,
    };
    if let Some(workers) = &workers {
        agent.set_counts(workers.counts());
    }
    let metrics = match agent.settings().metrics {
        Some(address) => Some(metrics::Server::bind(address).await?),
        None => None,
    };
    let console = match agent.settings().console {
        Some(address) => Some(Console::bind(address, &agent.settings()).await?),
        None => None,
    };
    if metrics.is_some() {
        // Before the first scrape, so that every series is there from the start.
        agent.set_census(census::count(&agent)?);
    }
    let mut sampled = Events::open(&agent.maps())?;
    // Not before the sockets are there: from the first beat on an earlier agent's program hands over packets. At a port that nobody
    // listens at they would be lost, also where failing open was asked for, and answered with an ICMP error that names that port.
    // Without workers the kernel program is to know that nobody is there.
    if workers.is_some() {
        agent.beat()?;
    } else {
        agent.say_goodbye();
    }
    agent.attach().inspect_err(|_| agent.say_goodbye())?;
    if workers.is_some() {
        agent.refresh_challenge()?;
    }
    agent.privileged.finish(datapath::later_capability(agent.pins()))?;
    if workers.is_some() {
        agent.set_ready();
        info!(gateways, "ready");
    } else {
        warn!(
            "attached what was pinned: flows, modes ip and ip-port go on as they were; what needs the agent is treated as while it is down"
        );
    }

    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(control::serve(listener, Arc::clone(&agent), shutdown.clone()));
    service::started(&agent);
    tasks.spawn(service::watchdog(Arc::clone(&agent), shutdown.clone()));
    if workers.is_some() {
        tasks.spawn(heartbeat(Arc::clone(&agent), shutdown.clone()));
        tasks.spawn(keep(Arc::clone(&agent), shutdown.clone()));
        tasks.spawn(room::keep(Arc::clone(&agent), shutdown.clone()));
    }
    tasks.spawn(reload::at_hangup(Arc::clone(&agent), hangup, shutdown.clone()));
    tasks.spawn(names::refresh(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(sieve::keep(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(watch(Arc::clone(&agent), shutdown.clone()));
    let (looker, stop) = (Arc::clone(&agent), shutdown.clone());
    tasks.spawn(async move { looker.look(stop).await });
    let (log, names, stop) = (agent.events.clone(), Arc::clone(&agent), shutdown.clone());
    tasks.spawn(async move { log.collect(&mut sampled, &names, stop).await });
    if let Some(server) = metrics {
        tasks.spawn(census::keep(Arc::clone(&agent), shutdown.clone()));
        info!(address = %server.address(), "serving metrics");
        let (source, stop) = (Arc::clone(&agent), shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = server.run(source, stop).await {
                error!(%error, "metrics ended");
            }
        });
    }
    if let Some(console) = console {
        tasks.spawn(console.run(Arc::clone(&agent) as _, shutdown.clone()));
    }

    wait(&shutdown).await?;
    service::stopping();
    shutdown.cancel();
    // From here on the kernel program decides alone; it should know at once, not when the heartbeat is late.
    agent.say_goodbye();
    let ended = tokio::task::spawn_blocking(move || workers.map_or(Ok(()), Workers::stop))
        .await
        .context("a worker could not be awaited")?;
    tasks.close();
    tasks.wait().await;
    let records = agent.records.clone();
    let finish = move || {
        records.end();
        recorder.join()
    };
    if !matches!(tokio::task::spawn_blocking(finish).await, Ok(Ok(()))) {
        error!("the thread of the records panicked");
    }
    agent.close().await;
    if datapath::interfaces(agent.pins()).is_empty() {
        info!("stopped; nothing is attached");
    } else {
        info!("stopped; what is attached goes on enforcing");
    }
    ended.map_err(Into::into)
}

/// Each TCP connection takes two file descriptors, and the limit that programs start with is 1,024 on most systems.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is, and with it that of TCP connections");
    }
}

/// Removes everything that is pinned under `bpffs`, without an agent; answers what was removed.
///
/// # Errors
/// A pin that cannot be removed.
pub fn detach(bpffs: &Path) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for pins in Pins::of_all_layouts(bpffs) {
        all.extend(removed(&pins));
        datapath::detach(&pins, None)?;
    }
    Ok(all)
}

/// What a detachment will have removed.
fn removed(pins: &Pins) -> Vec<String> {
    let mut removed: Vec<_> = datapath::interfaces(pins)
        .into_iter()
        .map(|name| format!("the programs on {name}"))
        .collect();
    if pins.dir().exists() {
        removed.push(format!("the maps in {}", pins.dir().display()));
    }
    removed
}

fn start_workers(agent: &Arc<Agent>, shutdown: &CancellationToken) -> anyhow::Result<Workers> {
    let ports = agent
        .settings()
        .punt_ports()
        .map(|(protected, punt)| PuntPorts { protected, punt })
        .collect();
    let (shared, started) = (Arc::clone(agent), agent.challenger().started);
    let mut options = Options::new(ports);
    options.timestamps = agent.settings().metrics.is_some();
    options.tcp.reset_denied = agent.settings().tcp_reset;
    let datagram_workers = options.workers.get();
    let handler = move |index: usize| {
        let number = u16::try_from(index).unwrap_or(u16::MAX);
        let (settings, keys) = (Arc::clone(&shared.settings()), Arc::clone(&shared.keys()));
        let authenticator = auth::Authenticator::new(directory::authentication(&settings), &keys, number, started);
        let (authenticator, transport) = if index < datagram_workers {
            (authenticator.with_kernel(Uses::new(shared.maps().nonces())), Transport::Udp)
        } else {
            (authenticator, Transport::Tcp)
        };
        Punted::new(authenticator, settings, keys, transport, Arc::clone(&shared))
    };
    Ok(Workers::start(&options, shutdown, handler, Arc::clone(agent) as _)?)
}

async fn heartbeat(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beats.tick() => {}
        }
        match agent.beat().and_then(|()| agent.refresh_challenge()) {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                warn!(%error, "cannot tell the kernel program that the agent is alive; new calls that need it will be refused");
            }
            Err(_) => {}
        }
    }
}

/// Looks after the store: makes new nonce keys when the time has come, and renews its copy after changes.
async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(STORE_LOOK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = looks.tick() => {}
        }
        // Found damaged, it stays so until it is restored, which takes a restart.
        let Ok(store) = agent.store().await else { return };
        match store.nonce_keys(unix_now()).await {
            Ok(keys) if keys.current != agent.keys().current => match agent.set_keys(keys) {
                Ok(()) => info!("new nonce keys"),
                Err(error) => warn!(%error, "new nonce keys are not used yet"),
            },
            Ok(_) => {}
            Err(error @ StoreError::Corrupt { .. }) => agent.set_damage(&error),
            Err(error) => warn!(%error, "the nonce keys cannot be renewed; those in use stay"),
        }
        // Changes need not wait for the copy.
        let readable = Store::clone(&store);
        drop(store);
        match readable.back_up().await {
            Ok(()) => {}
            Err(error @ StoreError::Corrupt { .. }) => agent.set_damage(&error),
            Err(error) => warn!(%error, "the copy of the store cannot be renewed"),
        }
    }
}

/// Looks after the interfaces: the kernel takes the programs off without a word when one is deleted.
async fn watch(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = looks.tick() => tokio::task::block_in_place(|| agent.attach_lost()),
        }
    }
}

/// Until someone asks for the end.
async fn wait(shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = shutdown.cancelled() => {}
    }
    Ok(())
}

/// Unix time; before 1970 counts as 1970.
fn unix_now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
