//! Addresses, who may see them, and the pages behind them.

use std::{net::IpAddr, sync::Arc, time::Instant};

use axum::{
    Extension, Form, Router,
    extract::{DefaultBodyLimit, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Deserialize;

use super::{
    Source,
    gate::{Gate, Login, SESSION},
    live::{self, Streams},
    parts,
    serve::{LongLived, Peer},
    text::{POLICY, SCRIPT, STYLE},
    watch::Watch,
};
use crate::{
    cli::explain,
    control::{self, ExplainRequest, Transport, parse_message},
};

/// Name of the session's cookie.
const COOKIE: &str = "sipauth_console";
/// Longest form: the token.
const BODY: usize = 4 << 10;
/// Longest filter that is looked at.
const FILTER: usize = 64;

/// What the pages are made of.
pub(super) struct Site {
    pub(super) gate: Gate,
    pub(super) watch: Watch,
    pub(super) source: Arc<dyn Source>,
    pub(super) streams: Streams,
}

/// A page that is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum View {
    Overview,
    Gateways,
    Refusals,
}

pub(super) fn router(site: Arc<Site>) -> Router {
    let inside = Router::new()
        .route("/", get(overview))
        .route("/gateways", get(gateways))
        .route("/refusals", get(refusals))
        .route("/explain", get(explain_page))
        .route("/live", get(live))
        .route("/logout", post(logout))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                page("Not found", None, None, &html! { p { "There is no such page." } }),
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&site), admit));
    Router::new()
        .route("/login", get(async || page("Log in", None, None, &login_form(None))).post(login))
        .merge(inside)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::map_response(guard))
        .with_state(site)
}

/// What tells the browser to be careful with every answer.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Without a session nothing is shown, not even whether a page exists.
async fn admit(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match session(request.headers()) {
        Some(secret) if site.gate.admits(secret, Instant::now()) => next.run(request).await,
        _ if request.uri().path() == "/live" => StatusCode::UNAUTHORIZED.into_response(),
        _ => Redirect::to("/login").into_response(),
    }
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, secret)| secret)
}

#[derive(Deserialize)]
struct Key {
    token: String,
}

async fn login(State(site): State<Arc<Site>>, Extension(Peer(peer)): Extension<Peer>, Form(key): Form<Key>) -> Response {
    let refuse = |status, text| (status, page("Log in", None, None, &login_form(Some(text)))).into_response();
    match site.gate.login(key.token.trim(), peer.ip(), Instant::now()) {
        Login::Welcome(secret) => {
            tracing::info!(peer = %peer.ip(), "console: logged in");
            let cookie = format!(
                "{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
                SESSION.as_secs()
            );
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        Login::Wrong => {
            tracing::warn!(peer = %peer.ip(), "console: wrong token");
            refuse(StatusCode::FORBIDDEN, "That is not the token.")
        }
        Login::Later => refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many wrong tokens from your address. Wait ten seconds.",
        ),
        Login::Failed => refuse(StatusCode::SERVICE_UNAVAILABLE, "The agent has no random numbers. Try again."),
    }
}

async fn logout(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if let Some(secret) = session(&headers) {
        site.gate.logout(secret);
    }
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

/// What narrows and sorts a page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Narrowed {
    view: Option<View>,
    q: String,
    sort: String,
}

impl Narrowed {
    fn filter(&self) -> String {
        self.q.chars().take(FILTER).collect()
    }

    fn by_name(&self) -> bool {
        self.sort == "name"
    }

    /// Where the page's stream is.
    fn live(&self, view: &str) -> String {
        let query = [
            ("view", view),
            ("q", &self.filter()),
            ("sort", if self.by_name() { "name" } else { "" }),
        ];
        format!("/live?{}", encode(&query))
    }
}

/// As a browser encodes a form.
fn encode(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| {
        text.bytes().fold(String::new(), |mut all, byte| {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                all.push(char::from(byte));
            } else {
                all += &format!("%{byte:02X}");
            }
            all
        })
    };
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    fields.join("&")
}

async fn overview(State(site): State<Arc<Site>>) -> Response {
    let part = site.watch.look(|history, _| parts::overview(history)).await;
    page("Overview", Some("/"), Some("/live?view=overview"), &part.unwrap_or_else(unreadable)).into_response()
}

async fn gateways(State(site): State<Arc<Site>>, Query(narrowed): Query<Narrowed>) -> Response {
    let (filter, by_name) = (narrowed.filter(), narrowed.by_name());
    let part = site
        .watch
        .look(move |history, gateways| parts::gateways(history, gateways, &filter, by_name))
        .await;
    let body = html! {
        form.bar action="/gateways" {
            label { "Only " input name="q" value=(narrowed.filter()) placeholder="name, user or address" maxlength=(FILTER); }
            label { "by " select name="sort" {
                option value="" { "packets" }
                option value="name" selected[narrowed.by_name()] { "name" }
            } }
            button { "Show" }
        }
        (part.unwrap_or_else(unreadable))
    };
    page("Gateways", Some("/gateways"), Some(&narrowed.live("gateways")), &body).into_response()
}

