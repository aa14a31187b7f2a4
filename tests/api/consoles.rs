//! Remote consoles: who gets a token, and what a token opens. Compute API reference, "Server consoles".

use axum::body::Body;
use http::Request;
use hyper_util::rt::TokioIo;
use kit::{
    HOST,
    Persona::{self, Admin, Member, Other, Reader},
    TestCloud,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::servers::text;

async fn console(cloud: &TestCloud, who: Persona, id: &str, protocol: &str, kind: &str) -> kit::Reply {
    let body = json!({"remote_console": {"protocol": protocol, "type": kind}});
    cloud.as_(who).at("2.6").post(&format!("/compute/v2.1/servers/{id}/remote-consoles"), body).await
}

async fn token(cloud: &TestCloud, id: &str, protocol: &str, kind: &str) -> String {
    let made = console(cloud, Member, id, protocol, kind).await.expect(200)["remote_console"].take();
    assert_eq!((&made["protocol"], &made["type"]), (&json!(protocol), &json!(kind)));
    text(&made["url"]).rsplit(['=', 'D']).next().unwrap().to_owned()
}

/// A connection as a browser makes one: HTTP/1.1 to the whole program, with upgrades.
async fn connected<T>(
    cloud: &TestCloud,
    path: &str,
    more: &str,
    client: impl AsyncFnOnce(String, DuplexStream) -> T,
) -> T {
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
        Ok::<_, std::convert::Infallible>(cloud.handle(request.map(Body::new)).await)
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
    let talk = async {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
        );
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(ours.read_u8().await.expect("an answer"));
        }
        client(String::from_utf8(head).unwrap(), ours).await
    };
    let talk = tokio::time::timeout(std::time::Duration::from_secs(30), talk);
    let (_, told) = tokio::join!(connection.with_upgrades(), talk);
    told.expect("a conversation that ends")
}

/// The next frame of the server with something in it.
async fn hear(stream: &mut DuplexStream) -> Vec<u8> {
    loop {
        let kind = stream.read_u8().await.unwrap();
        let length = match stream.read_u8().await.unwrap() {
            126 => stream.read_u16().await.unwrap().into(),
            127 => usize::try_from(stream.read_u64().await.unwrap()).unwrap(),
            small => small.into(),
        };
        let mut data = vec![0; length];
        stream.read_exact(&mut data).await.unwrap();
        if !data.is_empty() {
            assert_eq!(kind, 0x82, "frames are binary: {data:?}");
            return data;
        }
    }
}

async fn say(stream: &mut DuplexStream, data: &[u8]) {
    let mask = [7, 2, 1, 9];
    let mut frame = vec![0x82, 0x80 | u8::try_from(data.len()).unwrap()];
    frame.extend(mask);
    frame.extend(data.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    stream.write_all(&frame).await.unwrap();
}

/// That a connection to `path` is refused with this status, and hears nothing else.
async fn shut(cloud: &TestCloud, path: &str, more: &str, status: u16) {
    connected(cloud, path, more, async |head, mut stream| {
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"", "{path}");
    })
    .await;
}

#[tokio::test]
async fn a_screen_is_seen_through_a_websocket_once() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let made = console(&cloud, Member, &id, "vnc", "novnc").await.expect(200);
    let url = text(&made["remote_console"]["url"]);
    let path = url.strip_prefix("https://cloud.test/console/vnc.html?path=").expect(url);
    let path = format!("/{}", path.replace("%2F", "/").replace("%3F", "?").replace("%3D", "="));
    let page = cloud.as_(Persona::Anonymous).raw(kit::Method::GET, "/console/vnc.html?path=x", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let html = String::from_utf8(page.bytes.to_vec()).unwrap();
    assert!(html.contains("noVNC") && html.contains("<script") && html.contains("</html>"), "{html}");

    connected(
        &cloud,
        &path,
        "Sec-WebSocket-Protocol: binary\r\nOrigin: https://cloud.test\r\n",
        async |head, mut stream| {
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert!(head.to_lowercase().contains("sec-websocket-protocol: binary"), "{head}");
            let version = hear(&mut stream).await;
            assert_eq!(version, b"RFB 003.008\n");
            say(&mut stream, &version).await;
            assert_eq!(hear(&mut stream).await, [1, 1]);
            say(&mut stream, &[1]).await;
            assert_eq!(hear(&mut stream).await, [0; 4]);
            say(&mut stream, &[1]).await;
            let start = hear(&mut stream).await;
            assert_eq!(&start[24..], format!("fake server {id}").as_bytes());
        },
    )
    .await;
    shut(&cloud, &path, "", 403).await;
}

