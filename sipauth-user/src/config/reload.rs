//! Which settings a running agent takes over, and which it must be started anew for.

use std::sync::Arc;

use super::Settings;
use crate::auth::DigestRules;

/// Settings after the file was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// To be in force from now on.
    pub settings: Settings,
    /// Keys that changed, and are in these settings.
    pub applied: Vec<&'static str>,
    /// Keys that changed, and are not: they count from the next start on.
    pub restart: Vec<&'static str>,
}

impl Settings {
    /// These settings, with what can change while the agent runs as it is `wanted`.
    #[must_use]
    pub fn reloaded(&self, wanted: Self) -> Reloaded {
        let (mut applied, mut restart) = (Vec::new(), Vec::new());
        macro_rules! live {
            ($field:ident, $key:literal) => {{
                if self.$field != wanted.$field {
                    applied.push($key);
                }
                wanted.$field
            }};
        }
        // Sockets, pins and programs are made at the start.
        macro_rules! fixed {
            ($field:ident, $key:literal) => {{
                if self.$field != wanted.$field {
                    restart.push($key);
                }
                self.$field.clone()
            }};
        }
        // Every field is here, so that a new one must choose.
        let settings = Self {
            interfaces: fixed!(interfaces, "interface"),
            state_dir: fixed!(state_dir, "state-dir"),
            log_dir: fixed!(log_dir, "log-dir"),
            records: live!(records, "records"),
            records_files: live!(records_files, "records-files"),
            bpffs: fixed!(bpffs, "bpffs"),
            socket: fixed!(socket, "socket"),
            socket_group: fixed!(socket_group, "socket-group"),
            ports: fixed!(ports, "port"),
            punt_port: fixed!(punt_port, "punt-port"),
            xdp_mode: fixed!(xdp_mode, "xdp-mode"),
            default_policy: live!(default_policy, "default-policy"),
            monitor: live!(monitor, "monitor"),
            fail_open: live!(fail_open, "fail-open"),
            reply_unauthorized: live!(reply_unauthorized, "reply-unauthorized"),
            // It decides which of the agent's ports are listened on.
            tcp_reset: fixed!(tcp_reset, "tcp-reset"),
            challenger: live!(challenger, "challenger"),
            realm: live!(realm, "realm"),
            metrics: fixed!(metrics, "metrics"),
            console: fixed!(console, "console"),
            console_token_file: fixed!(console_token_file, "console-token-file"),
            peer_ttl: live!(peer_ttl, "peer-ttl"),
            flow_idle: live!(flow_idle, "flow-idle"),
            // A map has its size from the start.
            max_flows: fixed!(max_flows, "max-flows"),
            max_peers: fixed!(max_peers, "max-peers"),
            max_bans: fixed!(max_bans, "max-bans"),
            ban_limit: live!(ban_limit, "ban-limit"),
            ban_time: live!(ban_time, "ban-time"),
            source_rate: live!(source_rate, "source-rate"),
            lane_rates: live!(lane_rates, "lane-rates"),
            digest: {
                differing(&self.digest, &wanted.digest, &mut applied);
                Arc::clone(&wanted.digest)
            },
        };
        Reloaded {
            settings,
            applied,
            restart,
        }
    }
}

/// Names the keys of the table `digest` that differ.
fn differing(old: &DigestRules, new: &DigestRules, applied: &mut Vec<&'static str>) {
    let DigestRules {
        algorithms,
        qop,
        accept_without_qop,
        proxy,
        nonce_lifetime,
        one_time_nonces,
        uri_match,
    } = new;
    for (differs, key) in [
        (old.algorithms != *algorithms, "digest.algorithms"),
        (old.qop != *qop, "digest.qop"),
        (old.accept_without_qop != *accept_without_qop, "digest.accept-without-qop"),
        (old.proxy != *proxy, "digest.challenge"),
        (old.nonce_lifetime != *nonce_lifetime, "digest.nonce-lifetime"),
        (old.one_time_nonces != *one_time_nonces, "digest.one-time-nonces"),
        (old.uri_match != *uri_match, "digest.uri-match"),
    ] {
        if differs {
            applied.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{DEFAULT_TEXT, RawSettings, Settings};

    fn settings(text: &str) -> Settings {
        toml::from_str::<RawSettings>(text).expect("keys").validate().expect("settings")
    }

    #[test]
    fn what_can_change_does_and_what_cannot_stays_and_is_named() {
        let old = settings("interface = [\"eth0\"]");
        let wanted = settings("interface = [\"eth1\"]\nmonitor = true\nport = [5080]\n[digest]\nqop = \"both\"\nnonce-lifetime = \"60s\"");
        let reloaded = old.reloaded(wanted.clone());
        assert_eq!(reloaded.applied, ["monitor", "digest.qop", "digest.nonce-lifetime"]);
        assert_eq!(reloaded.restart, ["interface", "port"]);
        let now = reloaded.settings;
        assert!(now.monitor);
        assert_eq!(
            (&now.interfaces, &now.ports, &now.digest),
            (&old.interfaces, &old.ports, &wanted.digest)
        );
        // What needs a restart still does when asked again; what was applied is not news any more.
        let again = now.reloaded(wanted);
        assert_eq!((again.applied.len(), again.restart), (0, vec!["interface", "port"]));
        assert_eq!(now.reloaded(now.clone()).restart.len(), 0);
    }

    #[test]
    fn every_key_of_the_file_is_named_when_it_changes() {
        let other = settings(
            "interface = [\"x\"]\nport = [5061]\nmonitor = true\ndefault-policy = \"allow\"\nreply-unauthorized = true\ntcp-reset = true\n\
             fail-open = true\nrealm = \"x\"\nmetrics = \"127.0.0.1:1\"\nconsole = \"127.0.0.1:2\"\nconsole-token-file = \"/x\"\nban-limit = 1\nban-time = \"1s\"\nmax-flows = 2000\nmax-peers = 2000\nmax-bans = 2000\npeer-ttl = \"1s\"\nflow-idle = \"1s\"\n\
             challenger = \"agent\"\nxdp-mode = \"generic\"\npunt-port = 2000\nstate-dir = \"/x\"\nlog-dir = \"/x\"\nrecords = \"off\"\nrecords-files = 1\nbpffs = \"/x\"\nsocket = \"/x\"\nsocket-group = \"x\"\n\
             [digest]\nalgorithms = [\"SHA-256\"]\nqop = \"both\"\naccept-without-qop = true\nchallenge = 407\nnonce-lifetime = \"1s\"\n\
             one-time-nonces = true\nuri-match = \"loose\"\n[source-rate]\ntrusted = 1\n[lane-rates]\ntrusted = 1\n",
        );
        let reloaded = settings(DEFAULT_TEXT).reloaded(other);
        let mut table = "";
        for line in DEFAULT_TEXT.lines() {
            if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']');
            }
            let Some((key, _)) = line.trim_start_matches('#').split_once(" = ") else {
                continue;
            };
            let key = match table {
                "" => key.to_owned(),
                "digest" => format!("digest.{key}"),
                rates => rates.to_owned(),
            };
            let named = reloaded.applied.iter().chain(&reloaded.restart).any(|named| **named == *key);
            assert!(named, "{key} changed and is not named");
        }
    }
}
