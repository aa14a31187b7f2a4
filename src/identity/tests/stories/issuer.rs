//! A small OpenID Connect issuer on this machine, which also misbehaves.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Fine,
    Silent,
    Endless,
    /// Sends whoever asks to another address.
    Redirecting,
    /// Says that it is another issuer.
    Lying,
    Broken,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub struct SigningKey {
    pub id: String,
    pair: Pair,
}

impl SigningKey {
    pub fn ec(id: &str) -> Self {
        let rng = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &rng).unwrap();
        Self { id: id.into(), pair: Pair::Ec(pair) }
    }

    pub fn ed(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id: id.into(), pair: Pair::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()) }
    }

    pub fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub fn jwk(&self) -> Value {
        let public = self.public();
        match &self.pair {
            Pair::Ec(_) => json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256",
                "x": b64(&public[1..33]), "y": b64(&public[33..])}),
            Pair::Ed(_) => json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": b64(&public)}),
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let algorithm = if matches!(self.pair, Pair::Ec(_)) { "ES256" } else { "EdDSA" };
        self.sign_as(&json!({"alg": algorithm, "kid": self.id, "typ": "JWT"}), claims)
    }

    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = match &self.pair {
            Pair::Ec(pair) => b64(pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap()),
            Pair::Ed(pair) => b64(pair.sign(message.as_bytes())),
        };
        format!("{message}.{signature}")
    }
}

pub struct Inner {
    pub address: SocketAddr,
    pub keys: Mutex<Vec<Value>>,
    pub mood: Mutex<Mood>,
    /// Requests for the discovery document.
    pub asked: AtomicUsize,
    /// What introspection says about any token.
    pub introspected: Mutex<Value>,
    /// The code, and the ID token for it.
    pub code: Mutex<Option<(String, String)>>,
    /// The form of the last request for a token.
    pub redeemed: Mutex<Vec<(String, String)>>,
}

#[derive(Clone)]
pub struct Issuer(pub Arc<Inner>);

impl Issuer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            keys: Mutex::default(),
            mood: Mutex::new(Mood::Fine),
            asked: AtomicUsize::new(0),
            introspected: Mutex::new(json!({"active": false})),
            code: Mutex::default(),
            redeemed: Mutex::default(),
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/elsewhere", get(async |State(issuer): State<Self>| Json(issuer.document())))
            .route(
                "/keys",
                get(async |State(issuer): State<Self>| Json(json!({"keys": *issuer.0.keys.lock().unwrap()}))),
            )
            .route("/introspect", post(introspect))
            .route("/token", post(token))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        *self.0.keys.lock().unwrap() = keys.iter().map(|key| key.jwk()).collect();
    }

    pub fn be(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    pub fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn document(&self) -> Value {
        let url = self.url();
        json!({"issuer": url, "jwks_uri": format!("{url}/keys"), "introspection_endpoint": format!("{url}/introspect"),
            "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token")})
    }
}

async fn discovery(State(issuer): State<Issuer>) -> Response {
    issuer.0.asked.fetch_add(1, Ordering::SeqCst);
    let mood = *issuer.0.mood.lock().unwrap();
    match mood {
        Mood::Fine => Json(issuer.document()).into_response(),
        Mood::Silent => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::OK.into_response()
        }
        Mood::Endless => {
            let mut document = issuer.document();
            document["padding"] = json!("x".repeat(1 << 20));
            Json(document).into_response()
        }
        Mood::Redirecting => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
        Mood::Lying => {
            let mut document = issuer.document();
            document["issuer"] = json!("https://other.test");
            Json(document).into_response()
        }
        Mood::Broken => "<html>".into_response(),
    }
}

fn pairs(form: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(form.as_bytes()).into_owned().collect()
}

async fn introspect(State(issuer): State<Issuer>, headers: HeaderMap, form: String) -> Response {
    let form = pairs(&form);
    // "cloud" and "a:secret", form-encoded and then in base64.
    let known = headers.get("authorization").is_some_and(|value| value == "Basic Y2xvdWQ6YSUzQXNlY3JldA==");
    if !known || !form.iter().any(|(name, _)| name == "token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(issuer.0.introspected.lock().unwrap().clone()).into_response()
}

async fn token(State(issuer): State<Issuer>, form: String) -> Response {
    let form = pairs(&form);
    issuer.0.redeemed.lock().unwrap().clone_from(&form);
    let given = form.iter().find(|(name, _)| name == "code").map(|(_, code)| code.clone());
    match issuer.0.code.lock().unwrap().take() {
        Some((code, id_token)) if Some(&code) == given.as_ref() => {
            Json(json!({"id_token": id_token, "access_token": "x", "token_type": "Bearer"})).into_response()
        }
        _ => (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response(),
    }
}