#[tokio::test]
async fn a_serial_line_is_heard_and_spoken_to_through_a_websocket() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let made = console(&cloud, Member, &id, "serial", "serial").await.expect(200);
    let url = text(&made["remote_console"]["url"]);
    let path = url.strip_prefix("wss://cloud.test").expect(url);
    connected(&cloud, path, "", async |head, mut stream| {
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(String::from_utf8(hear(&mut stream).await).unwrap().contains("started"));
        say(&mut stream, b"login: ").await;
        assert_eq!(hear(&mut stream).await, b"login: ");
    })
    .await;
    // As clients of nova-novncproxy say it.
    let token = token(&cloud, &id, "serial", "serial").await;
    connected(&cloud, "/websockify", &format!("Cookie: token={token}\r\n"), async |head, _| {
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    })
    .await;
}

#[tokio::test]
async fn what_is_no_good_token_opens_nothing_and_says_nothing() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let path = |token: &str| format!("/console/ws?token={token}");
    shut(&cloud, "/console/ws", "", 403).await;
    shut(&cloud, &path("bad"), "", 403).await;
    let good = token(&cloud, &id, "serial", "serial").await;
    shut(&cloud, &path(&format!("bad{good}")), "", 403).await;
    // A page of somebody else's opens nothing, and spends nothing.
    shut(&cloud, &path(&good), "Origin: https://evil.test\r\n", 403).await;
    cloud.later(std::time::Duration::from_secs(599));
    connected(&cloud, &path(&good), "", async |head, _| assert!(head.starts_with("HTTP/1.1 101 "), "{head}")).await;

    let old = token(&cloud, &id, "serial", "serial").await;
    cloud.later(std::time::Duration::from_secs(600));
    shut(&cloud, &path(&old), "", 403).await;
    let orphan = token(&cloud, &id, "serial", "serial").await;
    cloud.delete_server(Member, &id).await;
    shut(&cloud, &path(&orphan), "", 403).await;
    let kept = cloud
        .inner()
        .db
        .read_blocking(|tx| tx.list("SELECT token_hash FROM compute_console_token", [], |row| row.get::<_, String>(0)));
    let kept: Vec<String> = kept.map_err(|error: db::Error| error).unwrap();
    assert!(!kept.contains(&orphan), "tokens are not kept as they are");
}

#[tokio::test]
async fn an_administrator_sees_what_a_token_opens_without_spending_it() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let token = token(&cloud, &id, "vnc", "novnc").await;
    let path = format!("/compute/v2.1/os-console-auth-tokens/{token}");
    for _ in 0..2 {
        let shown = cloud.as_(Admin).at("2.31").get(&path).await.expect(200);
        assert_eq!(shown["console"]["instance_uuid"], *id);
        assert_eq!(shown["console"]["internal_access_path"], "vnc.sock");
    }
    cloud.as_(Member).at("2.31").get(&path).await.refused(403);
    cloud.as_(Admin).get(&path).await.refused(401);
    cloud.as_(Admin).at("2.31").get("/compute/v2.1/os-console-auth-tokens/none").await.refused(404);
}

#[tokio::test]
async fn consoles_that_are_not_to_be_had_are_refused_with_a_reason() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    for (protocol, kind, words) in [
        ("spice", "spice-html5", "Unavailable console type spice-html5."),
        ("rdp", "rdp-html5", "Unavailable console type rdp-html5."),
        ("vnc", "xvpvnc", "Unavailable console type xvpvnc."),
        ("vnc", "serial", "is no such console"),
        ("mks", "webmks", "is no such console"),
        ("telepathy", "novnc", "is no such console"),
    ] {
        let message = console(&cloud, Member, &id, protocol, kind).await.refused(400);
        assert!(message.ends_with(words) || message.contains(words), "{message}");
    }
    console(&cloud, Reader, &id, "vnc", "novnc").await.refused(403);
    console(&cloud, Other, &id, "vnc", "novnc").await.refused(404);
    // Before 2.6 these are actions, and nothing else; since then they are not.
    for (action, kind) in [("os-getVNCConsole", "novnc"), ("os-getSerialConsole", "serial")] {
        let body = json!({ action: {"type": kind} });
        let shown = cloud.as_(Member).action(&id, body.clone()).await.expect(200);
        assert_eq!(shown["console"]["type"], kind);
        cloud.as_(Member).at("2.6").action(&id, body).await.refused(404);
    }
    let spice = json!({"os-getSPICEConsole": {"type": "spice-html5"}});
    assert_eq!(cloud.as_(Member).action(&id, spice).await.refused(400), "Unavailable console type spice-html5.");
    cloud.as_(Member).action(&id, json!({"os-getVNCConsole": Value::Null})).await.refused(400);
    cloud.as_(Member).action(&id, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    assert_eq!(console(&cloud, Member, &id, "vnc", "novnc").await.refused(409), format!("Instance {id} is not ready"));
    let blind = cloud.image_with(Member, json!({"hw_video_model": "none"})).await;
    let blind = cloud.boot(Member, json!({"imageRef": blind})).await;
    assert_eq!(console(&cloud, Member, &blind, "vnc", "novnc").await.refused(400), "Unavailable console type novnc.");
}
