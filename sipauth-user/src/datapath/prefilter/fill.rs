//! How full the prefilter is, as an operator understands it: whom it does not spare a look-up.

use sipauth_common::prefilter::{Bits as _, LINE_WORDS, Table};

use super::{Maps, Prefilter};

/// How full the prefilter is: shares, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fill {
    /// Bits that are set.
    pub bits: f64,
    /// Addresses that nobody has, which are looked up all the same.
    pub address: f64,
    /// Those for which prefixes are searched, of the family where they are more.
    pub prefix: f64,
}

impl Fill {
    /// Without a table everything is looked up.
    const NO_TABLE: Self = Self {
        bits: 1.0,
        address: 1.0,
        prefix: 1.0,
    };
}

impl Prefilter {
    /// How full the table in force is. An address is looked up where all three bits are set that it has in one word.
    fn fill(&self) -> Fill {
        let table = self.header().current;
        let Some(words) = self.words(table) else { return Fill::NO_TABLE };
        let (mut bits, mut spots) = (0.0, 0.0);
        for word in words {
            let share = f64::from(word.count_ones()) / 64.0;
            bits += share;
            spots += share * share * share;
        }
        let count = f64::from(table.lines()) * LINE_WORDS as f64;
        let (bits, address) = (bits / count, spots / count);
        let prefix = [(Table::NETS_V4, 0), (Table::NETS_V6, 1)].map(|(nets, line)| {
            let wide: u32 = (0..4).map(|word| self.word(table.base() + line, word).count_ones()).sum();
            let block = 1.0 - (1.0 - f64::from(wide) / 256.0) * (1.0 - address);
            if table.0 & nets == 0 { 0.0 } else { block }
        });
        Fill {
            bits,
            address,
            prefix: prefix[0].max(prefix[1]),
        }
    }
}

impl Maps {
    /// How full the prefilter is.
    #[must_use]
    pub fn prefilter_fill(&self) -> Fill {
        self.prefilter.fill()
    }
}
