//! Rows of `subscriber` and `address` to gateways.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    super::Found,
    tables::{Row, TableName},
};
use crate::{
    auth::{Algorithm, Ha1},
    config::RawDigest,
    gateway::{MAX_NAME, Mode, RawGateway, Secret},
};

type Fields = HashMap<String, String>;

/// What the rows say, and which say nothing.
pub(super) fn gateways(rows: Vec<Row>) -> Found {
    let mut made = Maker::default();
    let mut addresses = Addresses::default();
    for row in rows {
        let place = row.place();
        let taken = row.fields.and_then(|fields| match row.table {
            TableName::Subscriber => made.subscriber(&place, &fields),
            TableName::Address => addresses.take(&place, &fields),
        });
        if let Err(what) = taken {
            made.found.bad.push(format!("{place}: {what}"));
        }
    }
    let groups = addresses.groups();
    if groups.len() > 1 {
        let list: Vec<String> = groups.into_iter().collect();
        made.found.notes.push(format!(
            "the table address has the groups {}; all are taken alike, and what a group means is in kamailio.cfg alone",
            list.join(", ")
        ));
    }
    for (place, gateway) in addresses.gateways() {
        if let Err(what) = made.enter(&place, gateway) {
            made.found.bad.push(format!("{place}: {what}"));
        }
    }
    if made.hashes > 0 {
        made.found.notes.push(format!(
            "subscribers with an HA1 and no password, whose gateways know MD5 alone: {}",
            made.hashes
        ));
    }
    if made.differ > 0 {
        made.found.notes.push(format!(
            "subscribers whose password is not that of their HA1, which was taken, as Kamailio does by default: {}",
            made.differ
        ));
    }
    made.found
}

#[derive(Default)]
struct Maker {
    found: Found,
    /// Where a name came from.
    names: HashMap<String, String>,
    usernames: HashMap<String, String>,
    /// Subscribers without a password that could be read.
    hashes: usize,
    /// Subscribers whose password and HA1 do not belong together.
    differ: usize,
}

impl Maker {
    fn enter(&mut self, place: &str, gateway: RawGateway) -> Result<(), String> {
        if let Some(other) = self.names.get(&gateway.name) {
            return Err(format!(
                "gateway {} is there already, from {other}; rename one of them",
                gateway.name
            ));
        }
        gateway
            .clone()
            .validate("sipauth", None, |_, _, _| Secret::default())
            .map_err(|error| error.to_string())?;
        self.names.insert(gateway.name.clone(), place.to_owned());
        self.found.gateways.push(RawGateway {
            allow_weak_password: false,
            ..gateway
        });
        Ok(())
    }

    fn subscriber(&mut self, place: &str, fields: &Fields) -> Result<(), String> {
        let get = |column: &str| fields.get(column).map(String::as_str).filter(|value| !value.is_empty());
        let username = get("username").ok_or("no username")?;
        if let Some(other) = self.usernames.get(username) {
            return Err(format!(
                "username {username:?} is there already, in {other}; a gateway is found by its username alone, whatever its domain"
            ));
        }
        let realm = get("domain");
        let (mut password, mut credentials, mut differs) = (get("password"), None, false);
        if let Some(ha1) = get("ha1") {
            let of_password = password.zip(realm).map(|(password, realm)| Ha1::derive(username, realm, password));
            let given = Ha1::from_md5(ha1, get("ha1b")).ok_or("its ha1 is not an MD5 sum, 32 digits in hex")?;
            if of_password.as_ref().is_none_or(|ours| !ours.same_md5(&given)) {
                if realm.is_some() {
                    differs = password.is_some();
                    password = None;
                    credentials = Some(Secret::new(given.to_text()));
                } else if password.is_none() {
                    return Err("no domain, and so nobody knows the realm of its ha1; set its domain, or give its password".to_owned());
                }
            }
        }
        let hashed = credentials.is_some();
        let gateway = RawGateway {
            name: name_of(username),
            mode: Mode::Password,
            addresses: Vec::new(),
            ports: Vec::new(),
            username: Some(username.to_owned()),
            realm: realm.map(str::to_owned),
            password: password.map(|password| Secret::new(password.to_owned())),
            // Judged later, for all rows together.
            allow_weak_password: true,
            credentials,
            digest: RawDigest {
                algorithms: hashed.then(|| vec![Algorithm::Md5]),
                ..RawDigest::default()
            },
            priority: 0,
        };
        self.enter(place, gateway)?;
        self.usernames.insert(username.to_owned(), place.to_owned());
        self.hashes += usize::from(hashed && !differs);
        self.differ += usize::from(differs);
        Ok(())
    }
}

