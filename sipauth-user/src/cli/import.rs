//! `sipauth import`: gateways from a table of another product, or from a dump of Kamailio's database.

mod dump;
mod forms;

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::{Many, apply, apply::BringArgs, output};
use crate::{
    config::RawDigest,
    gateway::{Mode, RawGateway, Secret, Weakness, host_name},
};

/// A table of gateways, or a dump.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// CSV file with the names of its columns in the first row, or a dump (SQL) of Kamailio's tables subscriber and address
    pub file: PathBuf,
    /// Mode of the rows that have none (CSV)
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Leave bad rows out, instead of applying nothing
    #[arg(long)]
    pub skip_bad: bool,
    /// What to do with the list.
    #[command(flatten)]
    pub bring: BringArgs,
}

/// What a column means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Column {
    Name,
    Mode,
    Address,
    Mask,
    Port,
    Username,
    Password,
    Realm,
    Priority,
}

impl Column {
    /// By the names that products give it; case and the kind of separator do not matter.
    fn of(title: &str) -> Option<Self> {
        let title: String = title.trim().to_ascii_lowercase().replace(['_', ' '], "-");
        Some(match title.as_str() {
            "name" | "gateway" | "gateway-name" | "gateway-id" | "tag" => Self::Name,
            "mode" | "auth-mode" | "authentication-mode" | "call-authentication-mode" => Self::Mode,
            "address" | "addresses" | "ip" | "ips" | "ip-addr" | "ip-address" | "remote-ip" | "remote-ips" => Self::Address,
            "mask" => Self::Mask,
            "port" | "ports" | "remote-port" => Self::Port,
            "username" | "user" | "auth-username" | "account" => Self::Username,
            "password" | "auth-password" => Self::Password,
            "realm" | "domain" => Self::Realm,
            "priority" => Self::Priority,
            _ => return None,
        })
    }
}

/// Longest file that is read.
const LONGEST: u64 = 512 << 20;

pub(super) fn execute(args: &ImportArgs, socket: &Path) -> anyhow::Result<()> {
    let file = args.file.display();
    let text = contents(&args.file)?;
    let mut found = if dump::is_dump(&text) {
        anyhow::ensure!(
            args.mode.is_none(),
            "{file} is a dump, whose tables say the mode; leave --mode out; nothing was applied"
        );
        dump::read(&text).map_err(|error| anyhow::anyhow!("{file} {error}; nothing was applied"))?
    } else {
        read(&text, args.mode)
            .with_context(|| format!("{file}; nothing was applied"))?
            .into()
    };
    found.notes.iter().for_each(|what| output::note(what));
    if !found.bad.is_empty() {
        let mut lines: Vec<String> = found.bad.iter().map(|what| format!("{file} {what}")).collect();
        if !args.skip_bad {
            lines.push("nothing was applied; --skip-bad leaves these rows out".to_owned());
            return Err(Many(lines.join("\n")).into());
        }
        lines.iter().for_each(|line| output::note(&format!("left out: {line}")));
    }
    allow_weak(&mut found.gateways);
    apply::bring(found.gateways, &args.bring, socket)
}

fn contents(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(cannot)?;
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).with_context(cannot)?;
    anyhow::ensure!(
        text.len() as u64 <= LONGEST,
        "{} has more than {} MiB; of a database dump only the tables subscriber and address",
        path.display(),
        LONGEST >> 20
    );
    Ok(text)
}

/// What a file holds, of whatever form.
#[derive(Debug, Default)]
struct Found {
    gateways: Vec<RawGateway>,
    /// Where each bad row is, and what is wrong with it.
    bad: Vec<String>,
    /// What the operator should know.
    notes: Vec<String>,
}

impl From<Table> for Found {
    fn from(table: Table) -> Self {
        let ignored = (!table.ignored.is_empty()).then(|| format!("columns that are not looked at: {}", table.ignored.join(", ")));
        Self {
            gateways: table.gateways,
            bad: table.bad.into_iter().map(|(row, what)| format!("row {row}: {what}")).collect(),
            notes: ignored.into_iter().collect(),
        }
    }
}

/// Names of weak passwords that are told one by one.
const NAMED: usize = 20;

