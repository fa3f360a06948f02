//! Asks name servers what host names stand for: those of /etc/resolv.conf, and /etc/hosts before them.
//!
//! A name is asked for as it is, without the search list of resolv.conf: who adds a gateway by its name means this one.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    net::{DnsError, NetError, NoRecords},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use ipnet::IpNet;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::gateway::{MAX_RESOLVED, acceptable};

/// An answer is used for this long at least: a record with a TTL of 0 must not become a question a second.
pub const SHORTEST: Duration = Duration::from_secs(30);
/// And for this long at most, so that a mistake in a zone does not stay for a week.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Questions under way at once.
const AT_ONCE: usize = 64;
/// For one question, whatever resolv.conf says of attempts. Of two that are asked about a name, one may go without an answer: some servers drop
/// questions about IPv6.
const PATIENCE: Duration = Duration::from_secs(8);
/// For one attempt of it.
const ATTEMPT: Duration = Duration::from_secs(3);
/// For all names of a change: whoever made it is waiting.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(40);

const LATE: &str = "no name server answers";

/// What became of the two questions about a name.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// A records; `None` where nobody answered. An empty list is an answer too.
    v4: Option<Vec<IpAddr>>,
    /// AAAA records, likewise.
    v6: Option<Vec<IpAddr>>,
    /// How long the answer holds by its records.
    ttl: Option<Duration>,
    /// Why there is no better answer.
    detail: String,
}

impl Answer {
    /// The addresses that the name stands for from now on, where it stood for `present`: a family about which nobody answered stays as it was.
    ///
    /// # Errors
    /// It stands for none, or for more than are taken; then what was there stays.
    pub fn over(&self, present: &[IpNet]) -> Result<Vec<IpNet>, String> {
        let answered = [(true, &self.v4), (false, &self.v6)];
        let mut refused = None;
        let mut addresses = Vec::new();
        for (v4, answer) in answered {
            match answer {
                None => addresses.extend(present.iter().filter(|net| net.addr().is_ipv4() == v4)),
                Some(answer) => {
                    for address in answer {
                        match acceptable(*address) {
                            Some(net) => addresses.push(net),
                            None => refused = Some(*address),
                        }
                    }
                }
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        if self.v4.is_none() && self.v6.is_none() {
            return Err(self.detail.clone());
        }
        match (addresses.len(), refused) {
            (0, Some(address)) => Err(format!("the answer is {address}, from where no gateway can call")),
            (0, None) => Err(self.detail.clone()),
            (count, _) if count > MAX_RESOLVED => Err(format!("the answer has {count} addresses, and at most {MAX_RESOLVED} are taken")),
            _ => Ok(addresses),
        }
    }

    /// When to ask again.
    #[must_use]
    pub fn holds(&self) -> Duration {
        self.ttl.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST)
    }
}

/// Asks about all these names. Each has an answer in the result, if only that there was none in time.
///
/// `avoid` are local ports that questions are not sent from: what arrives at these is no answer of a name server.
pub async fn resolve(names: Vec<String>, avoid: &Arc<HashSet<u16>>) -> HashMap<String, Answer> {
    let mut answers: HashMap<String, Answer> = HashMap::with_capacity(names.len());
    let nothing = |detail: String| Answer {
        detail,
        ..Answer::default()
    };
    let resolver = match resolver(avoid) {
        Ok(resolver) => resolver,
        Err(error) => {
            let answer = nothing(format!("no resolver: {error}"));
            return names.into_iter().map(|name| (name, answer.clone())).collect();
        }
    };
    let late = nothing(LATE.to_owned());
    answers.extend(names.iter().map(|name| (name.clone(), late.clone())));
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    let mut questions = JoinSet::new();
    for name in names {
        let (resolver, seats) = (resolver.clone(), Arc::clone(&seats));
        questions.spawn(async move {
            let _seat = seats.acquire_owned().await;
            let answer = ask(&resolver, &name).await;
            (name, answer)
        });
    }
    // What is not answered then is dropped with the set.
    let _ = tokio::time::timeout(PATIENCE_FOR_ALL, async {
        while let Some(done) = questions.join_next().await {
            answers.extend(done);
        }
    })
    .await;
    answers
}

/// Made for each round: resolv.conf may have changed.
fn resolver(avoid: &Arc<HashSet<u16>>) -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    // What is asked for again is asked for because it may have changed.
    options.cache_size = 0;
    options.timeout = options.timeout.min(ATTEMPT);
    options.avoid_local_udp_ports = Arc::clone(avoid);
    // One connection to a server serves all questions.
    options.max_active_requests = options.max_active_requests.max(2 * AT_ONCE);
    builder.build()
}

