//! The two text formats, and which one a client gets.
//!
//! Samples are the same in both. They differ in what is said of a family, which `prometheus-client` writes as OpenMetrics has it: there
//! the family of a counter has no `_total`, and there is a type `info`.

use std::fmt::{self, Write as _};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// What every scraper and every person with `curl` can read.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header asks for (RFC 9110, 12.5.1). OpenMetrics only for who names it, and likes it at least as well.
    pub(super) fn negotiate(accept: &str) -> Self {
        let (mut open, mut plain, mut any) = (0, None, None);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1_000, None);
            for part in parts {
                match part.split_once('=') {
                    Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => quality = thousandths(value.trim()),
                    Some((name, value)) if name.trim().eq_ignore_ascii_case("version") => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match kind.as_str() {
                "application/openmetrics-text" if version.is_none_or(|version| version.starts_with("1.")) => open = open.max(quality),
                "text/plain" => plain = plain.max(Some(quality)),
                "text/*" | "*/*" => any = any.max(Some(quality)),
                _ => {}
            }
        }
        if open > 0 && open >= plain.or(any).unwrap_or(0) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Turns what `prometheus-client` wrote into this format.
    pub(super) fn render(self, open: String) -> Result<String, fmt::Error> {
        match self {
            Self::OpenMetrics => Ok(open),
            Self::Prometheus => prometheus(&open),
        }
    }
}

/// A quality value; what is none counts as 1, as if it were not there.
fn thousandths(quality: &str) -> u16 {
    match quality.parse::<f32>() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
        Ok(value) if (0.0..=1.0).contains(&value) => (value * 1_000.0) as u16,
        _ => 1_000,
    }
}

/// A help text comes before the type, which says how the family is called.
fn prometheus(open: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(open.len() + 4_096);
    let mut help = None;
    for line in open.split_inclusive('\n') {
        let Some(comment) = line.strip_prefix("# ") else {
            text.push_str(line);
            continue;
        };
        let (keyword, rest) = comment.trim_end_matches('\n').split_once(' ').unwrap_or((comment, ""));
        match keyword {
            "HELP" => help = rest.split_once(' ').map(|(_, help)| help),
            "TYPE" => {
                let (name, kind) = rest.split_once(' ').ok_or(fmt::Error)?;
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some(help) = help.take() {
                    writeln!(text, "# HELP {name}{suffix} {help}")?;
                }
                writeln!(text, "# TYPE {name}{suffix} {kind}")?;
            }
            // UNIT and EOF are OpenMetrics' alone.
            _ => {}
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_who_prefers_it_and_the_old_format_for_everybody_else() {
        // What Prometheus 2.42 and 3 send.
        let two = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                     text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (two, Format::OpenMetrics),
            (three, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.9, text/plain;q=0.8",
                Format::OpenMetrics,
            ),
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.5", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;version=0.0.1", Format::Prometheus),
            (";;,=,q", Format::Prometheus),
        ] {
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_old_format_has_full_names_and_known_types_and_the_same_samples() {
        let open = "# HELP a_packets Packets # seen.\n# TYPE a_packets counter\na_packets_total{x=\"# TYPE y z\"} 1\n\
                    # HELP b_build Who.\n# TYPE b_build info\nb_build_info{version=\"1\"} 1\n\
                    # HELP c_seconds How long.\n# TYPE c_seconds histogram\nc_seconds_count 0\n\
                    # TYPE d gauge\n# UNIT d seconds\nd 1.5\n# EOF\n";
        let old = "# HELP a_packets_total Packets # seen.\n# TYPE a_packets_total counter\na_packets_total{x=\"# TYPE y z\"} 1\n\
                   # HELP b_build_info Who.\n# TYPE b_build_info gauge\nb_build_info{version=\"1\"} 1\n\
                   # HELP c_seconds How long.\n# TYPE c_seconds histogram\nc_seconds_count 0\n\
                   # TYPE d gauge\nd 1.5\n";
        assert_eq!(Format::Prometheus.render(open.to_owned()).as_deref(), Ok(old));
        assert_eq!(Format::OpenMetrics.render(open.to_owned()).as_deref(), Ok(open));
    }
}
