//! Gateways to rows and back.

use std::{collections::HashMap, path::Path};

use tokio_stream::StreamExt as _;

use sipauth_common::abi;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction, sqlite::SqliteRow};

use super::{StoreError, classify};
use crate::gateway::{Gateway, HostName, Mode, Names, Secret};

/// Highest id: 0 is "no gateway".
pub(super) const MAX_ID: u32 = abi::MAX_GATEWAYS - 1;

pub(super) async fn load(pool: &SqlitePool, path: &Path) -> Result<Vec<(u32, Gateway)>, StoreError> {
    let failed = |source| classify(path, source);
    // One transaction, so that the three tables belong together.
    let mut reader = pool.begin().await.map_err(failed)?;
    let damaged = |detail: String| StoreError::Corrupt {
        path: path.to_owned(),
        detail,
    };
    // One by one: a row in the hand of sqlx takes a kilobyte.
    let mut gateways: Vec<(u32, Gateway)> = Vec::new();
    let mut rows =
        sqlx::query("SELECT id, name, mode, username, realm, credentials, priority, digest FROM gateways ORDER BY id").fetch(&mut *reader);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        gateways.push(gateway(&row).map_err(failed)?.map_err(damaged)?);
    }
    drop(rows);
    // These are in the same order, which is that of their keys.
    let mut at = 0;
    let mut rows = sqlx::query("SELECT gateway, network FROM addresses ORDER BY gateway").fetch(&mut *reader);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let (id, network): (u32, &str) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let network = network.parse().map_err(|_| damaged(format!("{network:?} is not a network")))?;
        if let Some(gateway) = next_of(&mut gateways, &mut at, id) {
            gateway.addresses.push(network);
        }
    }
    drop(rows);
    at = 0;
    let mut rows = sqlx::query("SELECT gateway, port FROM ports ORDER BY gateway").fetch(&mut *reader);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let (id, port): (u32, u16) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if let Some(gateway) = next_of(&mut gateways, &mut at, id) {
            gateway.ports.push(port);
        }
    }
    drop(rows);
    let mut hosts: HashMap<u32, Vec<HostName>> = HashMap::new();
    for row in sqlx::query("SELECT gateway, name, addresses FROM names")
        .fetch_all(&mut *reader)
        .await
        .map_err(failed)?
    {
        let id: u32 = row.try_get(0).map_err(failed)?;
        let (name, addresses): (&str, &str) = (row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?);
        let addresses = addresses.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>();
        hosts.entry(id).or_default().push(HostName {
            name: name.to_owned(),
            addresses: addresses.map_err(|_| damaged(format!("{name:?} stands for what is no address")))?,
        });
    }
    for (id, gateway) in &mut gateways {
        gateway.addresses.sort_unstable();
        gateway.ports.sort_unstable();
        if let Some(hosts) = hosts.remove(id) {
            gateway.names = Names::new(hosts, &gateway.addresses);
            gateway.settle();
        }
    }
    Ok(gateways)
}

/// The gateway with this id, at or after a place in the list, which is by ids.
fn next_of<'a>(gateways: &'a mut [(u32, Gateway)], at: &mut usize, id: u32) -> Option<&'a mut Gateway> {
    while gateways.get(*at).is_some_and(|(here, _)| *here < id) {
        *at += 1;
    }
    gateways.get_mut(*at).filter(|(here, _)| *here == id).map(|(_, gateway)| gateway)
}

