//! The rows of the gateways: which, and in which order.

use std::{cmp::Ordering, net::IpAddr};

use ipnet::IpNet;

use super::{Rates, Verdicts};
use crate::control::GatewayInfo;

/// How gateways are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum GatewaySort {
    /// Most packets first.
    #[default]
    Rate,
    /// Most refused first.
    Drop,
    /// Most handed to the agent first.
    Punt,
    /// By name.
    Name,
    /// By mode.
    Mode,
}

impl GatewaySort {
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Drop,
            Self::Drop => Self::Punt,
            Self::Punt => Self::Name,
            Self::Name => Self::Mode,
            Self::Mode => Self::Rate,
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Rate => "packets",
            Self::Drop => "drop",
            Self::Punt => "punt",
            Self::Name => "name",
            Self::Mode => "mode",
        }
    }
}

/// A gateway with its rates, once they are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) gateway: &'a GatewayInfo,
    pub(crate) rates: Option<Verdicts>,
}

/// The gateways that the filter admits, sorted; equal ones by name.
pub(crate) fn rows<'a>(
    gateways: &'a [GatewayInfo],
    rates: Option<&Rates>,
    filter: &Filter,
    sort: GatewaySort,
    reverse: bool,
) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'_>> = gateways
        .iter()
        .filter(|gateway| filter.gateway(gateway))
        .map(|gateway| Row {
            gateway,
            rates: rates.and_then(|rates| rates.gateways.get(&gateway.name)).copied(),
        })
        .collect();
    rows.sort_by(|a, b| {
        let by = |value: fn(&Verdicts) -> f64| {
            let of = |row: &Row<'_>| row.rates.as_ref().map_or(-1.0, value);
            of(b).partial_cmp(&of(a)).unwrap_or(Ordering::Equal)
        };
        let order = match sort {
            GatewaySort::Rate => by(Verdicts::total),
            GatewaySort::Drop => by(|rates| rates.drop.packets),
            GatewaySort::Punt => by(|rates| rates.punt.packets),
            GatewaySort::Name => Ordering::Equal,
            GatewaySort::Mode => a.gateway.mode.label().cmp(b.gateway.mode.label()),
        };
        order.then_with(|| a.gateway.name.cmp(&b.gateway.name))
    });
    if reverse {
        rows.reverse();
    }
    rows
}

/// What the operator typed to narrow the lists: a part of a name or address, or a whole address, which also finds the networks that
/// it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    text: String,
    address: Option<IpAddr>,
}

impl Filter {
    pub(crate) fn new(text: &str) -> Self {
        let text = text.trim().to_lowercase();
        Self {
            address: text.parse().ok(),
            text,
        }
    }

    pub(crate) fn gateway(&self, gateway: &GatewayInfo) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.text);
        self.text.is_empty()
            || has(&gateway.name)
            || has(gateway.mode.label())
            || gateway.username.as_deref().is_some_and(has)
            || gateway
                .addresses
                .iter()
                .chain(gateway.names.iter().flat_map(|name| &name.addresses))
                .any(|address| has(address) || self.within(address))
    }

    fn within(&self, network: &str) -> bool {
        let Some(address) = self.address else { return false };
        network.parse::<IpNet>().is_ok_and(|network| network.contains(&address))
    }

    pub(crate) fn source(&self, address: IpAddr, gateway: Option<&str>) -> bool {
        self.text.is_empty()
            || address.to_string().contains(&self.text)
            || gateway.is_some_and(|name| name.to_lowercase().contains(&self.text))
    }
}
