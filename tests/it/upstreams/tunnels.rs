//! TLS to providers, verified against the named authority, and HTTP proxies on the way (RFC 9110 9.3.6).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Server, ask, gateway, request};
use crate::support::certificates::Authority;
use crate::support::{KEY, UPSTREAM_KEY, client, upstream};

// === TLS ===

/// Ends TLS in front of a simulator. What it saw: the names that were asked for.
async fn tls_in_front_of(
    upstream: SocketAddr,
    authority: &Authority,
    names: &[&str],
) -> (Server, Arc<Mutex<Vec<Option<String>>>>) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let leaf = authority.sign(names);
    let chain = vec![CertificateDer::from(leaf.der)];
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("ring has them").with_no_client_auth();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).expect("they fit")));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let server = Server::start(move |stream| {
        let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
        async move {
            let Ok(mut inside) = acceptor.accept(stream).await else { return };
            let name = inside.get_ref().1.server_name().map(str::to_owned);
            asked.lock().expect("no panic holds it").push(name);
            let mut outside = TcpStream::connect(upstream).await.expect("the simulator");
            let _ = copy_bidirectional(&mut inside, &mut outside).await;
        }
    })
    .await;
    (server, seen)
}

#[tokio::test]
async fn a_providers_certificate_must_be_of_the_named_authority_and_for_its_name() {
    let upstream = upstream().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, authority: &Authority| {
        let path = folder.path().join(name);
        std::fs::write(&path, &authority.pem).expect("written");
        path.display().to_string()
    };
    let (ca, wrong_ca) = (file("ca.pem", &authority), file("other.pem", &other));
    let (both, asked) = tls_in_front_of(upstream.address, &authority, &["localhost", "127.0.0.1"]).await;
    let (elsewhere, _) = tls_in_front_of(upstream.address, &authority, &["elsewhere.test"]).await;
    let provider = |name: &str, host: &str, server: &Server, ca: Option<&str>| {
        let ca = ca.map_or(String::new(), |ca| format!(", ca: \"{ca}\""));
        let port = server.address.port();
        format!("  {name}: {{kind: openai, base_url: \"https://{host}:{port}/v1\", api_key: {UPSTREAM_KEY}{ca}}}\n")
    };
    let providers = [
        provider("name", "localhost", &both, Some(&ca)),
        provider("address", "127.0.0.1", &both, Some(&ca)),
        provider("wrong-ca", "localhost", &both, Some(&wrong_ca)),
        provider("no-ca", "localhost", &both, None),
        provider("wrong-name", "localhost", &elsewhere, Some(&ca)),
        provider("wrong-address", "127.0.0.1", &elsewhere, Some(&ca)),
    ];
    let gateway = gateway(&providers.concat(), &[]).await;
    for good in ["name", "address"] {
        for stream in [false, true] {
            let (status, text) = ask(&gateway, &format!("{good}/gpt-4o-mini"), stream).await;
            assert_eq!(status, 200, "{good}: {text}");
        }
    }
    let names: BTreeSet<Option<String>> = asked.lock().expect("no panic holds it").iter().cloned().collect();
    assert!(names.contains(&Some("localhost".to_owned())), "{names:?}");
    let before = upstream.record().counters().calls;
    for bad in ["wrong-ca", "no-ca", "wrong-name", "wrong-address"] {
        let (status, text) = ask(&gateway, &format!("{bad}/gpt-4o-mini"), false).await;
        assert_eq!(status, 502, "{bad}: {text}");
        assert!(text.contains("upstream_connect") && !text.contains("certificate"), "{text}");
        let raw =
            client().get(gateway.url(&format!("/raw/{bad}/models"))).bearer_auth(KEY).send().await.expect("an answer");
        assert_eq!(raw.status(), 502, "{bad} in the opaque lane");
    }
    assert_eq!(upstream.record().counters().calls, before, "not a byte of a call went out");
}

// === proxies ===

/// An HTTP proxy that leads every tunnel to one place. What it saw: the heads of its requests.
async fn proxy_to(target: SocketAddr, answer: &'static str) -> (Server, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let server = Server::start(move |mut stream| {
        let heads = Arc::clone(&heads);
        async move {
            let Some((head, _)) = request(&mut stream).await else { return };
            heads.lock().expect("no panic holds it").push(head);
            if stream.write_all(answer.as_bytes()).await.is_err() || !answer.contains(" 200 ") {
                return;
            }
            let mut outside = TcpStream::connect(target).await.expect("the simulator");
            let _ = copy_bidirectional(&mut stream, &mut outside).await;
        }
    })
    .await;
    (server, seen)
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n";

