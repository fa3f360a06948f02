//! A telephone of our own, byte by byte, for what no real one does: replay, odd algorithms, changed headers.
//! Its digest is computed here, by other code than that under test.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::SIP_PORT;

/// Who calls, and how it answers a challenge.
#[derive(Clone)]
pub(crate) struct Phone {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
    /// `MD5` or `SHA-256`.
    pub(crate) algorithm: &'static str,
    /// `auth` or `auth-int`.
    pub(crate) qop: &'static str,
    /// How often it has used the challenge, this time included.
    pub(crate) count: u32,
}

impl Phone {
    /// With MD5 and `auth`.
    pub(crate) const fn new(user: &'static str, password: &'static str) -> Self {
        Self {
            user,
            password,
            algorithm: "MD5",
            qop: "auth",
            count: 1,
        }
    }

    /// An INVITE; `credentials` is a whole header line or empty.
    pub(crate) fn invite(&self, call: &str, cseq: u32, credentials: &str) -> String {
        let (uri, user) = (uri(), self.user);
        format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP phone.invalid;branch=z9hG4bK{call}{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@phone.invalid>;tag=t{call}\r\nTo: <{uri}>\r\nCall-ID: {call}@phone.invalid\r\nCSeq: {cseq} INVITE\r\n\
             Contact: <sip:{user}@phone.invalid>\r\n{credentials}Content-Length: 0\r\n\r\n"
        )
    }

    /// The header line that answers the challenge for this phone's algorithm.
    pub(crate) fn credentials(&self, challenge: &str) -> anyhow::Result<String> {
        let wanted = format!("algorithm={}", self.algorithm);
        let line = challenge.lines().find(|l| {
            l.split(&wanted)
                .nth(1)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([',', ' ']))
        });
        let line = line.with_context(|| format!("no challenge with {wanted}:\n{challenge}"))?;
        let (realm, nonce) = (quoted(line, "realm")?, quoted(line, "nonce")?);
        let header = if line.starts_with("Proxy-") {
            "Proxy-Authorization"
        } else {
            "Authorization"
        };
        let Self {
            user,
            password,
            algorithm,
            qop,
            count,
        } = self;
        let (uri, cnonce, count) = (uri(), "abcdef", format!("{count:08x}"));
        let ha1 = self.hash(&format!("{user}:{realm}:{password}"));
        let body = if *qop == "auth-int" {
            format!(":{}", self.hash(""))
        } else {
            String::new()
        };
        let ha2 = self.hash(&format!("INVITE:{uri}{body}"));
        let response = self.hash(&format!("{ha1}:{nonce}:{count}:{cnonce}:{qop}:{ha2}"));
        Ok(format!(
            "{header}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
             algorithm={algorithm}, cnonce=\"{cnonce}\", qop={qop}, nc={count}\r\n"
        ))
    }

    fn hash(&self, text: &str) -> String {
        let bytes = if self.algorithm == "MD5" {
            md5::Md5::digest(text).to_vec()
        } else {
            Sha256::digest(text).to_vec()
        };
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The number that it calls.
fn uri() -> String {
    format!("sip:100@{}", SocketAddr::from((Host::Softswitch.v4(), SIP_PORT)))
}

fn quoted<'a>(line: &'a str, name: &str) -> anyhow::Result<&'a str> {
    line.split(&format!("{name}=\""))
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .with_context(|| format!("no {name} in {line}"))
}

/// Sends an INVITE from a port of a host to the softswitch and acknowledges its 200. Answers the status of each response, until none
/// comes for 300 ms, and the first response as it is.
pub(crate) fn exchange(lab: &Lab, from: Host, port: u16, datagram: &str) -> anyhow::Result<(Vec<u16>, String)> {
    lab.inside(from, || {
        let socket = UdpSocket::bind(SocketAddr::new(IpAddr::V4(from.v4()), port))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(datagram.as_bytes(), SocketAddr::from((Host::Softswitch.v4(), SIP_PORT)))?;
        let (mut statuses, mut first) = (Vec::new(), String::new());
        let mut buffer = [0; 8192];
        while statuses.len() < 8
            && let Ok(length) = socket.recv(&mut buffer)
        {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let status = text.get(8..11).context("no status line")?.parse()?;
            if status == 200 {
                // Else it would come again and again.
                socket.send_to(ack(&text).as_bytes(), SocketAddr::from((Host::Softswitch.v4(), SIP_PORT)))?;
            }
            if first.is_empty() {
                first = text;
            }
            statuses.push(status);
        }
        Ok((statuses, first))
    })
}

/// The ACK to a 200: its headers but the Via are those of the answer.
fn ack(answer: &str) -> String {
    let header = |name: &str| answer.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    let [from, to, call, cseq] = ["From:", "To:", "Call-ID:", "CSeq:"].map(header);
    let cseq = cseq.replace("INVITE", "ACK");
    format!(
        "ACK {} SIP/2.0\r\nVia: SIP/2.0/UDP phone.invalid;branch=z9hG4bKack;rport\r\nMax-Forwards: 70\r\n{from}\r\n{to}\r\n{call}\r\n{cseq}\r\nContent-Length: 0\r\n\r\n",
        uri()
    )
}
