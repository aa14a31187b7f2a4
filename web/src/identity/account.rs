//! One's own account: who one is here, the password, the second factor.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, header};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Thing, get_thing};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result, seen},
    form::Fields,
    frame::Frame,
    session::{Session, no_cookie},
    visit::Visit,
};

#[derive(Clone, Debug, Deserialize)]
struct Credential {
    id: String,
}

#[derive(Deserialize)]
struct Credentials {
    credentials: Vec<Credential>,
}

#[derive(Template)]
#[template(path = "account/index.html")]
struct Page {
    frame: Frame,
    session: Session,
    /// Nothing where one may not see oneself.
    user: Option<Thing>,
    totp: Vec<Credential>,
    /// Of an authenticator that was made a moment ago.
    secret: Option<String>,
    address: String,
}

async fn page(visit: &Visit) -> Result<Page> {
    let session = visit.session()?.clone();
    let id = encoded(&session.user.id);
    let user = seen(get_thing(visit, &format!("/users/{id}"), "user").await)?;
    let path = format!("/credentials?type=totp&user_id={id}");
    let found: Option<Credentials> = visit.api.find(Service::Identity, &path).await?;
    Ok(Page {
        frame: visit.frame("/account", visit.words().t("Account")),
        session,
        user,
        totp: found.map(|found| found.credentials).unwrap_or_default(),
        secret: None,
        address: String::new(),
    })
}

/// `GET /account`.
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let page = page(&visit).await?;
    visit.page(&page)
}

/// `POST /account/password`: it ends every session, this one as well.
pub(super) async fn password(visit: Visit, form: Fields) -> Result<Response> {
    let words = visit.words();
    let result = async {
        if form.raw("password") != form.raw("again") {
            return Err(Failure::bad_request(words.t("The two passwords differ.")));
        }
        let body = json!({"user": {"original_password": form.raw("old"), "password": form.raw("password")}});
        let path = format!("/users/{}/password", encoded(&visit.session()?.user.id));
        visit.api.send(Method::POST, Service::Identity, &path, Some(&body)).await
    }
    .await;
    match result {
        Ok(_) => {
            visit.end().await?;
            let mut response = Redirect::to("/signin").into_response();
            response.headers_mut().insert(header::SET_COOKIE, no_cookie());
            Ok(response)
        }
        Err(mut failure) => {
            // The session is good; the password that was typed is not.
            if failure.sign_in {
                failure.sign_in = false;
                words.t("The present password is wrong.").clone_into(&mut failure.message);
            }
            if !failure.is_users() {
                return Err(failure);
            }
            let mut page = page(&visit).await?;
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
    }
}

/// `POST /account/totp`: `do` is `add`, which shows the secret once, or `remove` with `id`.
pub(super) async fn totp(visit: Visit, form: Fields) -> Result<Response> {
    let words = visit.words();
    if form.get("do") == "remove" {
        let result = visit.api.delete(Service::Identity, &format!("/credentials/{}", encoded(form.get("id")))).await;
        return visit.outcome(result, "/account", words.t("The authenticator is of no more use.")).await;
    }
    let secret = secret()?;
    let user = visit.session()?.user.clone();
    let body = json!({"credential": {"type": "totp", "blob": secret, "user_id": user.id}});
    match visit.api.post(Service::Identity, "/credentials", &body).await {
        Ok(_) => {
            let mut page = page(&visit).await?;
            let label = encoded(&format!("Solostack:{}", user.name));
            page.address = format!("otpauth://totp/{label}?secret={secret}&issuer=Solostack");
            page.secret = Some(secret);
            visit.page(&page)
        }
        Err(failure) => visit.outcome::<Value>(Err(failure), "/account", "").await,
    }
}

/// 160 random bits in base 32, as RFC 4226 advises.
fn secret() -> Result<String> {
    let mut bytes = [0; 20];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::broken("random bytes"))?;
    Ok(base32(&bytes))
}

fn base32(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut held) = (String::new(), 0_u32, 0_u32);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            let letter = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".get(((held >> bits) & 31) as usize);
            text.extend(letter.map(|letter| char::from(*letter)));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        let letter = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".get(((held << (5 - bits)) & 31) as usize);
        text.extend(letter.map(|letter| char::from(*letter)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_32_is_that_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foob", "MZXW6YQ"), ("foobar", "MZXW6YTBOI")] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        assert_eq!(secret().unwrap().len(), 32);
    }
}
