//! Language and theme: in cookies, because they are the browser's and no secret.

use axum::{
    Form, Router,
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use http::{HeaderValue, header};
use serde::Deserialize;

use crate::{
    Dashboard,
    failure::{Failure, Result},
    visit::local,
    words::Words,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/settings", post(choose))
}

#[derive(Deserialize)]
struct Choice {
    theme: Option<String>,
    language: Option<String>,
    #[serde(default)]
    next: String,
}

/// `POST /settings`: one of them at a time.
async fn choose(Form(choice): Form<Choice>) -> Result<Response> {
    let pair = match (choice.theme.as_deref(), choice.language.as_deref()) {
        (Some(theme @ ("auto" | "light" | "dark")), _) => format!("theme={theme}"),
        (None, Some(language)) => match Words::named(language) {
            Some(words) => format!("language={}", words.code),
            None => return Err(Failure::bad_request("There is no such language.")),
        },
        _ => return Err(Failure::bad_request("There is no such theme.")),
    };
    let mut response = Redirect::to(local(&choice.next)).into_response();
    let cookie = format!("{pair}; Path=/; Secure; SameSite=Lax; Max-Age=31536000");
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Failure::broken("a cookie is no header"))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
