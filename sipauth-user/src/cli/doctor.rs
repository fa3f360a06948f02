//! `sipauth doctor`.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use ipnet::IpNet;

use super::{No, OutputArgs, RunArgs, output, understand, unexpected};
use crate::{
    config::DEFAULT_SOCKET,
    control::{Client, ClientError, Request, Response},
    doctor::{self, Finding, Running, Site, State},
};

/// What to look at. Without an interface: what a running agent protects, or the configuration file says.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The flags of `run`: the agent that is to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn execute(args: DoctorArgs, socket: Option<PathBuf>) -> anyhow::Result<()> {
    let output = args.output;
    let findings = doctor::examine(&site(args.run, socket)?);
    if output.json {
        output::json(&findings)?;
    } else {
        print(&findings)?;
    }
    let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
    match problems {
        0 => Ok(()),
        1 => Err(No("there is a problem".to_owned()).into()),
        several => Err(No(format!("there are {several} problems")).into()),
    }
}

/// The agent's, where one answers and nothing else was asked for.
fn site(run: RunArgs, socket: Option<PathBuf>) -> anyhow::Result<Site> {
    let given = !run.interface.is_empty() || !run.port.is_empty() || run.config.is_some();
    let path = socket.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
    let asked = if given { None } else { ask(&path)? };
    match asked {
        Some(site) => Ok(site),
        None => Ok(Site::of(&run.origin(socket).read()?.settings)),
    }
}

/// `None` where no agent runs.
fn ask(socket: &Path) -> anyhow::Result<Option<Site>> {
    let mut client = match Client::connect(socket) {
        Err(ClientError::NotRunning { .. }) => return Ok(None),
        client => client?,
    };
    let Response::Status(status) = understand(client.call(&Request::Status)?)? else {
        return Err(unexpected());
    };
    let Response::Gateways { gateways } = understand(client.call(&Request::GatewayList)?)? else {
        return Err(unexpected());
    };
    let addresses = gateways.iter().flat_map(|gateway| &gateway.addresses);
    Ok(Some(Site {
        interfaces: status.interfaces.iter().map(|interface| interface.name.clone()).collect(),
        ports: status.ports,
        punt: status.agent_ports,
        xdp_mode: status.xdp_mode,
        state_dir: status.state_dir,
        bpffs: status.bpffs,
        agent: Some(Running {
            pid: client.peer_pid(),
            addresses: addresses.filter_map(|text| network(text)).collect(),
            interfaces: status.interfaces,
        }),
    }))
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn print(findings: &[Finding]) -> anyhow::Result<()> {
    for finding in findings {
        output::line(&format!("{:<8} {:<12} {}", finding.state, finding.check, finding.text))?;
        if let Some(remedy) = &finding.remedy {
            output::line(&format!("{:21} remedy: {remedy}", ""))?;
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    output::line(&format!(
        "\nok: {}, unknown: {}, problem: {}",
        count(State::Ok),
        count(State::Unknown),
        count(State::Problem)
    ))
}