/// The rows of a tag: its addresses, and from which ports each may call. Port 0 is any.
struct Tagged {
    place: String,
    ports: BTreeMap<String, BTreeSet<u16>>,
}

/// The table `address`.
#[derive(Default)]
struct Addresses {
    /// In the order of their first rows.
    tags: Vec<(String, Tagged)>,
    positions: HashMap<String, usize>,
    groups: BTreeSet<String>,
}

impl Addresses {
    fn take(&mut self, place: &str, fields: &Fields) -> Result<(), String> {
        let get = |column: &str| fields.get(column).map(String::as_str).filter(|value| !value.is_empty());
        let number = |column: &str, or: &'static str| get(column).unwrap_or(or).parse::<u16>();
        let ip = get("ip_addr").ok_or("no ip_addr")?;
        let mask = number("mask", "32").map_err(|_| format!("{:?} is not a mask; write the length of the prefix", fields["mask"]))?;
        let port = number("port", "0").map_err(|_| format!("{:?} is not a port", fields["port"]))?;
        let host = if ip.contains(':') { 128 } else { 32 };
        let is_name = ip.parse::<std::net::IpAddr>().is_err();
        let address = if mask == host || (is_name && mask == 32) {
            ip.to_owned()
        } else {
            format!("{ip}/{mask}")
        };
        let group = get("grp").unwrap_or("1");
        let name = get("tag").map_or_else(|| name_of(&format!("grp{group}-{address}")), name_of);
        let alone = raw(name.clone(), vec![address.clone()], &BTreeSet::from([port]));
        alone
            .validate("sipauth", None, |_, _, _| Secret::default())
            .map_err(|error| error.to_string())?;
        self.groups.insert(group.to_owned());
        let at = *self.positions.entry(name.clone()).or_insert_with(|| {
            let tagged = Tagged {
                place: place.to_owned(),
                ports: BTreeMap::new(),
            };
            self.tags.push((name, tagged));
            self.tags.len() - 1
        });
        self.tags[at].1.ports.entry(address).or_default().insert(port);
        Ok(())
    }

    fn groups(&self) -> BTreeSet<String> {
        self.groups.clone()
    }

    /// One for each tag. Where the addresses of a tag have not all the same ports there is one for each list of ports, since a gateway
    /// has every port of its list at every address.
    fn gateways(self) -> impl Iterator<Item = (String, RawGateway)> {
        self.tags.into_iter().flat_map(|(tag, tagged)| {
            let mut lists: BTreeMap<BTreeSet<u16>, Vec<String>> = BTreeMap::new();
            for (address, mut ports) in tagged.ports {
                if ports.contains(&0) {
                    ports = BTreeSet::from([0]);
                }
                lists.entry(ports).or_default().push(address);
            }
            let several = lists.len() > 1;
            let named = lists.into_iter().map(move |(ports, addresses)| {
                let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
                let name = match several {
                    false => tag.clone(),
                    true if ports.contains(&0) => format!("{tag}-any"),
                    true => format!("{tag}-{}", list.join("-")),
                };
                (tagged.place.clone(), raw(name, addresses, &ports))
            });
            named.collect::<Vec<_>>()
        })
    }
}

fn raw(name: String, addresses: Vec<String>, ports: &BTreeSet<u16>) -> RawGateway {
    let any = ports.contains(&0);
    RawGateway {
        name,
        mode: if any { Mode::Ip } else { Mode::IpPort },
        addresses,
        ports: if any { Vec::new() } else { ports.iter().copied().collect() },
        username: None,
        realm: None,
        password: None,
        allow_weak_password: false,
        credentials: None,
        digest: RawDigest::default(),
        priority: 0,
    }
}

/// A text as the name of a gateway: what cannot be in one becomes `_`.
fn name_of(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().take(MAX_NAME).map(|c| if allowed(c) { c } else { '_' }).collect()
}
