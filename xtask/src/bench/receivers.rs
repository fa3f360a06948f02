//! Who refuses the generator's packets: each in a lab of its own, with the same addresses allowed, in the form that is fastest for it.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{PerCpuArray, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use sipauth_tests::{
    agent::Agent,
    flood::Flood,
    lab::{Host, Lab},
};

use super::{addresses, generator, sides};

/// xdp-filter's own size of its table, which is set larger where more are allowed.
const XDP_FILTER_ENTRIES: u32 = 10_000;
/// Its flag of a source address, in the value of an address.
const XDP_FILTER_SOURCE: u64 = 1;
/// The verdict by which its counters of refusals are found.
const XDP_DROP: u32 = 1;
/// Packets with an allowed source that show that the allowed are let through.
const CONTROL: u64 = 64;
/// Room for the callers of the lab.
const SPARE: u32 = 16;

/// Who refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Floor,
    Sipauth,
    XdpFilter,
    NftIngress,
    NftRaw,
    Ipset,
}

impl Side {
    pub(super) const ALL: [Self; 6] = [
        Self::Floor,
        Self::Sipauth,
        Self::XdpFilter,
        Self::NftIngress,
        Self::NftRaw,
        Self::Ipset,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Floor => "empty XDP_DROP",
            Self::Sipauth => "sipauth",
            Self::XdpFilter => "xdp-filter",
            Self::NftIngress => "nftables, netdev ingress",
            Self::NftRaw => "nftables, raw prerouting",
            Self::Ipset => "ipset, raw prerouting",
        }
    }
}

/// Installed on the softswitch of its lab.
pub(super) struct Receiver<'a> {
    lab: &'a Lab,
    installed: Installed<'a>,
}

