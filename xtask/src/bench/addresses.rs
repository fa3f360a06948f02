//! Who may call, and who may not, in `bench pps`, `flood` and `scale`. Both are spread over the same range, so that no filter can tell them apart by
//! their first bits: the last bit does.

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result};

/// 64.0.0.0/3.
const RANGE: u32 = 0x4000_0000;
const BITS: u32 = 0x1fff_ffff;
/// An odd factor makes each index another address, and neighbours in the file none in the range.
const FACTOR: u32 = 0x9e37_79b1;

/// The addresses of no gateway: bits that are set, and bits that are random.
pub(super) const REFUSED: (u32, u32) = (RANGE | 1, BITS & !1);

/// The address of a gateway; different for all below 2^28.
pub(super) fn allowed(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(RANGE | (index.wrapping_mul(FACTOR) << 1 & BITS))
}

/// The first `count`, for the sets of other programs.
pub(super) fn list(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..count).map(allowed)
}

/// Gateways of one address each, as a file for `apply`.
pub(super) fn write_gateways(path: &Path, count: u32) -> Result<()> {
    let mut text = String::new();
    for (index, address) in list(count).enumerate() {
        writeln!(
            text,
            "[[gateway]]\nname = \"gw-{index}\"\nmode = \"ip\"\naddresses = [\"{address}\"]"
        )?;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_allowed_are_all_different_and_none_of_them_is_refused() {
        let all: HashSet<Ipv4Addr> = list(300_000).collect();
        assert_eq!(all.len(), 300_000);
        assert!(
            all.iter()
                .all(|address| address.octets()[3] % 2 == 0 && (64..96).contains(&address.octets()[0]))
        );
        let (set, random) = REFUSED;
        assert_eq!((set & 1, random & 1, set & !BITS, random & !BITS), (1, 0, RANGE, 0));
    }
}