/// Takes weak passwords as they are, since their gateways must go on calling, and names whose they are.
fn allow_weak(gateways: &mut [RawGateway]) {
    let mut weak = Vec::new();
    for gateway in gateways {
        if let (Some(username), Some(password)) = (&gateway.username, &gateway.password)
            && let Some(weakness) = Weakness::of(username, password)
        {
            gateway.allow_weak_password = true;
            weak.push(format!("{}: {weakness}", gateway.name));
        }
    }
    if weak.is_empty() {
        return;
    }
    output::note(&format!(
        "warning: weak passwords are taken as they are, {} of them; replace each with `sipauth gateway set NAME --generate-password`:",
        weak.len()
    ));
    weak.iter().take(NAMED).for_each(|one| output::note(&format!("  {one}")));
    if weak.len() > NAMED {
        output::note(&format!("  and {} more", weak.len() - NAMED));
    }
}

/// What a CSV file holds.
#[derive(Debug)]
struct Table {
    gateways: Vec<RawGateway>,
    /// Row number, the one with the names being 1, and what is wrong with it.
    bad: Vec<(u64, String)>,
    /// Titles that mean nothing here.
    ignored: Vec<String>,
}

fn read(text: &[u8], mode: Option<Mode>) -> anyhow::Result<Table> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text);
    let titles = reader.headers().context("the first row cannot be read")?.clone();
    let columns: Vec<Option<Column>> = titles.iter().map(Column::of).collect();
    for needed in [Column::Name, Column::Address] {
        let there = columns.contains(&Some(needed));
        // Whoever has a password may call from anywhere.
        if !there && (needed == Column::Name || !columns.contains(&Some(Column::Username))) {
            anyhow::bail!(
                "no column for the {needed:?}; its titles are {}",
                output::list(&titles.iter().collect::<Vec<_>>())
            );
        }
    }
    let ignored = titles.iter().zip(&columns).filter(|(_, column)| column.is_none());
    let mut table = Table {
        gateways: Vec::new(),
        bad: Vec::new(),
        ignored: ignored.map(|(title, _)| title.to_owned()).collect(),
    };
    let mut names: HashMap<String, u64> = HashMap::new();
    for (number, record) in (2..).zip(reader.records()) {
        let made = record.map_err(|error| error.to_string()).and_then(|record| {
            let fields = columns.iter().zip(record.iter()).filter(|(_, field)| !field.is_empty());
            gateway(
                &fields
                    .filter_map(|(column, field)| Some((column.as_ref().copied()?, field)))
                    .collect(),
                mode,
            )
        });
        match made {
            Ok(gateway) => match names.get(&gateway.name) {
                Some(first) => table
                    .bad
                    .push((number, format!("gateway {} is there already, in row {first}", gateway.name))),
                None => {
                    names.insert(gateway.name.clone(), number);
                    table.gateways.push(gateway);
                }
            },
            Err(what) => table.bad.push((number, what)),
        }
    }
    Ok(table)
}

