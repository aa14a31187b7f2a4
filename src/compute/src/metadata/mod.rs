//! 169.254.169.254: what a guest may read about itself. Who asks is known from where the packet came from, never from
//! what it says (DESIGN section 10).

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use network::Caller;

use crate::{
    App, aggregates,
    documents::{EC2_VERSIONS, Subject, VERSIONS},
    network_info,
    servers::{password::POSTED_MAX_BYTES, store},
};

/// Hands the service to Network, which listens inside each network.
pub(crate) fn serve(app: &App) {
    let handler = app.clone();
    app.network.set_metadata_handler(Arc::new(move |caller, request| {
        let app = handler.clone();
        Box::pin(async move {
            let path = request.uri().path();
            if is_password(path) {
                return password(&app, &caller, request.method(), request.body()).await.map(Bytes::from);
            }
            answer(&app, &caller, request.method(), path).await.map(Bytes::from)
        })
    }));
}

/// `/openstack/<version>/password`: where a guest leaves the password that it gave its administrator, encrypted for the
/// server's key pair, once.
fn is_password(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    matches!(parts.as_slice(), ["openstack", version, "password"] if VERSIONS.contains(version) || *version == "latest")
}

async fn password(app: &App, caller: &Caller, method: &Method, body: &Bytes) -> Response<Vec<u8>> {
    const TEXT: &str = "text/plain";
    let id = caller.device_id.clone();
    let failed = |error: rest::Error| {
        tracing::error!(server.id = caller.device_id, causes = error.causes(), "a password cannot be kept or read");
        plain(StatusCode::INTERNAL_SERVER_ERROR, TEXT, b"An error stopped this answer.\n".to_vec())
    };
    match *method {
        Method::GET | Method::HEAD => match app.db.read(move |tx| store::posted_password(tx, &id)).await {
            Ok(password) => plain(StatusCode::OK, TEXT, password.unwrap_or_default().into_bytes()),
            Err(error) => failed(error),
        },
        Method::POST => {
            let text = std::str::from_utf8(body).ok().filter(|text| (1..=POSTED_MAX_BYTES).contains(&text.len()));
            let Some(text) = text.map(str::to_owned) else {
                return plain(
                    StatusCode::BAD_REQUEST,
                    TEXT,
                    b"A password here is text of 1020 bytes at most.\n".to_vec(),
                );
            };
            let posted = app
                .db
                .write(move |tx| if store::exists(tx, &id)? { store::post_password(tx, &id, &text) } else { Ok(false) })
                .await;
            match posted {
                Ok(true) => plain(StatusCode::OK, TEXT, Vec::new()),
                Ok(false) => plain(StatusCode::CONFLICT, TEXT, b"There is a password already.\n".to_vec()),
                Err(error) => failed(error),
            }
        }
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, b"Only GET and POST are answered here.\n".to_vec()),
    }
}

async fn answer(app: &App, caller: &Caller, method: &Method, path: &str) -> Response<Vec<u8>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", b"Only GET is answered here.\n".to_vec());
    }
    let (id, options) = (caller.device_id.clone(), app.options.clone());
    let subject = app
        .db
        .read(move |tx| {
            let Some(server) = store::find(tx, &id)? else { return Ok(None) };
            let interfaces = network_info::of_servers(tx, &[&id])?.of(&id).to_vec();
            let zone = aggregates::store::zone(tx, &options)?;
            Ok::<_, rest::Error>(Some(Subject { server, interfaces, zone, admin_pass: None, files: Vec::new() }))
        })
        .await;
    match subject {
        Ok(Some(subject)) => match page(app, &subject, path) {
            Some((kind, content)) => plain(StatusCode::OK, kind, content),
            None => plain(StatusCode::NOT_FOUND, "text/plain", b"Not found.\n".to_vec()),
        },
        Ok(None) => plain(StatusCode::NOT_FOUND, "text/plain", b"No server has this address.\n".to_vec()),
        Err(error) => {
            tracing::error!(server.id = caller.device_id, causes = error.causes(), "metadata cannot be read");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", b"An error stopped this answer.\n".to_vec())
        }
    }
}

fn plain(status: StatusCode, kind: &'static str, content: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Content type and content of a path, or nothing.
fn page(app: &App, subject: &Subject, path: &str) -> Option<(&'static str, Vec<u8>)> {
    const TEXT: &str = "text/plain";
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let lines = |names: &[&str]| names.join("\n").into_bytes();
    match parts.as_slice() {
        [] => Some((TEXT, lines(&[EC2_VERSIONS, &["latest"]].concat()))),
        ["openstack"] => Some((TEXT, lines(&[VERSIONS, &["latest"]].concat()))),
        ["openstack", version, rest @ ..] if VERSIONS.contains(version) || *version == "latest" => {
            let files = subject.openstack(&app.options);
            match rest {
                [] => Some((TEXT, lines(&files.keys().copied().collect::<Vec<_>>()))),
                [name] => {
                    let content = files.get(*name)?.clone();
                    Some((
                        if name.ends_with(".json") { "application/json" } else { "application/octet-stream" },
                        content,
                    ))
                }
                _ => None,
            }
        }
        [version, rest @ ..] if EC2_VERSIONS.contains(version) || *version == "latest" => {
            let tree = subject.ec2();
            let below = rest.join("/");
            if let Some(content) = tree.get(&below) {
                return Some((TEXT, content.clone()));
            }
            if let Some(content) = tree.get(&format!("{below}/")) {
                return Some((TEXT, content.clone()));
            }
            let names = folder(tree.keys(), &below);
            (!names.is_empty()).then(|| (TEXT, lines(&names.iter().map(String::as_str).collect::<Vec<_>>())))
        }
        _ => None,
    }
}

/// What is directly below `path`; folders end in a slash.
fn folder<'a>(paths: impl Iterator<Item = &'a String>, path: &str) -> BTreeSet<String> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    paths
        .filter_map(|full| full.strip_prefix(&prefix))
        .filter(|rest| !rest.is_empty())
        .map(|rest| match rest.split_once('/') {
            Some((name, _)) => format!("{name}/"),
            None => rest.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_list_what_is_directly_below() {
        let paths: Vec<String> =
            ["meta-data/ami-id", "meta-data/public-keys/", "meta-data/public-keys/0/openssh-key", "user-data"]
                .map(str::to_owned)
                .to_vec();
        let at = |path: &str| folder(paths.iter(), path).into_iter().collect::<Vec<_>>();
        assert_eq!(at(""), ["meta-data/", "user-data"]);
        assert_eq!(at("meta-data"), ["ami-id", "public-keys/"]);
        assert_eq!(at("meta-data/public-keys/0"), ["openssh-key"]);
        assert!(at("secret").is_empty());
    }
}
