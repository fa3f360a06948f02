//! Answers about one row, asked of the agent as `explain` and `gateway show` do.

use std::{net::SocketAddr, path::Path};

use super::super::{ask, explain, gateway, unexpected};
use crate::control::{EventRecord, ExplainRequest, GatewayInfo, Request, Response, parse_message};

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// What would happen to another packet like this one.
    Source(ExplainRequest),
    /// A gateway, and who was refused with its username.
    Gateway(String),
}

impl Question {
    pub(super) fn gateway(gateway: &GatewayInfo) -> Self {
        Self::Gateway(gateway.name.clone())
    }

    pub(super) fn source(event: &EventRecord) -> Self {
        let method = event.head.split(' ').next().unwrap_or_default();
        let message = match method {
            "SIP/2.0" => "response",
            "" => "keep-alive",
            method if parse_message(method).is_some() => method,
            _ => "INVITE",
        };
        Self::Source(ExplainRequest {
            source: event.source.ip(),
            source_port: Some(event.source.port()),
            destination_port: Some(event.destination.port()),
            transport: event.transport,
            message: message.to_owned(),
        })
    }

    pub(super) fn title(&self) -> String {
        match self {
            Self::Source(request) => {
                let source = SocketAddr::new(request.source, request.source_port.unwrap_or(0));
                format!("{} from {source}", request.message)
            }
            Self::Gateway(name) => format!("gateway {name}"),
        }
    }
}

/// The agent's answer, for a person.
pub(super) fn lines(socket: &Path, question: &Question) -> Vec<String> {
    answer(socket, question).unwrap_or_else(|error| vec![error.to_string()])
}

fn answer(socket: &Path, question: &Question) -> anyhow::Result<Vec<String>> {
    match question {
        Question::Source(request) => {
            let Response::Explanation(answer) = ask(socket, &Request::Explain(request.clone()))? else {
                return Err(unexpected());
            };
            let source = explain::Source {
                address: request.source,
                port: request.source_port,
            };
            Ok(explain::lines(&answer, source))
        }
        Question::Gateway(name) => {
            let Response::Gateway(report) = ask(socket, &Request::GatewayShow { name: name.clone() })? else {
                return Err(unexpected());
            };
            gateway::lines(&report)
        }
    }
}