fn gateway(fields: &HashMap<Column, &str>, default: Option<Mode>) -> Result<RawGateway, String> {
    let text = |column| fields.get(&column).map(ToString::to_string);
    let name = text(Column::Name).ok_or("no name; give each gateway one")?;
    let mode = match fields.get(&Column::Mode) {
        // As VOS3000 names them.
        Some(mode) => mode
            .to_ascii_lowercase()
            .replace([' ', '+', '_'], "-")
            .parse()
            .map_err(|error| format!("{error}"))?,
        None => default.ok_or("no mode; add a column `mode`, or give --mode for all rows without one")?,
    };
    let mut addresses = forms::addresses(fields.get(&Column::Address).copied().unwrap_or_default())?;
    if let (Some(mask), [address]) = (fields.get(&Column::Mask), addresses.as_mut_slice())
        && !address.contains('/')
        && host_name(address).is_none()
    {
        *address = format!("{address}/{mask}");
    }
    let ports = fields.get(&Column::Port).copied().unwrap_or_default();
    let ports = ports.split([',', ';']).map(str::trim).filter(|port| !port.is_empty());
    let ports = ports
        .map(|port| port.parse().map_err(|_| format!("{port:?} is not a port; write 1 to 65535")))
        .collect::<Result<Vec<u16>, _>>()?;
    let priority = fields.get(&Column::Priority).copied().unwrap_or("0");
    let priority = priority
        .parse()
        .map_err(|_| format!("{priority:?} is not a priority; write a whole number"))?;
    let mut raw = RawGateway {
        name,
        mode,
        addresses,
        // Kamailio writes 0 for any port, and other products list the port whatever the mode.
        ports: if mode == Mode::IpPort { ports } else { Vec::new() },
        username: text(Column::Username).filter(|_| mode == Mode::Password),
        realm: text(Column::Realm).filter(|_| mode == Mode::Password),
        password: text(Column::Password).filter(|_| mode == Mode::Password).map(Secret::new),
        // Judged later, for all rows together.
        allow_weak_password: true,
        credentials: None,
        digest: RawDigest::default(),
        priority,
    };
    raw.clone()
        .validate("sipauth", None, |_, _, _| Secret::default())
        .map_err(|error| error.to_string())?;
    raw.allow_weak_password = false;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Gateway Name,Auth Mode,Remote IPs,Remote Port,User,Password,Memo\n\
        carrier-a,IP,203.0.113.x;198.51.100.7,5060,,,east\n\
        carrier-b,IP+Port,203.0.114.8-203.0.114.9,5060;5062,,,\n\
        office,password,,,office1,a good one,\"a, b\"\n";

    #[test]
    fn a_table_of_another_product_becomes_gateways() {
        let table = read(TABLE.as_bytes(), None).expect("a table");
        assert_eq!(
            (table.bad.as_slice(), table.ignored.as_slice()),
            (&[][..], &["Memo".to_owned()][..])
        );
        let [a, b, office] = table.gateways.as_slice() else {
            panic!("{table:?}")
        };
        assert_eq!((a.mode, a.addresses.len(), a.ports.len()), (Mode::Ip, 2, 0));
        assert_eq!(
            (b.mode, b.ports.as_slice(), b.addresses.as_slice()),
            (Mode::IpPort, &[5060, 5062][..], &["203.0.114.8/31".to_owned()][..])
        );
        assert_eq!((office.mode, office.username.as_deref()), (Mode::Password, Some("office1")));
        // Kamailio's `address`, as `SELECT … INTO OUTFILE` or a database tool writes it.
        let kamailio = "id,grp,ip_addr,mask,port,tag\n1,1,203.0.113.0,24,0,trunk-1\n";
        let table = read(kamailio.as_bytes(), Some(Mode::Ip)).expect("a table");
        assert_eq!(table.gateways[0].addresses, ["203.0.113.0/24"]);
    }

    #[test]
    fn weak_passwords_are_taken_by_name() {
        let text = "name,mode,username,password\na,password,a1,1234\nb,password,b1,a good one of its own\n";
        let mut gateways = read(text.as_bytes(), None).expect("a table").gateways;
        allow_weak(&mut gateways);
        let allowed: Vec<bool> = gateways.iter().map(|gateway| gateway.allow_weak_password).collect();
        assert_eq!(allowed, [true, false]);
    }

    #[test]
    fn every_bad_row_is_named_and_the_others_are_good() {
        let mut text = String::from("name,mode,address\n");
        for n in 2..=10_001_u32 {
            let row = match n {
                77 => "g77,ip,300.0.0.1\n".to_owned(),
                5_000 => "g5000,ipp,10.0.0.1\n".to_owned(),
                9_999 => "g9998,ip,10.0.0.1\n".to_owned(),
                n => format!("g{n},ip,10.1.{}.{}\n", n >> 8, n & 255),
            };
            text += &row;
        }
        let table = read(text.as_bytes(), None).expect("a table");
        let rows: Vec<u64> = table.bad.iter().map(|(row, _)| *row).collect();
        assert_eq!((rows, table.gateways.len()), (vec![77, 5_000, 9_999], 9_997));
        assert!(
            table.bad[0].1.contains("300.0.0.1") && table.bad[2].1.contains("row 9998"),
            "{:?}",
            table.bad
        );
        assert!(
            read(b"a,b\n1,2\n", None)
                .expect_err("no name")
                .to_string()
                .contains("no column for the Name")
        );
    }
}
