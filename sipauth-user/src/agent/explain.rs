//! What would happen to a packet, told step by step, and what else bears on its source.

use std::net::IpAddr;

use clap::ValueEnum as _;
use sipauth_common::{
    address::Address,
    config::{Lane, flags},
    decide::{Content, Lookup as _, PacketView, acknowledged, decide},
    reason::{Reason, Verdict},
    sip::{AckTo, Class},
    stats::RateKey,
};

use super::{bans, directory::View, flows, state::Agent};
use crate::{
    auth::Directory as _,
    control::{ChallengeInfo, ExplainRequest, Explanation, RateInfo, Response, SourceReport, Transport, parse_message},
    datapath::{DatapathError, monotonic_ns},
    explain::{Recorder, Story, remedy},
};

/// How many refusals of a source are told.
const REFUSALS: usize = 5;

/// What a datagram carries.
fn words(class: Class, given: &str) -> String {
    match class {
        Class::Request(_) => given.to_uppercase(),
        Class::Response => "a response".to_owned(),
        Class::KeepAlive => "a keep-alive".to_owned(),
    }
}

impl Agent {
    /// The decision of the kernel program, over the same maps.
    pub(super) fn explain(&self, request: &ExplainRequest) -> Response {
        let Some(class) = parse_message(&request.message) else {
            return Response::failed(&format!(
                "{} is no SIP method; say INVITE, REGISTER and so on, `response` or `keep-alive`",
                request.message
            ));
        };
        let port = request
            .destination_port
            .or_else(|| self.settings().ports.first().copied())
            .unwrap_or(5060);
        let source = request.source.to_canonical();
        let view = PacketView {
            source: Address::from(source),
            source_port: request.source_port.unwrap_or(0),
            destination_port: port,
            content: match request.transport {
                Transport::Udp => Content::Udp(class),
                Transport::Tcp => Content::Tcp { opens: true },
            },
        };
        let maps = self.maps();
        let recorder = Recorder::new(&**maps, &view.source);
        // An ACK to the softswitch: one to an answer of the agent interests nobody.
        let decision = acknowledged(decide(&view, &recorder), AckTo::Softswitch);
        let accounts = self.accounts();
        let message = match request.transport {
            Transport::Udp => words(class, &request.message),
            Transport::Tcp => "a new TCP connection".to_owned(),
        };
        let story = Story {
            packet: &view,
            message: &message,
            snapshot: &accounts.snapshot,
        };
        let steps = story.steps(&recorder.into_asked(), &decision);
        let about = match self.about(source) {
            Ok(about) => about,
            Err(error) => return Response::failed(&error),
        };
        let gateway = accounts.snapshot.gateway(decision.gateway);
        let verdict = decision.reason.verdict();
        Response::Explanation(Explanation {
            verdict: verdict.label().to_owned(),
            reason: decision.reason.label().to_owned(),
            text: decision.reason.text().to_owned(),
            gateway: gateway.map(|gateway| gateway.name.clone()),
            mode: gateway.map(|gateway| gateway.mode),
            lane: (verdict == Verdict::Punt).then(|| decision.lane.label().to_owned()),
            monitor: self.maps().config().is_some_and(|config| config.has(flags::MONITOR)),
            steps,
            remedy: match decision.reason {
                Reason::PortMismatch | Reason::ReplyMismatch if request.source_port.is_none() => {
                    "ask again with the source port, as SRC:PORT; `sipauth events` shows from which port this address sends".to_owned()
                }
                reason => remedy(reason).to_owned(),
            },
            source: about,
        })
    }

    /// What is known of a source.
    fn about(&self, source: IpAddr) -> Result<SourceReport, DatapathError> {
        let key = Address::from(source);
        let ttl = u64::try_from(self.settings().peer_ttl.as_nanos()).unwrap_or(u64::MAX);
        let called = self.maps().peer(&key).map(|seen| monotonic_ns().saturating_sub(seen));
        Ok(SourceReport {
            ban: bans::of(self, source),
            flows: flows::of(self, source)?,
            peer: called.filter(|ago| *ago < ttl).map(|ago| ago / 1_000_000_000),
            rates: self.rates(&key)?,
            challenge: self.challenge(source),
            refusals: self.events.of_source(source, REFUSALS),
        })
    }

    fn rates(&self, source: &Address) -> Result<Vec<RateInfo>, DatapathError> {
        let mut rates = Vec::new();
        for (lane, per_second) in Lane::ALL.into_iter().zip(self.settings().source_rate) {
            let now = monotonic_ns();
            let buckets = self.maps().punt_rate(&RateKey::new(source, lane))?;
            // A bucket is filled when it is taken from, so a copy is asked what the kernel program would find.
            let left = buckets.into_iter().filter(|bucket| bucket.last_ns != 0).map(|mut bucket| {
                let granted = bucket.take(now, per_second);
                bucket.millitokens / 1_000 + u64::from(granted)
            });
            if let Some(left) = left.min() {
                rates.push(RateInfo {
                    lane: lane.label().to_owned(),
                    left,
                    per_second,
                });
            }
        }
        Ok(rates)
    }

    fn challenge(&self, source: IpAddr) -> Option<ChallengeInfo> {
        let accounts = self.accounts();
        let settings = self.settings();
        let view = View::new(self, &accounts, &settings);
        let known = view.source(source);
        let rules = known.rules.unwrap_or(&settings.digest);
        known.password.then(|| ChallengeInfo {
            status: if rules.proxy { 407 } else { 401 },
            realm: known.realm.to_owned(),
            algorithms: rules.algorithms.iter().map(|one| one.as_str().to_owned()).collect(),
            qop: rules
                .qop
                .to_possible_value()
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default(),
            nonce_lifetime: rules.nonce_lifetime.as_secs(),
        })
    }
}
