//! The web console, in a real browser on another host.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use sipauth_tests::agent::Agent;
use sipauth_tests::browser::Browser;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Uas};
use sipauth_tests::require_root;

use crate::support::{add, lab};

/// A directory for pictures of the pages, for somebody to look at.
const PICTURES: &str = "SIPAUTH_PICTURES";

/// What a stranger may write where an operator reads. Without spaces, since its first line should have three words.
const EVIL: &str = "sip:<script>document.title='taken'</script><img/src=x/onerror=document.title='taken'>@h";

fn url(path: &str) -> String {
    format!("http://{}:9161{path}", Host::Softswitch.v4())
}

fn start(lab: &Lab) -> anyhow::Result<(Agent<'_>, String)> {
    let agent = Agent::start(lab, &["--console", "0.0.0.0:9161"])?;
    let token = std::fs::read_to_string(agent.state().join("console-token"))?;
    Ok((agent, token.trim().to_owned()))
}

/// An INVITE of the stranger's own making.
fn invite(lab: &Lab, uri: &str) -> anyhow::Result<()> {
    let message = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {0}:5060;branch=z9hG4bKx\r\nFrom: \"<b>x</b>\" <sip:a@{0}>;tag=1\r\nTo: <sip:b@h>\r\n\
         Call-ID: 1\r\nCSeq: 1 INVITE\r\nUser-Agent: <script>document.title='taken'</script>\r\nContent-Length: 0\r\n\r\n",
        Host::Stranger.v4()
    );
    lab.inside(Host::Stranger, || {
        let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 5060))?;
        socket.send_to(message.as_bytes(), (Host::Softswitch.v4(), 5060))?;
        Ok(())
    })
}

#[test]
fn a_browser_sees_nothing_without_the_token_and_live_rates_and_refusals_with_it() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let (agent, token) = start(&lab)?;
    for host in [Host::CarrierIp, Host::CarrierPort, Host::PbxPassword, Host::ProviderPeer] {
        add(&agent, host)?;
    }
    let mut browser = Browser::start(&lab, Host::ProviderPeer)?;
    let mut pictures = Pictures::default();

    browser.open(&url("/gateways"))?;
    browser.wait_for("location.pathname === '/login' && document.querySelector('#token') !== null")?;
    pictures.take(&mut browser, "login")?;
    assert_eq!(browser.evaluate("document.body.innerText.includes('carrier-ip')")?, false);
    browser.submit("#token", "this is not the token")?;
    browser.wait_for("document.body.innerText.includes('That is not the token.')")?;
    browser.submit("#token", &token)?;
    browser
        .wait_for("document.querySelector('h1').textContent === 'Overview' && document.querySelector('#state').textContent === 'live'")?;
    assert_eq!(browser.evaluate("document.cookie")?, "", "no script can read the session");
    assert_eq!(
        browser.evaluate(&format!("document.documentElement.outerHTML.includes('{token}')"))?,
        false
    );
    pictures.take(&mut browser, "overview-empty")?;

    browser.open(&url("/refusals"))?;
    browser.wait_for("document.querySelector('#state').textContent === 'live'")?;
    assert_eq!(browser.evaluate("document.querySelectorAll('#refusals tr').length")?, 0);
    pictures.take(&mut browser, "refusals-empty")?;
    invite(&lab, EVIL)?;
    // It appears without the page being loaded again, as text.
    browser.wait_for("document.querySelector('#refusals code')?.textContent.includes('<script>document.title')")?;
    browser.wait_for("document.querySelector('#refusals').innerText.includes('unknown_source')")?;
    assert_eq!(
        browser.evaluate("document.querySelectorAll('#refusals script, #refusals img').length")?,
        0
    );
    browser.open(&url("/refusals"))?;
    browser.wait_for("document.querySelector('#refusals code')?.textContent.includes('<script>document.title')")?;
    assert_eq!(browser.evaluate("document.title.includes('taken')")?, false);
    // The policy holds where markup gets in all the same.
    browser.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">'), 1")?;
    browser.evaluate("document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title=1' })), 1")?;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(browser.evaluate("document.title")?, "Refusals – sipauth");

    browser.open(&url("/gateways"))?;
    let rate = "document.querySelector('[data-gateway=carrier-ip] [data-rate=Pass]').textContent";
    browser.wait_for(&format!("{rate} === '0'"))?;
    pictures.take(&mut browser, "gateways-empty")?;
    let calls = Call::from(Host::CarrierIp).times(400, 30).start(&lab)?;
    let refused = Call::from(Host::CarrierPort).port(5099).times(60, 5).start(&lab)?;
    let wrong = Call::from(Host::PbxPassword).digest("nobody", "guess").times(12, 1).start(&lab)?;
    browser.wait_for(&format!("Number({rate}) > 30 && Number({rate}) < 150"))?;
    browser.wait_for("Number(document.querySelector('[data-gateway=carrier-port] [data-rate=Drop]').textContent) > 3")?;
    assert_eq!(
        browser.evaluate("document.querySelector('[data-gateway=provider-peer] [data-rate=Pass]').textContent")?,
        "0"
    );
    std::thread::sleep(Duration::from_secs(pictures.patience()));
    pictures.take(&mut browser, "gateways")?;
    browser.open(&url("/"))?;
    browser.wait_for("document.body.innerText.includes('port_mismatch')")?;
    pictures.take(&mut browser, "overview")?;
    browser.open(&url("/refusals?q=carrier-port"))?;
    browser.wait_for("document.querySelectorAll('#refusals tr').length > 5")?;
    assert_eq!(
        browser.evaluate("document.querySelector('#refusals').innerText.includes('198.51.100.66')")?,
        false
    );
    browser.open(&url("/refusals"))?;
    browser.wait_for("document.querySelectorAll('#refusals tr').length > 5")?;
    pictures.take(&mut browser, "refusals")?;

    browser.open(&url("/explain"))?;
    let source = format!("{}:5099", Host::CarrierPort.v4());
    browser.submit("[name=source]", &source)?;
    browser.wait_for("document.querySelector('#answer').innerText.includes('port_mismatch')")?;
    pictures.take(&mut browser, "explain")?;
    assert_eq!(browser.evaluate("document.querySelector('[name=source]').value")?, source);
    calls.finish()?;
    refused.finish()?;
    wrong.finish()?;

    // Nothing of it is in the agent's log but that it happened.
    let log = std::fs::read_to_string(agent.state().join("agent.log"))?;
    assert!(
        log.contains("console: wrong token") && log.contains("console: logged in") && !log.contains(&token),
        "{log}"
    );
    browser.submit("header button", "")?;
    browser.wait_for("location.pathname === '/login'")?;
    browser.open(&url("/"))?;
    browser.wait_for("location.pathname === '/login'")
}

#[derive(Default)]
struct Pictures(Option<PathBuf>);

impl Pictures {
    /// Where somebody wants to look: wide and narrow, light and dark.
    fn take(&mut self, browser: &mut Browser, name: &str) -> anyhow::Result<()> {
        let Some(directory) = std::env::var_os(PICTURES) else {
            return Ok(());
        };
        for (look, width, height, dark) in [("wide", 1280, 800, false), ("phone", 390, 844, true)] {
            browser.look(width, height, dark)?;
            std::thread::sleep(Duration::from_millis(300));
            browser.screenshot(&PathBuf::from(&directory).join(format!("{name}-{look}.png")))?;
        }
        self.0 = Some(directory.into());
        Ok(())
    }

    /// Rates need some seconds to look like something.
    const fn patience(&self) -> u64 {
        if self.0.is_some() { 6 } else { 0 }
    }
}
