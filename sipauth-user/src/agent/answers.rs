//! Answers to the command line.

use std::sync::Arc;

use sipauth_common::{reason::Reason, stats::Count};
use tokio::sync::{broadcast::error::RecvError, mpsc};

use super::{flows, reload, removed, state::Agent};
use crate::{
    audit::{Attempt, Author},
    control::{Caller, Counted, GatewayCounts, GatewayReport, Handler, ReasonCount, Reply, Request, Response, StatsReport},
    datapath::DatapathError,
};

impl Handler for Agent {
    async fn handle(&self, request: Request, caller: Caller) -> Reply {
        tracing::debug!(uid = caller.uid, pid = caller.pid, "request");
        let attempt = Attempt::of(&request);
        let reply = self.answer(request).await;
        let mut reply = self.audited(attempt, reply, move || Author::of(caller)).await;
        // The audit names all.
        if let Reply::One(response) = &mut reply
            && let Response::Applied(report) = &mut **response
        {
            report.shorten();
        }
        reply
    }
}

impl Agent {
    async fn answer(&self, request: Request) -> Reply {
        if matches!(request, Request::Export | Request::GatewayList | Request::GatewayShow { .. })
            && let Some(answer) = self.unlisted()
        {
            return answer.into();
        }
        match request {
            Request::GatewayAdd { gateway } => self.add(gateway).await.into(),
            Request::GatewaySet { name, fields } => self.set(&name, *fields).await.into(),
            Request::Apply { gateways, prune, dry_run } => self.apply(gateways, prune, dry_run).await.into(),
            Request::Reload => {
                let response = self.reload().await;
                reload::log(&response);
                response.into()
            }
            Request::Export => self.export().into(),
            Request::GatewayRemove { name } => self.remove(&name).await.into(),
            Request::GatewayList => self.list().into(),
            Request::GatewayShow { name } => self.show(&name).into(),
            Request::Explain(request) => self.explain(&request).into(),
            Request::Stats => self.stats().map_or_else(|error| Response::failed(&error), Response::Stats).into(),
            Request::Sample => self
                .take_sample()
                .map_or_else(|error| Response::failed(&error), |sample| Response::Sample(Box::new(sample)))
                .into(),
            Request::Status => Response::Status(self.status().await).into(),
            Request::Detach => self.detach().into(),
            Request::BanAdd { bans } => self.ban(bans).await.into(),
            Request::BanRemove { address } => self.unban(address).await.into(),
            Request::BanList => self.bans().await.into(),
            Request::FlowList => flows::list(self)
                .map_or_else(|error| Response::failed(&error), |flows| Response::Flows { flows })
                .into(),
            Request::Events { follow } => self.follow(follow),
            Request::Trace(request) => self.trace(&request),
        }
    }

    /// Has a change written to the audit before it is answered.
    pub(super) async fn audited(&self, attempt: Option<Attempt>, reply: Reply, author: impl FnOnce() -> Author + Send + 'static) -> Reply {
        match (attempt, reply) {
            (Some(attempt), Reply::One(response)) => {
                let audit = Arc::clone(&self.audit);
                let write = move || {
                    audit.record(&author(), attempt, &response);
                    response
                };
                match tokio::task::spawn_blocking(write).await {
                    Ok(response) => Reply::One(response),
                    Err(error) => Response::failed(&format!("the change is made, but the audit failed: {error}")).into(),
                }
            }
            (_, reply) => reply,
        }
    }

    fn list(&self) -> Response {
        let accounts = self.accounts();
        Response::Gateways {
            gateways: accounts
                .snapshot
                .sorted()
                .into_iter()
                .map(|(id, gateway)| self.info(id, gateway))
                .collect(),
        }
    }

    fn export(&self) -> Response {
        Response::Exported {
            gateways: self
                .accounts()
                .snapshot
                .sorted()
                .into_iter()
                .map(|(_, gateway)| gateway.into())
                .collect(),
            names: self.host_names(),
        }
    }

    fn show(&self, name: &str) -> Response {
        match self.accounts().snapshot.by_name(name) {
            Some((id, gateway)) => Response::Gateway(GatewayReport {
                gateway: self.info(id, gateway),
                refusals: self.events.refusals(id),
            }),
            None => crate::gateway::GatewayError::Unknown { gateway: name.to_owned() }.into(),
        }
    }

    pub(super) fn stats(&self) -> Result<StatsReport, DatapathError> {
        let counts = self.maps().stats()?;
        let mut report = StatsReport::default();
        for reason in Reason::ALL {
            let Count { packets, bytes } = counts[reason.slot() as usize];
            report.reasons.insert(
                reason.label().to_owned(),
                ReasonCount {
                    packets,
                    bytes,
                    verdict: reason.verdict().label().to_owned(),
                },
            );
        }
        let accounts = self.accounts_owned();
        let (ids, gateways): (Vec<u32>, Vec<_>) = accounts.snapshot.iter().unzip();
        for (gateway, counts) in gateways.into_iter().zip(self.maps().all_gateway_stats(&ids)?) {
            let [pass, drop, punt, absorb] = counts.verdict.map(|Count { packets, bytes }| Counted { packets, bytes });
            report
                .gateways
                .insert(gateway.name.clone(), GatewayCounts { pass, drop, punt, absorb });
        }
        let outcomes = self.counts().map(crate::worker::Counts::outcomes).unwrap_or_default();
        report.authentication = self
            .outcomes(outcomes, &counts)
            .into_iter()
            .map(|(outcome, count)| (outcome.label().to_owned(), count))
            .collect();
        Ok(report)
    }

    /// Takes everything down, and the agent with it: it has nothing left to serve.
    fn detach(&self) -> Response {
        let removed = removed(self.pins());
        match self.detach_all() {
            Ok(()) => Response::Detached { removed },
            Err(error) => Response::failed(&error),
        }
    }

    fn follow(&self, follow: bool) -> Reply {
        let (kept, mut followed) = self.events.subscribe();
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            for record in kept {
                if sender.send(Response::Event(record)).await.is_err() {
                    return;
                }
            }
            if !follow {
                return;
            }
            loop {
                let record = tokio::select! {
                    () = sender.closed() => return,
                    record = followed.recv() => record,
                };
                match record {
                    Ok(record) => {
                        if sender.send(Response::Event(record)).await.is_err() {
                            return;
                        }
                    }
                    // A slow follower misses some; they are samples anyway.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Reply::Stream(receiver)
    }
}
