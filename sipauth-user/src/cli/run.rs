//! `sipauth run`.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::{
    config::{Challenger, Origin, PolicyChoice, RawDigest, RawSettings, XdpMode},
    privilege::Privileged,
    records::Target,
};

/// Flags of the agent. Each has a key of the same name in the configuration file, and wins over it.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Interface that SIP arrives on; may be repeated
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// Configuration file (TOML; its keys are the names of these flags) [default: /etc/sipauth/sipauth.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the gateway database [default: /var/lib/sipauth]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory of the audit and of records in files [default: /var/log/sipauth]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Directory for pinned maps and links [default: /sys/fs/bpf/sipauth]
    #[arg(long, value_name = "DIR")]
    pub bpffs: Option<PathBuf>,
    /// Group that may use the control socket besides root
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Protected port, UDP and TCP; may be repeated [default: 5060]
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// First of the agent's own ports, four for each protected port [default: 61060]
    #[arg(long, value_name = "PORT")]
    pub punt_port: Option<u16>,
    /// How to attach: in the driver, or (slower, for interfaces without driver support) in the stack [default: native]
    #[arg(long, value_enum)]
    pub xdp_mode: Option<XdpMode>,
    /// What happens to sources that no gateway has [default: deny]
    #[arg(long, value_enum)]
    pub default_policy: Option<PolicyChoice>,
    /// Count every verdict and pass everything
    #[arg(long)]
    pub monitor: bool,
    /// Admit calls that need the agent while it is down
    #[arg(long)]
    pub fail_open: bool,
    /// Answer 403 to those who are refused, instead of silence
    #[arg(long)]
    pub reply_unauthorized: bool,
    /// Answer refused TCP connections by a reset, instead of silence
    #[arg(long)]
    pub tcp_reset: bool,
    /// Who challenges, and checks the passwords of who called lately; auto: the kernel program, but not on veth pairs [default: auto]
    #[arg(long, value_enum)]
    pub challenger: Option<Challenger>,
    /// Realm of challenges and of new gateways [default: sipauth]
    #[arg(long)]
    pub realm: Option<String>,
    /// Serve Prometheus metrics there
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Serve the read-only web console there, over HTTP
    #[arg(long, value_name = "ADDR:PORT")]
    pub console: Option<SocketAddr>,
    /// File with the token that opens the console [default: console-token in the state directory, made at the first start]
    #[arg(long, value_name = "FILE")]
    pub console_token_file: Option<PathBuf>,
    /// Where refused calls are recorded [default: file]
    #[arg(long, value_enum)]
    pub records: Option<Target>,
    /// How many files of records are kept; each has a day or 32 MiB at most [default: 30]
    #[arg(long, value_name = "N")]
    pub records_files: Option<usize>,
    /// How long a peer that the softswitch called is remembered [default: 12h]
    #[arg(long, value_name = "TIME")]
    pub peer_ttl: Option<String>,
    /// How long an idle authenticated flow is remembered [default: 12h]
    #[arg(long, value_name = "TIME")]
    pub flow_idle: Option<String>,
    /// Authenticated sources that are remembered; of more, those of the gateways that have the most are forgotten, the ones not seen for longest first [default: 32768; where more gateways have a password, as many as these]
    #[arg(long, value_name = "N")]
    pub max_flows: Option<u32>,
    /// Peers that the softswitch calls; of more, those not seen for longest are forgotten [default: 16384]
    #[arg(long, value_name = "N")]
    pub max_peers: Option<u32>,
    /// Bans, likewise; those by hand get room besides [default: 16384]
    #[arg(long, value_name = "N")]
    pub max_bans: Option<u32>,
    /// How sources are challenged where a gateway does not say otherwise; in the file these are keys of the table `digest`
    #[command(flatten)]
    pub digest: RawDigest,
    /// Wrong passwords until the source is banned; 0 for never [default: 6]
    #[arg(long, value_name = "N")]
    pub ban_limit: Option<u32>,
    /// How long the first ban lasts; each further one twice as long, up to a day [default: 180s]
    #[arg(long, value_name = "TIME")]
    pub ban_time: Option<String>,
}

impl RunArgs {
    /// Where the settings come from: these flags over a file.
    #[must_use]
    pub fn origin(self, socket: Option<PathBuf>) -> Origin {
        let flags = RawSettings {
            interface: Some(self.interface).filter(|all| !all.is_empty()),
            state_dir: self.state_dir,
            log_dir: self.log_dir,
            records: self.records,
            records_files: self.records_files,
            bpffs: self.bpffs,
            socket,
            socket_group: self.socket_group,
            port: Some(self.port).filter(|all| !all.is_empty()),
            punt_port: self.punt_port,
            xdp_mode: self.xdp_mode,
            default_policy: self.default_policy,
            monitor: self.monitor.then_some(true),
            fail_open: self.fail_open.then_some(true),
            reply_unauthorized: self.reply_unauthorized.then_some(true),
            tcp_reset: self.tcp_reset.then_some(true),
            challenger: self.challenger,
            realm: self.realm,
            metrics: self.metrics,
            console: self.console,
            console_token_file: self.console_token_file,
            peer_ttl: self.peer_ttl,
            flow_idle: self.flow_idle,
            max_flows: self.max_flows,
            max_peers: self.max_peers,
            max_bans: self.max_bans,
            digest: self.digest,
            ban_limit: self.ban_limit,
            ban_time: self.ban_time,
            source_rate: None,
            lane_rates: None,
        };
        Origin::new(self.config, flags)
    }
}

pub(super) fn run(args: RunArgs, socket: Option<PathBuf>) -> anyhow::Result<()> {
    let origin = args.origin(socket);
    let settings = origin.read()?.settings;
    // Before there is any other thread.
    let privileged = Privileged::begin(&settings)?;
    // Control, metrics and housekeeping; workers bring runtimes of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(crate::agent::run(settings, origin, privileged))
}
