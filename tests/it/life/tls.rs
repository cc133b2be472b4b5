//! TLS on the data port: both protocols by ALPN, client certificates where they are asked for, renewal without a break.

use std::path::Path;
use std::time::Duration;

use tollgate::simulator::{Part, Reply};

use crate::support::certificates::{Authority, Leaf};
use crate::support::{Gateway, KEY, eventually, one_provider, upstream};

async fn gateway(folder: &Path, upstream: std::net::SocketAddr, client_ca: bool) -> Gateway {
    let ca =
        if client_ca { format!(", client_ca: \"{}\"", folder.join("clients.pem").display()) } else { String::new() };
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let yaml = format!(
        "listen: {{address: \"LISTEN\", tls: {{cert: \"{}\", key: \"{}\"{ca}}}}}\n{}",
        cert.display(),
        key.display(),
        one_provider(upstream)
    );
    Gateway::start(&yaml, &[]).await
}

fn write(folder: &Path, leaf: &Leaf) {
    std::fs::write(folder.join("cert.pem"), &leaf.cert_pem).expect("written");
    std::fs::write(folder.join("key.pem"), &leaf.key_pem).expect("written");
}

fn builder(authority: &Authority) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority.root()])
        .tls_info(true)
        .timeout(Duration::from_secs(20))
}

/// A new connection's answer.
async fn models(gateway: &Gateway, builder: reqwest::ClientBuilder) -> reqwest::Result<reqwest::Response> {
    let client = builder.build().expect("a client");
    client.get(format!("https://{}/v1/models", gateway.data)).bearer_auth(KEY).send().await
}

fn shown(answer: &reqwest::Response) -> Vec<u8> {
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().expect("it was TLS");
    info.peer_certificate().expect("a certificate").to_vec()
}

#[tokio::test]
async fn clients_choose_http2_or_http1_in_the_handshake() {
    let upstream = upstream().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    write(folder.path(), &authority.sign(&["127.0.0.1"]));
    let gateway = gateway(folder.path(), upstream.address, false).await;
    let answer = models(&gateway, builder(&authority)).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    let answer = models(&gateway, builder(&authority).http1_only()).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_11));
    models(&gateway, builder(&Authority::new())).await.expect_err("another authority's client");

    for client in [builder(&authority), builder(&authority).http1_only()] {
        let client = client.build().expect("a client");
        let url = format!("https://{}/v1/chat/completions", gateway.data);
        let body = serde_json::json!({ "model": "gpt-4o-mini", "stream": true, "messages": [{ "role": "user", "content": "x" }] });
        let answer = client.post(url).bearer_auth(KEY).json(&body).send().await.expect("an answer");
        assert!(answer.text().await.expect("whole").ends_with("data: [DONE]\n\n"));
    }
    // without TLS there is nobody here
    let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
    plain.get(gateway.url("/v1/models")).send().await.expect_err("no plain HTTP on a TLS port");
}

#[tokio::test]
async fn where_clients_must_show_a_certificate_others_are_turned_away() {
    let upstream = upstream().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (servers, clients) = (Authority::new(), Authority::new());
    write(folder.path(), &servers.sign(&["127.0.0.1"]));
    std::fs::write(folder.path().join("clients.pem"), &clients.pem).expect("written");
    let gateway = gateway(folder.path(), upstream.address, true).await;
    let identity = |authority: &Authority| {
        let leaf = authority.sign(&["client.test"]);
        reqwest::Identity::from_pem(format!("{}{}", leaf.cert_pem, leaf.key_pem).as_bytes()).expect("PEM")
    };
    for (name, client) in [
        ("none", builder(&servers)),
        ("none over HTTP/1.1", builder(&servers).http1_only()),
        ("another authority's", builder(&servers).identity(identity(&servers))),
        ("nobody's", builder(&servers).identity(identity(&Authority::new()))),
    ] {
        assert!(models(&gateway, client).await.is_err(), "a client with a certificate of {name} was let in");
    }
    for client in [builder(&servers), builder(&servers).http1_only()] {
        let answer = models(&gateway, client.identity(identity(&clients))).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_ending_a_stream() {
    let upstream = upstream().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let (first, second) = (authority.sign(&["127.0.0.1"]), authority.sign(&["127.0.0.1"]));
    write(folder.path(), &first);
    let gateway = gateway(folder.path(), upstream.address, false).await;
    let is_shown = async |leaf: &Leaf| {
        let answer = models(&gateway, builder(&authority)).await.expect("an answer");
        shown(&answer) == leaf.der
    };
    assert!(is_shown(&first).await);

    let frame = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let long =
        (0..20).fold(Reply::events(), |reply, _| reply.bytes(frame).part(Part::Wait(Duration::from_millis(150))));
    upstream.simulator.reply("gpt-4o-mini", long.bytes("data: [DONE]\n\n"));
    let body = serde_json::json!({ "model": "gpt-4o-mini", "stream": true, "messages": [] });
    let client = builder(&authority).build().expect("a client");
    let request = client.post(format!("https://{}/v1/chat/completions", gateway.data)).bearer_auth(KEY).json(&body);
    let stream = tokio::spawn(request.send().await.expect("an answer").text());

    write(folder.path(), &second);
    eventually("the new certificate is shown", || is_shown(&second)).await;
    assert!(!stream.is_finished(), "meanwhile the stream runs");
    assert!(stream.await.expect("no panic").expect("whole").ends_with("data: [DONE]\n\n"));

    // a broken one is not taken
    std::fs::write(folder.path().join("cert.pem"), "not a certificate").expect("written");
    eventually("a refusal", || async {
        gateway.metric("tollgate_config_reloads_total", &["outcome=\"refused\""]).await >= 1.0
    })
    .await;
    assert!(is_shown(&second).await);
}

#[tokio::test]
async fn a_certificate_that_moved_is_found_at_its_new_place() {
    let upstream = upstream().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let (first, second) = (authority.sign(&["127.0.0.1"]), authority.sign(&["127.0.0.1"]));
    write(folder.path(), &first);
    let gateway = gateway(folder.path(), upstream.address, false).await;
    let moved = folder.path().join("moved");
    std::fs::create_dir(&moved).expect("a folder");
    write(&moved, &second);
    let text = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
    let old = folder.path().join("cert.pem").display().to_string();
    let text = text.replace(&old, &moved.join("cert.pem").display().to_string());
    let old = folder.path().join("key.pem").display().to_string();
    std::fs::write(gateway.config_path(), text.replace(&old, &moved.join("key.pem").display().to_string()))
        .expect("written");
    eventually("the certificate at the new place", || async {
        let answer = models(&gateway, builder(&authority)).await.expect("an answer");
        shown(&answer) == second.der
    })
    .await;
}