enum Installed<'a> {
    Floor(#[expect(dead_code, reason = "attached as long as it is held")] Ebpf),
    Sipauth(Agent<'a>),
    XdpFilter(Ebpf),
    /// The family of the table.
    Nft(&'static str),
    Ipset,
}

impl<'a> Receiver<'a> {
    /// With `count` addresses allowed.
    pub(super) fn install(lab: &'a Lab, side: Side, count: u32, binary: &Path, object: &PathBuf) -> Result<Self> {
        // A queue for each processor, as a card has: else the calls' packets and the generator's would be taken by whichever of the two comes first.
        lab.run(Host::Softswitch, &["ethtool", "-L", "eth0", "rx", &processors()?.to_string()])?;
        // Without a program on it, a link takes redirected frames only so.
        lab.run(Host::Softswitch, &["ethtool", "-K", "eth0", "gro", "on"])?;
        let installed = match side {
            Side::Floor => Installed::Floor(generator::attach_floor(lab, object)?),
            Side::Sipauth => Installed::Sipauth(sipauth(lab, binary, count)?),
            Side::XdpFilter => Installed::XdpFilter(xdp_filter(lab, count)?),
            Side::NftIngress => nft(lab, count, "netdev", "ingress device \"eth0\" priority 0")?,
            Side::NftRaw => nft(lab, count, "ip", "prerouting priority raw")?,
            Side::Ipset => ipset(lab, count)?,
        };
        let receiver = Self { lab, installed };
        if side != Side::Floor {
            receiver.control()?;
        }
        Ok(receiver)
    }

    /// What is refused must be refused for its source: an allowed one is let through.
    fn control(&self) -> Result<()> {
        let control = Flood {
            victims: vec![SocketAddrV4::new(addresses::allowed(0), 5060)],
            frames: CONTROL,
            ..Flood::from(1)
        };
        let before = self.counts()?;
        control.run(self.lab)?;
        let after = self.counts()?;
        ensure!(
            after[0] >= before[0] + CONTROL && after[1] == before[1],
            "of {CONTROL} packets with an allowed source {} arrived and {} were refused",
            after[0] - before[0],
            after[1] - before[1]
        );
        Ok(())
    }

    /// Admits the callers of the lab as well: by address, by address and port, by password (which nftables leaves to who is behind it).
    pub(super) fn admit_callers(&self) -> Result<()> {
        let [by_ip, by_port, by_password] = [Host::CarrierIp, Host::CarrierPort, Host::PbxPassword].map(|host| host.v4().to_string());
        match &self.installed {
            Installed::Sipauth(agent) => {
                agent.add("by-ip", "ip", &["--address", &by_ip])?;
                agent.add("by-port", "ip-port", &["--address", &by_port, "--port", "5060"])?;
                agent.add_password("by-password", sides::USER, sides::PASSWORD, &[&by_password])
            }
            Installed::Nft(family) => {
                let rules = format!(
                    "add element {family} bench allowed {{ {by_ip}, {by_password} }}\n\
                     add set {family} bench endpoints {{ type ipv4_addr . inet_service; size {SPARE}; }}\n\
                     add element {family} bench endpoints {{ {by_port} . 5060 }}\n\
                     insert rule {family} bench in udp dport 5060 ip saddr . udp sport @endpoints accept\n"
                );
                self.lab.run_with_input(Host::Softswitch, &["nft", "-f", "-"], &rules)
            }
            Installed::Floor(_) | Installed::XdpFilter(_) | Installed::Ipset => bail!("these callers are for sipauth and nftables"),
        }
    }

    /// Packets so far: that arrived, and that were refused.
    pub(super) fn counts(&self) -> Result<[u64; 2]> {
        Ok([self.arrived()?, self.refused()?])
    }

    /// Packets that came in by the link.
    fn arrived(&self) -> Result<u64> {
        let text = self
            .lab
            .run(Host::Softswitch, &["ip", "-json", "-statistics", "link", "show", "eth0"])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        links[0]["stats64"]["rx"]["packets"].as_u64().with_context(|| format!("ip: {text}"))
    }

    /// Packets that were refused, by the counters of who refused them.
    fn refused(&self) -> Result<u64> {
        match &self.installed {
            Installed::Floor(_) => self.dropped_by_program(),
            Installed::Sipauth(agent) => Ok(agent.stats()?.reason("unknown_source")),
            Installed::XdpFilter(programs) => {
                let map = programs.map("xdp_stats_map").context("xdp-filter has no xdp_stats_map")?;
                let stats: PerCpuArray<_, [u64; 2]> = map.try_into()?;
                // Packets and bytes of each processor.
                Ok(stats.get(&XDP_DROP, 0)?.iter().map(|count| count[0]).sum())
            }
            Installed::Nft(family) => {
                let text = self
                    .lab
                    .run(Host::Softswitch, &["nft", "--json", "list", "counter", family, "bench", "refused"])?;
                let found: serde_json::Value = serde_json::from_str(&text)?;
                let objects = found["nftables"].as_array().context("nft's answer")?;
                let packets = objects.iter().find_map(|object| object["counter"]["packets"].as_u64());
                packets.with_context(|| format!("nft: {text}"))
            }
            Installed::Ipset => {
                let text = self
                    .lab
                    .run(Host::Softswitch, &["iptables", "-t", "raw", "-L", "PREROUTING", "-v", "-x", "-n"])?;
                let line = text.lines().find(|line| line.contains("match-set"));
                let packets = line.and_then(|line| line.split_whitespace().next());
                Ok(packets.with_context(|| format!("iptables: {text}"))?.parse()?)
            }
        }
    }

    /// The link's own counter, of all its queues.
    fn dropped_by_program(&self) -> Result<u64> {
        let text = self.lab.run(Host::Softswitch, &["ethtool", "-S", "eth0"])?;
        let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        let counts = lines.filter(|(key, _)| key.starts_with("rx_queue_") && key.ends_with("_xdp_drops"));
        counts.map(|(_, value)| Ok(value.trim().parse::<u64>()?)).sum()
    }
}

/// A gateway an address.
fn sipauth<'a>(lab: &'a Lab, binary: &Path, count: u32) -> Result<Agent<'a>> {
    let mut agent = Agent::prepare(lab, &[])?.with_binary(binary.to_owned());
    agent.restart()?;
    let file = lab.state().join("gateways.toml");
    addresses::write_gateways(&file, count)?;
    let answer = agent.cli(&["apply", "-f", &file.display().to_string()])?;
    ensure!(answer.code == 0, "sipauth apply: {}", answer.stderr.trim());
    Ok(agent)
}