#[tokio::test]
async fn a_configured_proxy_leads_to_the_provider_in_a_tunnel() {
    let upstream = upstream().await;
    let (proxy, heads) = proxy_to(upstream.address, ESTABLISHED).await;
    let provider = |name: &str, proxy: &str| {
        format!(
            "  {name}: {{kind: openai, base_url: \"http://provider.test:8080/v1\", api_key: {UPSTREAM_KEY}, proxy: \"{proxy}\"}}\n"
        )
    };
    let providers = provider("up", &format!("http://user:p%40ss@{}", proxy.address));
    let gateway = gateway(&providers, &[("HTTP_PROXY", "http://127.0.0.1:9"), ("NO_PROXY", "*")]).await;
    for stream in [false, true, false] {
        assert_eq!(ask(&gateway, "up/gpt-4o-mini", stream).await.0, 200);
    }
    let heads = heads.lock().expect("no panic holds it").clone();
    assert_eq!(heads.len(), 1, "the tunnel is kept: {heads:?}");
    assert!(heads[0].starts_with("CONNECT provider.test:8080 HTTP/1.1\r\nHost: provider.test:8080\r\n"), "{heads:?}");
    assert!(heads[0].contains("\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n"), "{heads:?}");
    assert!(!heads[0].contains(UPSTREAM_KEY) && !heads[0].contains(KEY));
    let call = upstream.record().last().expect("a call");
    assert_eq!(call.header("host"), Some("provider.test:8080"));
    assert_eq!(call.header("proxy-authorization"), None);
}

#[tokio::test]
async fn the_environments_proxies_are_used_unless_an_exception_is_made() {
    let upstream = upstream().await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    let (tls, asked) = tls_in_front_of(upstream.address, &authority, &["secure.test"]).await;
    let (plain_proxy, plain_heads) = proxy_to(upstream.address, ESTABLISHED).await;
    let (tls_proxy, tls_heads) = proxy_to(tls.address, ESTABLISHED).await;
    let key = format!("api_key: {UPSTREAM_KEY}");
    let providers = format!(
        "  plain: {{kind: openai, base_url: \"http://plain.test/v1\", {key}}}\n\
         \x20 secure: {{kind: openai, base_url: \"https://secure.test/v1\", {key}, ca: \"{}\"}}\n\
         \x20 excepted: {{kind: openai, base_url: \"http://api.excepted.test/v1\", {key}}}\n\
         \x20 own: {{kind: openai, base_url: \"http://plain.test/v1\", {key}, proxy: off}}\n\
         \x20 here: {{kind: openai, base_url: \"http://{}/v1\", {key}}}\n",
        ca.display(),
        upstream.address
    );
    let (http, https) = (format!("http://{}", plain_proxy.address), format!("http://{}", tls_proxy.address));
    let environment = [("HTTP_PROXY", &*http), ("HTTPS_PROXY", &*https), ("NO_PROXY", "other.test, .excepted.test")];
    let gateway = gateway(&providers, &environment).await;
    for (provider, status) in [("plain", 200), ("secure", 200), ("excepted", 502), ("own", 502), ("here", 200)] {
        let (got, text) = ask(&gateway, &format!("{provider}/gpt-4o-mini"), false).await;
        assert_eq!(got, status, "{provider}: {text}");
    }
    let first_lines = |heads: &Mutex<Vec<String>>| -> Vec<String> {
        let heads = heads.lock().expect("no panic holds it");
        heads.iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(first_lines(&plain_heads), ["CONNECT plain.test:80 HTTP/1.1"], "and nobody else goes this way");
    assert_eq!(first_lines(&tls_heads), ["CONNECT secure.test:443 HTTP/1.1"]);
    assert_eq!(
        *asked.lock().expect("no panic holds it"),
        [Some("secure.test".to_owned())],
        "TLS is the provider's, end to end"
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_or_hangs_is_a_502_that_does_not_name_it() {
    let upstream = upstream().await;
    let refusing =
        proxy_to(upstream.address, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            .await;
    let garbage = proxy_to(upstream.address, "SSH-2.0-OpenSSH\r\n\r\n").await;
    let silent = Server::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let provider = |name: &str, address: SocketAddr| {
        format!(
            "  {name}: {{kind: openai, base_url: \"http://provider.test/v1\", api_key: {UPSTREAM_KEY}, proxy: \"http://{address}\", \
             timeouts: {{connect: 500ms}}}}\n"
        )
    };
    let providers = [
        provider("refusing", refusing.0.address),
        provider("garbage", garbage.0.address),
        provider("silent", silent.address),
        provider("nobody", SocketAddr::from(([127, 0, 0, 1], crate::support::free_port()))),
    ];
    let gateway = gateway(&providers.concat(), &[]).await;
    for name in ["refusing", "garbage", "silent", "nobody"] {
        let begun = Instant::now();
        let (status, text) = ask(&gateway, &format!("{name}/x"), false).await;
        assert_eq!(status, 502, "{name}: {text}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{name}: {:?}", begun.elapsed());
        assert!(!text.contains("127.0.0.1") && !text.contains("proxy") && !text.contains("407"), "{text}");
    }
    assert_eq!(upstream.record().counters().calls, 0);
    let log = gateway.log_of(4).await;
    assert!(log[0]["detail"].as_str().is_some_and(|detail| detail.contains("407")), "the operator is told: {}", log[0]);
}