/// The row of `gateways`; the inner error is a value that this program never wrote.
fn gateway(row: &SqliteRow) -> Result<Result<(u32, Gateway), String>, sqlx::Error> {
    let id: u32 = row.try_get(0)?;
    let mode: &str = row.try_get(2)?;
    let Ok(mode) = mode.parse::<Mode>() else {
        return Ok(Err(format!("gateway {id} has the unknown mode {mode:?}")));
    };
    if !(1..=MAX_ID).contains(&id) {
        return Ok(Err(format!("gateway id {id} is out of range")));
    }
    let credentials: Option<String> = row.try_get(5)?;
    let digest: Option<&str> = row.try_get(7)?;
    let digest = match digest.map(serde_json::from_str).transpose() {
        Ok(digest) => digest.unwrap_or_default(),
        Err(error) => return Ok(Err(format!("gateway {id} has digest settings that are none: {error}"))),
    };
    let gateway = Gateway {
        name: row.try_get(1)?,
        mode,
        addresses: Vec::new(),
        names: Names::default(),
        ports: Vec::new(),
        username: row.try_get(3)?,
        realm: row.try_get(4)?,
        credentials: credentials.map(Secret::new),
        digest,
        priority: row.try_get(6)?,
    };
    Ok(Ok((id, gateway)))
}

/// Ids of all gateways.
pub(super) async fn ids(transaction: &mut Transaction<'static, Sqlite>) -> Result<Vec<u32>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM gateways").fetch_all(&mut **transaction).await
}

/// Rows of one statement: SQLite takes 32,766 values at most, and each statement costs a round trip to its thread.
const ROWS: usize = 500;

pub(super) async fn insert(connection: &mut SqliteConnection, gateways: &[(u32, &Gateway)]) -> Result<(), sqlx::Error> {
    for some in gateways.chunks(ROWS) {
        let mut digests = Vec::with_capacity(some.len());
        for (_, gateway) in some {
            let written = (!gateway.digest.is_empty()).then(|| serde_json::to_string(&gateway.digest));
            digests.push(written.transpose().map_err(|error| sqlx::Error::Encode(error.into()))?);
        }
        let mut insert = QueryBuilder::new("INSERT INTO gateways (id, name, mode, username, realm, credentials, priority, digest) ");
        insert.push_values(some.iter().zip(digests), |mut row, ((id, gateway), digest)| {
            row.push_bind(*id)
                .push_bind(&gateway.name)
                .push_bind(gateway.mode.label())
                .push_bind(&gateway.username)
                .push_bind(&gateway.realm)
                .push_bind(gateway.credentials.as_ref().map(Secret::expose))
                .push_bind(gateway.priority)
                .push_bind(digest);
        });
        insert.build().execute(&mut *connection).await?;
    }
    let networks = gateways
        .iter()
        .flat_map(|(id, one)| one.literal_addresses().iter().map(|net| (*id, net.to_string())));
    for some in networks.collect::<Vec<_>>().chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT INTO addresses (gateway, network) ");
        insert.push_values(some, |mut row, (id, network)| {
            row.push_bind(*id).push_bind(network);
        });
        insert.build().execute(&mut *connection).await?;
    }
    let names = gateways
        .iter()
        .flat_map(|(id, one)| one.names.hosts().iter().map(|host| (*id, host)));
    for some in names.collect::<Vec<_>>().chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT INTO names (gateway, name, addresses) ");
        insert.push_values(some, |mut row, (id, host)| {
            let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
            row.push_bind(*id).push_bind(&host.name).push_bind(addresses.join(" "));
        });
        insert.build().execute(&mut *connection).await?;
    }
    let ports = gateways.iter().flat_map(|(id, one)| one.ports.iter().map(|port| (*id, *port)));
    for some in ports.collect::<Vec<_>>().chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT INTO ports (gateway, port) ");
        insert.push_values(some, |mut row, (id, port)| {
            row.push_bind(*id).push_bind(*port);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn delete_id(connection: &mut SqliteConnection, id: u32) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM gateways WHERE id = ?")
        .bind(id)
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn delete(connection: &mut SqliteConnection, name: &str) -> Result<Option<u32>, sqlx::Error> {
    sqlx::query_scalar("DELETE FROM gateways WHERE name = ? RETURNING id")
        .bind(name)
        .fetch_optional(connection)
        .await
}
