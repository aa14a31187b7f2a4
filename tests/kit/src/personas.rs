//! The people of the tests, made through the Identity API when first used.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::TestCloud;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Persona {
    /// The first user: admin on project `admin` (and on the system).
    Admin,
    /// manager on project `one`
    Manager,
    /// member on project `one`
    Member,
    /// reader on project `one`
    Reader,
    /// member on project `two`
    Other,
    /// A user without any role, so with an unscoped token.
    Nobody,
    /// No token at all.
    Anonymous,
}

impl Persona {
    pub const ALL: [Self; 7] =
        [Self::Anonymous, Self::Nobody, Self::Other, Self::Reader, Self::Member, Self::Manager, Self::Admin];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Member => "member",
            Self::Reader => "reader",
            Self::Other => "other",
            Self::Nobody => "nobody",
            Self::Anonymous => "anonymous",
        }
    }

    fn project_and_role(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Admin => Some(("admin", "admin")),
            Self::Manager => Some(("one", "manager")),
            Self::Member => Some(("one", "member")),
            Self::Reader => Some(("one", "reader")),
            Self::Other => Some(("two", "member")),
            Self::Nobody | Self::Anonymous => None,
        }
    }

    /// The password of a user that this kit made.
    #[must_use]
    pub fn password(self) -> String {
        format!("the password of {}", self.name())
    }
}

/// A persona logged in.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub token: String,
    pub user_id: String,
    pub project_id: Option<String>,
    at: OffsetDateTime,
}

impl TestCloud {
    pub(crate) async fn login(&self, who: Persona) -> Option<Login> {
        if who == Persona::Anonymous {
            return None;
        }
        // One at a time: two tests' halves must not both make the same user.
        let mut logins = self.logins.lock().await;
        if let Some(login) = logins.get(&who)
            && self.clock.now() - login.at < time::Duration::minutes(30)
        {
            return Some(login.clone());
        }
        if who != Persona::Admin {
            let admin = match logins.get(&Persona::Admin) {
                Some(admin) if self.clock.now() - admin.at < time::Duration::minutes(30) => admin.clone(),
                _ => {
                    let admin = self.authenticate(Persona::Admin).await;
                    logins.insert(Persona::Admin, admin.clone());
                    admin
                }
            };
            if !logins.contains_key(&who) {
                self.make(who, &admin.token).await;
            }
        }
        let login = self.authenticate(who).await;
        logins.insert(who, login.clone());
        Some(login)
    }

    /// Forgets tokens and users: for a cloud whose Identity was emptied or whose keys were rotated away.
    pub async fn forget_logins(&self) {
        self.logins.lock().await.clear();
    }

    /// The id of a persona's user.
    pub async fn user(&self, who: Persona) -> String {
        self.login(who).await.expect("a persona with a token").user_id
    }

    /// The id of a persona's project.
    pub async fn project(&self, who: Persona) -> String {
        self.login(who).await.expect("a persona with a token").project_id.expect("a persona with a project")
    }

    /// A persona's token.
    pub async fn token(&self, who: Persona) -> String {
        self.login(who).await.expect("a persona with a token").token
    }

    async fn authenticate(&self, who: Persona) -> Login {
        let password = if who == Persona::Admin { self.admin_password() } else { who.password() };
        let user = json!({"name": who.name(), "domain": {"id": "default"}, "password": password});
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
        if let Some((project, _)) = who.project_and_role() {
            auth["scope"] = json!({"project": {"name": project, "domain": {"id": "default"}}});
        }
        let reply = self.as_(Persona::Anonymous).post("/identity/v3/auth/tokens", json!({"auth": auth})).await;
        let token = reply.header("x-subject-token").expect("a token").to_owned();
        let body = reply.expect(201);
        Login {
            token,
            user_id: text(&body["token"]["user"]["id"]),
            project_id: body["token"]["project"]["id"].as_str().map(str::to_owned),
            at: self.clock.now(),
        }
    }

    async fn make(&self, who: Persona, admin: &str) {
        let admin = self.with_token(admin);
        let found = admin.get(&format!("/identity/v3/users?name={}&domain_id=default", who.name())).await.expect(200);
        if !found["users"].as_array().expect("a list").is_empty() {
            return;
        }
        let user = json!({"user": {"name": who.name(), "domain_id": "default", "password": who.password()}});
        let user_id = text(&admin.post("/identity/v3/users", user).await.expect(201)["user"]["id"]);
        let Some((project, role)) = who.project_and_role() else { return };
        let found = admin.get(&format!("/identity/v3/projects?name={project}&domain_id=default")).await.expect(200);
        let project_id = match found["projects"][0]["id"].as_str() {
            Some(id) => id.to_owned(),
            None => {
                let project = json!({"project": {"name": project, "domain_id": "default"}});
                text(&admin.post("/identity/v3/projects", project).await.expect(201)["project"]["id"])
            }
        };
        let roles = admin.get(&format!("/identity/v3/roles?name={role}")).await.expect(200);
        let role_id = text(&roles["roles"][0]["id"]);
        let grant = format!("/identity/v3/projects/{project_id}/users/{user_id}/roles/{role_id}");
        admin.put(&grant, Value::Null).await.expect(204);
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
