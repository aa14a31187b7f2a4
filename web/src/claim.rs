//! `/claim`: whoever can read the console of a machine that nobody has set up chooses the administrator's password.

use askama::Template;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    Dashboard,
    api::Service,
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    signin,
    visit::Anyone,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/claim", get(show).post(claim))
}

#[derive(Template)]
#[template(path = "claim/index.html")]
struct Page {
    frame: Frame,
    about: signin::About,
    code: String,
}

fn none() -> Failure {
    Failure::not_found("There is no such page.")
}

/// `GET /claim`: 404 where there is nothing to claim.
async fn show(Anyone(seen): Anyone) -> Result<Response> {
    let about = signin::about(&seen.api).await;
    if about.claimed {
        return Err(none());
    }
    let page = Page { frame: seen.frame("", seen.words.t("Claim this cloud")), about, code: String::new() };
    seen.page(StatusCode::OK, &page)
}

/// `POST /claim`: `code`, `password`, `again`; who was right is signed in.
async fn claim(Anyone(seen): Anyone, State(dashboard): State<Dashboard>, form: Fields) -> Result<Response> {
    let words = seen.words;
    let about = signin::about(&seen.api).await;
    if about.claimed {
        return Err(none());
    }
    let claimed = if form.raw("password") == form.raw("again") {
        let body = json!({"claim": {"code": form.get("code"), "password": form.raw("password")}});
        seen.api.send(Method::POST, Service::System, "/claim", Some(&body)).await
    } else {
        Err(Failure::bad_request(words.t("The two passwords differ.")))
    };
    match claimed {
        Ok(answer) => {
            let name = answer.body.pointer("/user/name").and_then(Value::as_str).unwrap_or_default();
            let signed = signin::signed_in(&seen.api, &dashboard, name, form.raw("password")).await?;
            // The way that is left, if the operator's configuration asks for more than a password.
            Ok(signed.unwrap_or_else(|| Redirect::to("/signin").into_response()))
        }
        Err(failure) if failure.status.is_client_error() && !failure.is_not_found() => {
            let frame = seen.frame("", words.t("Claim this cloud")).with_problem(&failure);
            seen.page(failure.status, &Page { frame, about, code: form.get("code").to_owned() })
        }
        Err(failure) => Err(failure),
    }
}