async fn refusals(State(site): State<Arc<Site>>, Query(narrowed): Query<Narrowed>) -> Response {
    let (kept, _) = site.source.refusals();
    let body = html! {
        p.dim { "Samples: at most 100 refusals a second and CPU. Every packet is counted in the overview." }
        form.bar action="/refusals" {
            label { "Only " input name="q" value=(narrowed.filter()) placeholder="gateway or address" maxlength=(FILTER); }
            button { "Show" }
        }
        table {
            thead { tr { th { "UTC" } th { "Source" } th { "To" } th { "Reason" } th { "Gateway" } th { "First line" } } }
            (parts::refusals(kept.iter(), &narrowed.filter()))
        }
        p.dim.empty { "None yet." }
    };
    page("Refusals", Some("/refusals"), Some(&narrowed.live("refusals")), &body).into_response()
}

async fn live(State(site): State<Arc<Site>>, Extension(long_lived): Extension<LongLived>, Query(narrowed): Query<Narrowed>) -> Response {
    let Some(view) = narrowed.view else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match live::stream(&site, view, narrowed.filter(), narrowed.by_name()) {
        Some(stream) => {
            long_lived.set();
            stream
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// The form of `explain`, as it was sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    source: String,
    method: String,
    transport: String,
    port: String,
}

impl Asked {
    fn request(&self) -> Result<ExplainRequest, &'static str> {
        let source: explain::Source = self.source.trim().parse()?;
        let message = if self.method.trim().is_empty() {
            "INVITE"
        } else {
            self.method.trim()
        };
        if parse_message(message).is_none() {
            return Err("give a SIP method such as INVITE, or response, or keep-alive");
        }
        let destination_port = match self.port.trim() {
            "" => None,
            port => Some(port.parse().map_err(|_| "give a destination port from 0 to 65535, or none")?),
        };
        Ok(ExplainRequest {
            source: source.address.to_canonical(),
            source_port: source.port,
            destination_port,
            transport: if self.transport == "tcp" { Transport::Tcp } else { Transport::Udp },
            message: message.to_owned(),
        })
    }
}

async fn explain_page(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Response {
    let answer = if asked.source.is_empty() {
        html! {}
    } else {
        match asked.request() {
            Ok(request) => explanation(&site.source.explain(&request), request.source, request.source_port),
            Err(text) => html! { p.drop role="alert" { (text) } },
        }
    };
    let body = html! {
        p.dim { "What would happen to a packet now, by the kernel program's own decision over the kernel's own maps." }
        form.bar action="/explain" {
            label { "From " input name="source" value=(asked.source) placeholder="203.0.113.5:5060" required autofocus maxlength="64"; }
            label { "Method " input name="method" value=(if asked.method.is_empty() { "INVITE" } else { &asked.method }) list="methods" maxlength="32"; }
            datalist id="methods" { @for method in ["INVITE", "REGISTER", "OPTIONS", "ACK", "BYE", "response", "keep-alive"] { option value=(method) {} } }
            label { "over " select name="transport" {
                option value="udp" { "UDP" }
                option value="tcp" selected[asked.transport == "tcp"] { "TCP" }
            } }
            label { "to port " input.short name="port" value=(asked.port) placeholder="5060" inputmode="numeric" maxlength="5"; }
            button { "Explain" }
        }
        (answer)
    };
    page("Explain", Some("/explain"), None, &body).into_response()
}

fn explanation(answer: &control::Response, address: IpAddr, port: Option<u16>) -> Markup {
    match answer {
        control::Response::Explanation(answer) => {
            let lines = explain::lines(answer, explain::Source { address, port });
            let (first, rest) = lines
                .split_first()
                .map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
            html! {
                section id="answer" {
                    h2 class=(answer.verdict) { (first) }
                    @if !rest.is_empty() { pre { (rest.join("\n")) } }
                }
            }
        }
        control::Response::Error { message, .. } => html! { p.drop role="alert" { (message) } },
        _ => html! { p.drop role="alert" { "The agent has no answer." } },
    }
}

/// The method of a first line, for `explain`.
pub(super) fn method_of(head: &str) -> &str {
    match head.split(' ').next().unwrap_or_default() {
        "SIP/2.0" => "response",
        "" => "keep-alive",
        method if parse_message(method).is_some() => method,
        _ => "INVITE",
    }
}

fn unreadable() -> Markup {
    html! { p.drop role="alert" { "The kernel's counters cannot be read; see the agent's log." } }
}

fn login_form(complaint: Option<&str>) -> Markup {
    html! {
        form.login method="post" action="/login" {
            @if let Some(text) = complaint { p.drop role="alert" { (text) } }
            label for="token" { "Token" }
            input id="token" name="token" type="password" autocomplete="current-password" required autofocus maxlength="256";
            button { "Log in" }
            p.dim { "It is in a file on the agent's machine; the agent's log names it." }
        }
    }
}

/// A whole page. `here` is its address where it is one of those in the menu; `live` where its stream is.
fn page(title: &str, here: Option<&str>, live: Option<&str>, body: &Markup) -> Html<String> {
    let menu = [
        ("/", "Overview"),
        ("/gateways", "Gateways"),
        ("/refusals", "Refusals"),
        ("/explain", "Explain"),
    ];
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – sipauth" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body data-live=[live] {
                header {
                    span.brand { "sipauth" }
                    @if here.is_some() {
                        nav { @for (address, name) in menu {
                            a href=(address) aria-current=[(here == Some(address)).then_some("page")] { (name) }
                        } }
                        form method="post" action="/logout" { button.quiet { "Log out" } }
                    }
                }
                main {
                    div.title {
                        h1 { (title) }
                        @if live.is_some() { span id="state" role="status" { "connecting" } }
                    }
                    (body)
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Html(markup.into_string())
}
