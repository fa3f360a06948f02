//! `cargo xtask demo`: a lab of network namespaces, real SIP peers, a call in every mode, and the proof that the counters agree.

mod script;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use comfy_table::{CellAlignment, Table, presets};
use sipauth_tests::agent::Agent;
use sipauth_tests::cleanup;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Outcome, SCENARIOS, Uas, Via};

use script::Step;
use verdict::Seen;

/// Runs the demo; with `keep`, leaves the lab up.
///
/// # Errors
/// When something cannot be built or started, and when one call ends otherwise than it should.
pub(crate) fn run(keep: bool) -> anyhow::Result<()> {
    ensure!(
        sipauth_tests::privilege::is_root(),
        "the demo makes network namespaces and loads BPF programs: run it as root"
    );
    heading("Build");
    let binary = build()?;

    let begin = Instant::now();
    cleanup::on_ctrl_c()?;
    heading("Lab");
    let lab = Lab::new()?;
    introduce();
    let mut softswitch = Uas::softswitch_everywhere(&lab)?;
    println!("  SIPp answers as the softswitch on port 5060, UDP and TCP, IPv4 and IPv6.");
    let mut agent = Agent::prepare(&lab, &[])?.with_binary(binary.clone());
    let ready = agent.restart()?;
    println!("  sipauth enforces on the softswitch's eth0 after {} ms.", ready.as_millis());

    heading("Gateways");
    script::add_gateways(&agent)?;

    heading("Calls");
    println!("  {}", line("who", "mode", "transport", "what", "outcome", "sipauth says"));
    let start = agent.stats()?;
    let mut rows: Vec<(Step, Outcome, Seen)> = Vec::new();
    for step in script::steps() {
        let before = agent.stats()?;
        let outcome = if step.outgoing {
            // The softswitch calls from its own port 5060, so the answering SIPp steps aside meanwhile.
            drop(softswitch.remove(0));
            let _peer = Uas::hangs_up(&lab, Host::ProviderPeer, Via::Udp4, Duration::from_millis(300))?;
            let outcome = step.call.run(&lab)?;
            softswitch.insert(0, Uas::softswitch(&lab, Via::Udp4)?);
            outcome
        } else {
            step.call.run(&lab)?
        };
        let seen = Seen::between(&before, &agent.stats()?, step.gateway);
        let mark = if step.as_expected(&outcome) { ' ' } else { '!' };
        println!("{mark} {}", step.line(&outcome, &seen));
        rows.push((step, outcome, seen));
    }
    let end = agent.stats()?;

    heading("Result");
    println!("{}", table(&rows));
    let mut wrong: Vec<String> = rows
        .iter()
        .flat_map(|(step, outcome, seen)| step.complaints(outcome, seen))
        .collect();
    wrong.extend(verdict::totals(&start, &end, &rows));
    let calls: u32 = rows.iter().map(|(_, o, _)| o.tried).sum();
    if wrong.is_empty() {
        println!("\n  All {calls} calls ended as they should, and the counters of `sipauth stats` agree with every row.");
    } else {
        println!("\n  Not as expected:");
        wrong.iter().for_each(|w| println!("    {w}"));
        println!("\n  The end of the agent's log:\n{}", agent.log_tail());
    }
    if keep {
        print_how_to_go_on(&lab, &binary, &agent)?;
        softswitch.into_iter().for_each(Uas::keep);
        agent.keep();
    } else {
        drop(agent);
        drop(softswitch);
        drop(lab);
        println!("  The lab is gone again; {} s.", begin.elapsed().as_secs());
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        bail!("{} things were not as expected", wrong.len())
    }
}

fn build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let args = ["build", "--release", "--package", "sipauth-user", "--bin", "sipauth"];
    println!("  cargo {}", args.join(" "));
    let status = Command::new(cargo).args(args).current_dir(root).status().context("cargo")?;
    ensure!(status.success(), "the build failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let binary = target.join("release/sipauth");
    ensure!(binary.is_file(), "the build made no {}", binary.display());
    Ok(binary)
}

fn introduce() {
    println!("  Each host is a network namespace; the machine's own network is not touched.\n");
    for host in Host::ALL {
        let v6 = host.v6().map_or_else(String::new, |a| a.to_string());
        println!(
            "  {:<14} {:<15} {v6:<18} {}",
            host.name(),
            host.v4().to_string(),
            script::role(host)
        );
    }
    println!();
}

fn heading(text: &str) {
    println!("\n{text}");
}

/// One aligned line of the live view.
fn line(who: &str, mode: &str, transport: &str, what: &str, outcome: &str, says: &str) -> String {
    format!("{who:<14} {mode:<9} {transport:<9} {what:<34} {outcome:<14} {says}")
}

fn table(rows: &[(Step, Outcome, Seen)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["peer", "mode", "transport", "calls", "tried", "answered", "refused", "why"]);
    for (step, outcome, seen) in rows {
        table.add_row([
            step.call.caller().name().to_owned(),
            step.mode.to_owned(),
            step.call.transport().label().to_owned(),
            step.what.to_owned(),
            outcome.tried.to_string(),
            outcome.answered.to_string(),
            outcome.failed.to_string(),
            seen.why(step),
        ]);
    }
    for column in 4..=6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn print_how_to_go_on(lab: &Lab, binary: &Path, agent: &Agent<'_>) -> anyhow::Result<()> {
    let sipauth = format!("{} --socket {}", binary.display(), agent.socket().display());
    let stranger = lab.namespace(Host::Stranger);
    let softswitch = lab.namespace(Host::Softswitch);
    let state = lab.state().display().to_string();
    let clean = lab.keep()?;
    heading("The lab stays up. Try:");
    println!("  {sipauth} status");
    println!("  {sipauth} stats");
    println!("  {sipauth} gateway list");
    println!("  {sipauth} explain {}:5060", Host::Stranger.v4());
    println!("\n  A call of the stranger, refused; then the stranger becomes a gateway, and it is answered:");
    let call = format!(
        "(cd {state} && nsenter --net=/run/netns/{stranger} sipp -sf {SCENARIOS}/uac.xml -key padding none -i {} -m 1 -max_invite_retrans 2 -nostdin {}:5060)",
        Host::Stranger.v4(),
        Host::Softswitch.v4()
    );
    println!("  {call}");
    println!("  {sipauth} gateway add newcomer --mode ip --address {}", Host::Stranger.v4());
    println!("\n  What arrives at the softswitch (after the filter):");
    println!("  nsenter --net=/run/netns/{softswitch} tcpdump -ni eth0 port 5060");
    println!("\n  To remove it all:");
    println!("  {clean}");
    Ok(())
}
