//! xdp-filter's own program, from the distribution's package, with its default policy `deny` and its features `ipv4,ipv6`: of
//! its objects the one that does the least, and the one that does here what sipauth does.

use std::{fs, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    maps::{PerCpuHashMap, PerCpuValues},
    programs::{ProgramFd, Xdp},
    util::nr_cpus,
};
use sipauth_common::address::Address;

use crate::{Result, addresses::Family};

const PROGRAM: &str = "xdpfilt_dny_ip";
/// In a map's value: the address counts as source. The bits above are a counter, one for each CPU.
const SOURCE: u64 = 1;
/// As the object declares it; `xdp-filter` has no option for more.
const ENTRIES: usize = 10_000;

pub(crate) struct Filter(Ebpf);

impl Filter {
    /// With these addresses let in.
    pub(crate) fn load(object: &Path, family: Family, hosts: &[Address]) -> Result<Self> {
        let bytes = fs::read(object).map_err(|error| format!("{}: {error} (package xdp-tools)", object.display()))?;
        // The object asks for its maps to be pinned, where those of a filter in use would be taken instead.
        let pins = Path::new("/sys/fs/bpf").join(format!("sipauth-bench-{}", std::process::id()));
        fs::create_dir_all(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
        let room = u32::try_from(hosts.len().max(ENTRIES))?;
        let loaded = EbpfLoader::new()
            .default_map_pin_directory(&pins)
            .map_max_entries("filter_ipv4", room)
            .map_max_entries("filter_ipv6", room)
            .load(&bytes);
        fs::remove_dir_all(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
        let mut ebpf = loaded?;
        let program: &mut Xdp = ebpf
            .program_mut(PROGRAM)
            .ok_or("xdp-filter's object has another program")?
            .try_into()?;
        program.load()?;
        let flags = || -> Result<_> { Ok(PerCpuValues::try_from(vec![SOURCE; nr_cpus().map_err(|(_, error)| error)?])?) };
        match family {
            Family::V4 => {
                let map = ebpf.map_mut("filter_ipv4").ok_or("no map filter_ipv4")?;
                let mut map: PerCpuHashMap<_, u32, u64> = map.try_into()?;
                for word in hosts.iter().filter_map(Address::v4) {
                    map.insert(word, flags()?, 0)?;
                }
            }
            Family::V6 => {
                let map = ebpf.map_mut("filter_ipv6").ok_or("no map filter_ipv6")?;
                let mut map: PerCpuHashMap<_, [u8; 16], u64> = map.try_into()?;
                for host in hosts {
                    map.insert(host.octets(), flags()?, 0)?;
                }
            }
        }
        Ok(Self(ebpf))
    }

    pub(crate) fn fd(&self) -> Result<&ProgramFd> {
        let program: &Xdp = self.0.program(PROGRAM).ok_or("no program")?.try_into()?;
        Ok(program.fd()?)
    }
}