async fn ask(resolver: &TokioResolver, name: &str) -> Answer {
    let name = match Name::from_ascii(format!("{name}.")) {
        Ok(name) => name,
        Err(error) => {
            return Answer {
                detail: error.to_string(),
                ..Answer::default()
            };
        }
    };
    let (v4, v6) = tokio::join!(
        addresses(resolver, name.clone(), RecordType::A),
        addresses(resolver, name, RecordType::AAAA)
    );
    let ttls = [&v4, &v6].into_iter().filter_map(|found| found.as_ref().ok()?.ttl);
    let ttl = ttls.min();
    // Silence says less than a refusal, but explains more: the other answer is missing because of it.
    let silence = [&v4, &v6].into_iter().find_map(|found| found.as_ref().err().cloned());
    let refusal = [&v4, &v6].into_iter().find_map(|found| found.as_ref().ok()?.detail);
    let detail = silence.unwrap_or_else(|| refusal.unwrap_or_default().to_owned());
    Answer {
        v4: v4.ok().map(|found| found.addresses),
        v6: v6.ok().map(|found| found.addresses),
        ttl,
        detail,
    }
}

/// What a server answered about one family.
#[derive(Default)]
struct Records {
    addresses: Vec<IpAddr>,
    ttl: Option<Duration>,
    /// Why there are none.
    detail: Option<&'static str>,
}

async fn addresses(resolver: &TokioResolver, name: Name, family: RecordType) -> Result<Records, String> {
    let Ok(answer) = tokio::time::timeout(PATIENCE, resolver.lookup(name, family)).await else {
        return Err(LATE.to_owned());
    };
    match answer {
        Ok(lookup) => Ok(Records {
            addresses: lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::A(a) => Some(IpAddr::V4(a.0)),
                    RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                    _ => None,
                })
                .collect(),
            ttl: Some(lookup.valid_until().saturating_duration_since(Instant::now())),
            detail: None,
        }),
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. }))) => match response_code {
            ResponseCode::NXDomain => Ok(Records {
                detail: Some("there is no such name"),
                ..Records::default()
            }),
            ResponseCode::NoError => Ok(Records {
                detail: Some("the name has no address"),
                ..Records::default()
            }),
            other => Err(format!("the name server says: {other}")),
        },
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(format!("the name server says: {code}")),
        Err(NetError::Timeout | NetError::NoConnections) => Err(LATE.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Option<Vec<IpAddr>> {
        Some(texts.iter().map(|text| text.parse().expect("an address")).collect())
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        let addresses = ips(texts).unwrap_or_default();
        addresses.into_iter().map(IpNet::from).collect()
    }

    fn answer(v4: Option<Vec<IpAddr>>, v6: Option<Vec<IpAddr>>) -> Answer {
        Answer {
            v4,
            v6,
            ttl: None,
            detail: "no name server answers".to_owned(),
        }
    }

    #[test]
    fn an_answer_takes_the_place_of_the_one_before_family_by_family() {
        let before = nets(&["203.0.113.1", "2001:db8::1"]);
        let over = |v4, v6| answer(v4, v6).over(&before);
        assert_eq!(
            over(ips(&["203.0.113.2"]), ips(&["2001:db8::2"])),
            Ok(nets(&["203.0.113.2", "2001:db8::2"]))
        );
        assert_eq!(
            over(ips(&["203.0.113.2"]), ips(&[])),
            Ok(nets(&["203.0.113.2"])),
            "the record is gone"
        );
        assert_eq!(
            over(ips(&["203.0.113.2"]), None),
            Ok(nets(&["203.0.113.2", "2001:db8::1"])),
            "nobody answered"
        );
        assert_eq!(over(None, None), Err("no name server answers".to_owned()));
        assert!(over(ips(&[]), ips(&[])).is_err(), "a name that is gone is no answer");
    }

    #[test]
    fn an_answer_from_where_nobody_calls_is_none() {
        let over = |v4: &[&str]| answer(ips(v4), ips(&[])).over(&[]);
        assert!(over(&["127.0.0.1"]).expect_err("refused").contains("127.0.0.1"));
        assert!(over(&["0.0.0.0", "224.0.0.1"]).is_err());
        assert_eq!(over(&["127.0.0.1", "203.0.113.1"]), Ok(nets(&["203.0.113.1"])));
        let many: Vec<String> = (0..=MAX_RESOLVED).map(|n| format!("203.0.113.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(over(&many).expect_err("too many").contains("65"));
        assert_eq!(over(&many[1..]).map(|all| all.len()), Ok(MAX_RESOLVED));
    }

    #[test]
    fn an_answer_holds_for_its_ttl_within_bounds() {
        for (ttl, expected) in [(0, 30), (30, 30), (300, 300), (86_400, 3600)] {
            let holds = Answer {
                ttl: Some(Duration::from_secs(ttl)),
                ..Answer::default()
            }
            .holds();
            assert_eq!(holds, Duration::from_secs(expected));
        }
    }
}
