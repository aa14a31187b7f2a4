//! Who is signed in: a cookie, a row, and what the row keeps under seal.
//!
//! The cookie is 32 random bytes. One hash of it finds the row, another opens what the row holds; so neither the database
//! nor a log is of use without the browser. A session ends with its token, or after an hour without use.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use db::{Clock, Db, Tx, params};
use http::{HeaderMap, HeaderValue, header};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const COOKIE: &str = "__Host-solostack";
const IDLE: time::Duration = time::Duration::hours(1);
/// Uses are noted this often at most: a page is no write.
const NOTED: time::Duration = time::Duration::minutes(5);

/// A thing's id and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub id: String,
    pub name: String,
}

/// What the session's token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Of a user without any role.
    Unscoped,
    Project {
        project: Named,
        domain: Named,
    },
    Domain(Named),
    System,
}

/// What stands under seal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    pub token: String,
    /// Stands in every form.
    pub csrf: String,
    pub user: Named,
    pub user_domain: Named,
    pub scope: Scope,
    pub roles: Vec<String>,
    /// RFC 3339, as the token says.
    pub expires_at: String,
}

impl Session {
    #[must_use]
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.eq_ignore_ascii_case(name))
    }

    #[must_use]
    pub fn project_id(&self) -> Option<&str> {
        match &self.scope {
            Scope::Project { project, .. } => Some(&project.id),
            _ => None,
        }
    }
}

/// What an action says to the next page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flash {
    pub good: bool,
    pub text: String,
    /// More lines, one for each row of a bulk action.
    #[serde(default)]
    pub rows: Vec<String>,
}

/// The cookie of a session, in the forms that are of use.
pub(crate) struct Key {
    id: String,
    seal: LessSafeKey,
    secret: String,
}

/// 32 random bytes as text.
pub(crate) fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::broken("no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Key {
    pub(crate) fn new() -> Result<Self, Failure> {
        Self::of(random()?)
    }

    fn of(secret: String) -> Result<Self, Failure> {
        let broken = |_| Failure::broken("a session's key cannot be derived");
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"solostack dashboard session").extract(secret.as_bytes());
        let mut id = [0; 32];
        root.expand(&[b"id"], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut id)).map_err(broken)?;
        let seal: UnboundKey = root.expand(&[b"seal"], &CHACHA20_POLY1305).map_err(broken)?.into();
        Ok(Self { id: URL_SAFE_NO_PAD.encode(id), seal: LessSafeKey::new(seal), secret })
    }

    /// The key that the browser sent, if it looks like one.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let secret = cookie(headers, COOKIE).filter(|value| value.len() == 43)?;
        Self::of(secret.to_owned()).ok()
    }

    /// `Set-Cookie` that gives it to the browser.
    pub(crate) fn cookie(&self) -> Result<HeaderValue, Failure> {
        let text = format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax", self.secret);
        HeaderValue::from_str(&text).map_err(|_| Failure::broken("a cookie is no header"))
    }

    fn seal(&self, session: &Session) -> Result<Vec<u8>, Failure> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Failure::broken("no random numbers"))?;
        let mut text = serde_json::to_vec(session).map_err(Failure::internal)?;
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.id.as_bytes()), &mut text)
            .map_err(|_| Failure::broken("a session cannot be sealed"))?;
        Ok([nonce.as_slice(), &text].concat())
    }

    fn open(&self, sealed: &[u8]) -> Option<Session> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let text = self.seal.open_in_place(nonce, Aad::from(self.id.as_bytes()), &mut text).ok()?;
        serde_json::from_slice(text).ok()
    }
}

/// Takes the cookie away.
pub(crate) fn no_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-solostack=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Where sessions are kept.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub db: Db,
    pub clock: Clock,
}

/// A session as found.
pub(crate) struct Found {
    pub session: Session,
    pub flash: Option<Flash>,
}

