//! Pages that follow the cloud.

use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use kit::{Browser, Persona, TestCloud};
use serde_json::json;

/// The next event of a stream, as it came.
async fn event(stream: &mut Response<Body>, collected: &mut String) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(end) = collected.find("\n\n") {
            let event: String = collected.drain(..end + 2).collect();
            // Comments keep the connection alive.
            if !event.starts_with(':') {
                return event;
            }
            continue;
        }
        let frame = tokio::time::timeout_at(deadline, stream.frame()).await.expect("an event in time");
        let Some(frame) = frame else { return String::new() };
        collected.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn a_followed_page_shows_what_changes_and_nothing_of_others() {
    let cloud = TestCloud::start().await;
    let browser = Browser::signed_in(&cloud, Persona::Member).await;
    let mut stream = browser.follow("/live?page=%2Fkeypairs-and-servers").await;
    assert_eq!(stream.status(), StatusCode::OK);
    // A page that is not there is not followed.
    assert!(event(&mut stream, &mut String::new()).await.contains("event: over"));

    let mut stream = browser.follow("/live?page=%2Fservers").await;
    let mut rest = String::new();
    let first = event(&mut stream, &mut rest).await;
    assert!(first.starts_with("event: page") && first.contains("There is no server yet."), "{first}");

    cloud.ask_for_server(Persona::Other, json!({"name": "theirs"})).await.expect(202);
    cloud.ask_for_server(Persona::Member, json!({"name": "mine"})).await.expect(202);
    loop {
        let next = event(&mut stream, &mut rest).await;
        assert!(!next.is_empty() && !next.contains("theirs"), "{next}");
        if next.contains("mine") && next.contains("ACTIVE") {
            break;
        }
    }
}

#[tokio::test]
async fn who_is_not_signed_in_follows_nothing_and_whose_session_ends_no_longer() {
    let cloud = TestCloud::start().await;
    let stranger = Browser::new(&cloud);
    assert_eq!(stranger.follow("/live?page=%2Fservers").await.status(), StatusCode::SEE_OTHER);
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let mut stream = browser.follow("/live?page=%2Fservers").await;
    let mut rest = String::new();
    event(&mut stream, &mut rest).await;
    browser.submit("/signout", &[]).await;
    assert!(event(&mut stream, &mut rest).await.contains("event: over"));
}