/// Its program that looks at addresses, which drops what is in no list. Attached without the dispatcher that its command puts in front.
fn xdp_filter(lab: &Lab, count: u32) -> Result<Ebpf> {
    let object = xdp_filter_object()?;
    let pins = lab.bpffs().join("xdp-filter");
    fs::create_dir_all(&pins).with_context(|| pins.display().to_string())?;
    let mut programs = EbpfLoader::new()
        .map_max_entries("filter_ipv4", count.max(XDP_FILTER_ENTRIES))
        .default_map_pin_directory(&pins)
        .load_file(&object)
        .with_context(|| object.display().to_string())?;
    let map = programs.map_mut("filter_ipv4").context("xdp-filter has no filter_ipv4")?;
    let mut filter: PerCpuHashMap<_, u32, u64> = map.try_into()?;
    let processors = processors()?;
    for address in addresses::list(count) {
        let value = PerCpuValues::try_from(vec![XDP_FILTER_SOURCE; processors])?;
        filter.insert(u32::from_ne_bytes(address.octets()), value, 0)?;
    }
    generator::attach(lab, &mut programs, "xdpfilt_dny_ip")?;
    Ok(programs)
}

/// Those that the kernel may ever have, for each of which a link has a queue.
fn processors() -> Result<usize> {
    nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))
}

fn xdp_filter_object() -> Result<PathBuf> {
    let mut directories = vec![PathBuf::from("/usr/lib/bpf"), PathBuf::from("/usr/lib64/bpf")];
    directories.extend(fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("bpf")));
    let found = directories.into_iter().map(|directory| directory.join("xdpfilt_dny_ip.o"));
    found
        .into_iter()
        .find(|file| file.exists())
        .context("no xdpfilt_dny_ip.o (Debian: xdp-tools)")
}

/// With a size the set becomes a table of that many slots; without, one that grows, which is slower.
fn nft(lab: &Lab, count: u32, family: &'static str, hook: &str) -> Result<Installed<'static>> {
    let elements = join(", ", addresses::list(count))?;
    let size = count + SPARE;
    let rules = format!(
        "table {family} bench {{\n counter refused {{ }}\n set allowed {{\n  type ipv4_addr\n  size {size}\n  elements = {{ {elements} }}\n }}\n \
         chain in {{\n  type filter hook {hook}; policy accept;\n  udp dport 5060 ip saddr != @allowed counter name refused drop\n }}\n}}\n"
    );
    lab.run_with_input(Host::Softswitch, &["nft", "-f", "-"], &rules).map_err(short)?;
    Ok(Installed::Nft(family))
}

fn ipset(lab: &Lab, count: u32) -> Result<Installed<'static>> {
    let mut script = format!("create allowed hash:ip family inet hashsize {count} maxelem {count}\n");
    for address in addresses::list(count) {
        writeln!(script, "add allowed {address}")?;
    }
    lab.run_with_input(Host::Softswitch, &["ipset", "restore"], &script)
        .map_err(short)?;
    let rule = "-t raw -A PREROUTING -p udp --dport 5060 -m set ! --match-set allowed src -j DROP";
    let words: Vec<&str> = std::iter::once("iptables").chain(rule.split(' ')).collect();
    lab.run(Host::Softswitch, &words)?;
    Ok(Installed::Ipset)
}

fn join(between: &str, addresses: impl Iterator<Item = Ipv4Addr>) -> Result<String> {
    let mut text = String::new();
    for address in addresses {
        write!(text, "{}{address}", if text.is_empty() { "" } else { between })?;
    }
    Ok(text)
}

/// The lab's errors end with the input, which here are all addresses.
fn short(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().map(|line| line.get(..200).unwrap_or(line)).take(4).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}