impl Sessions {
    /// The session of a key, unless it has ended.
    pub(crate) async fn find(&self, key: &Key) -> Result<Option<Found>, Failure> {
        let now = self.clock.now();
        let (now_text, idle_since, noted_since) =
            (db::clock::text(now), db::clock::text(now - IDLE), db::clock::text(now - NOTED));
        let id = key.id.clone();
        let row = self
            .db
            .read(move |tx| {
                tx.find(
                    "SELECT sealed, flash, used_at FROM web_session WHERE id = ? AND expires_at > ? AND used_at > ?",
                    params![id, now_text, idle_since],
                    |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, String>(2)?)),
                )
            })
            .await
            .map_err(|error: db::Error| Failure::internal(error))?;
        let Some((sealed, flash, used_at)) = row else { return Ok(None) };
        let Some(session) = key.open(&sealed) else { return Ok(None) };
        if used_at < noted_since {
            let (id, now) = (key.id.clone(), self.clock.now_text());
            self.write(move |tx| {
                tx.execute("UPDATE web_session SET used_at = ? WHERE id = ?", params![now, id]).map(|_| ())
            })
            .await?;
        }
        let flash = flash.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Some(Found { session, flash }))
    }

    /// Keeps a session, new or changed; those that have ended go.
    pub(crate) async fn keep(&self, key: &Key, session: &Session) -> Result<(), Failure> {
        let (id, sealed) = (key.id.clone(), key.seal(session)?);
        let now = self.clock.now();
        let (now, idle_since) = (db::clock::text(now), db::clock::text(now - IDLE));
        // Compared as text, so it has the database's own form.
        let expires_at = db::clock::parse(&session.expires_at).map_or_else(|| now.clone(), db::clock::text);
        self.write(move |tx| {
            tx.execute("DELETE FROM web_session WHERE expires_at <= ? OR used_at <= ?", params![now, idle_since])?;
            tx.execute(
                "INSERT INTO web_session (id, sealed, used_at, expires_at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (id) DO UPDATE SET sealed = ?2, used_at = ?3, expires_at = ?4",
                params![id, sealed, now, expires_at],
            )?;
            Ok(())
        })
        .await
    }

    /// Ends it.
    pub(crate) async fn end(&self, key: &Key) -> Result<(), Failure> {
        let id = key.id.clone();
        self.write(move |tx| tx.execute("DELETE FROM web_session WHERE id = ?", [id]).map(|_| ())).await
    }

    /// Leaves a word for the next page, or takes it back.
    pub(crate) async fn flash(&self, key: &Key, flash: Option<&Flash>) -> Result<(), Failure> {
        let id = key.id.clone();
        let text = flash.map(serde_json::to_string).transpose().map_err(Failure::internal)?;
        self.write(move |tx| tx.execute("UPDATE web_session SET flash = ? WHERE id = ?", params![text, id]).map(|_| ()))
            .await
    }

    async fn write<F>(&self, f: F) -> Result<(), Failure>
    where
        F: FnOnce(&Tx<'_>) -> db::Result<()> + Send + 'static,
    {
        self.db.write(f).await.map_err(|error: db::Error| Failure::internal(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            token: "secret-token".into(),
            csrf: "c".into(),
            user: Named::default(),
            user_domain: Named::default(),
            scope: Scope::Unscoped,
            roles: vec!["Member".into()],
            expires_at: "2026-01-01T00:00:00.000000Z".into(),
        }
    }

    #[test]
    fn only_the_cookie_opens_what_the_row_holds() {
        let key = Key::new().unwrap();
        let sealed = key.seal(&session()).unwrap();
        assert_eq!(key.open(&sealed).unwrap().token, "secret-token");
        assert!(Key::new().unwrap().open(&sealed).is_none());
        assert!(key.open(&sealed[..20]).is_none());
        assert!(key.open(&[]).is_none());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(key.id, key.secret);
    }

    #[test]
    fn a_cookie_is_found_among_others_and_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("x__Host-solostack=1; theme=dark"));
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-solostack=abc"));
        assert_eq!(cookie(&headers, COOKIE), Some("abc"));
        assert_eq!(cookie(&headers, "theme"), Some("dark"));
        assert_eq!(cookie(&headers, "them"), None);
        assert!(Key::from_headers(&headers).is_none());
    }
}
