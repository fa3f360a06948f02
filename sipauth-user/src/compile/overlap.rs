//! What a new gateway changes for those that are there: operators hear of it when they add one.

use crate::gateway::{Gateway, Mode, Warning};

/// How much a mode asks of a caller. A gateway that asks for less weakens one that asks for more at the same source.
const fn strength(mode: Mode) -> u8 {
    match mode {
        Mode::Ip => 0,
        // Either is enough where both are present: to know a port is less than to know a password.
        Mode::IpPort => 1,
        Mode::Password => 2,
        // May not call in at all.
        Mode::Peer => 3,
    }
}

/// What `new` changes for `existing`: pairs at the same address or prefix of which one asks for less, and wider prefixes that a longer one of `new` takes a part from
/// with a weaker demand. Names both.
pub fn weakened<'a>(existing: impl IntoIterator<Item = &'a Gateway>, new: &Gateway) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for other in existing {
        let shared = new.addresses.iter().find(|net| other.addresses.binary_search(net).is_ok());
        if let Some(network) = shared {
            let (weaker, stronger) = if strength(new.mode) < strength(other.mode) {
                (new, other)
            } else {
                (other, new)
            };
            if strength(weaker.mode) < strength(stronger.mode) {
                warnings.push(Warning::Weakened {
                    stronger: stronger.name.clone(),
                    stronger_mode: stronger.mode,
                    weaker: weaker.name.clone(),
                    weaker_mode: weaker.mode,
                    network: *network,
                });
            }
            continue;
        }
        let hidden = new.addresses.iter().find_map(|inner| {
            Some((
                inner,
                other.addresses.iter().find(|outer| outer.contains(inner) && *outer != inner)?,
            ))
        });
        if let Some((inner, outer)) = hidden {
            warnings.push(Warning::Hidden {
                gateway: new.name.clone(),
                network: *inner,
                hidden: other.name.clone(),
                hidden_network: *outer,
            });
        }
    }
    warnings
}
