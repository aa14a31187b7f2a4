//! What this service sees itself: the database, operations, certificates, the clock. The machine tells the rest.

use std::sync::{Mutex, PoisonError};

use db::Db;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::{App, Part, Place, State, VERSION, bytes_in_words};

/// Before this the program did not exist.
const EARLIEST_TRUE_TIME: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);
/// How long a look through the whole database is good for.
const LOOK_LASTS: Duration = Duration::HOUR;
/// An operation that was tried so often has a reason that somebody should see.
const MANY_ATTEMPTS: i64 = 5;
/// A root or intermediate that ends sooner wants an operator.
const AUTHORITY_SOON: Duration = Duration::days(30);

/// The last look through the whole database: it reads every page, so it is not made at each request.
#[derive(Debug, Default)]
pub(crate) struct Integrity {
    last: Mutex<Option<(OffsetDateTime, String)>>,
}

impl Integrity {
    /// `ok`, or what is wrong.
    async fn look(&self, db: &Db, now: OffsetDateTime) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, found)) = last
            && (now - at).abs() < LOOK_LASTS
        {
            return found;
        }
        let db = db.clone();
        let looked = tokio::task::spawn_blocking(move || {
            db.read_blocking(|tx| {
                tx.find("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).map(Option::unwrap_or_default)
            })
        });
        let found = match looked.await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                let error: db::Error = error;
                error.to_string()
            }
            Err(error) => error.to_string(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, found.clone()));
        found
    }
}

/// The whole answer.
pub(crate) async fn report(app: &App) -> Value {
    let now = app.clock.now();
    let mut parts = vec![database(app, now).await, operations(app), certificates(app, now).await, clock(now)];
    parts.extend(app.machine.parts().await);
    let state = parts.iter().map(|part| part.state).max().unwrap_or(State::Ok);
    json!({
        "state": state,
        "version": VERSION,
        "region": &*app.region,
        "started_at": db::clock::text(app.started_at),
        "uptime_s": (now - app.started_at).whole_seconds().max(0),
        "now": db::clock::text(now),
        "parts": parts,
    })
}

async fn database(app: &App, now: OffsetDateTime) -> Part {
    const NAME: &str = "database";
    let sizes = app.db.read_blocking(|tx| {
        let number = |sql: &str| tx.count(sql, []);
        Ok::<_, db::Error>((number("PRAGMA page_count")?, number("PRAGMA page_size")?))
    });
    let size = match sizes {
        Ok((pages, size)) => u64::try_from(pages.saturating_mul(size)).unwrap_or(0),
        Err(error) => {
            let advice = "look at the disk; a copy of the database may be needed";
            return Part::bad(NAME, State::Failed, format!("it cannot be read: {error}"), advice);
        }
    };
    let found = app.integrity.look(&app.db, now).await;
    let part = if found == "ok" {
        Part::ok(NAME, format!("{}, in order", bytes_in_words(size)))
    } else {
        let advice = "stop the program and restore the database from a backup: more damage follows from use";
        Part::bad(NAME, State::Failed, format!("it is damaged: {found}"), advice)
    };
    part.fact("size_bytes", size)
}

fn operations(app: &App) -> Part {
    const NAME: &str = "operations";
    let counted = app.db.read_blocking(|tx| {
        let running = tx.count("SELECT count(*) FROM tasks_task", [])?;
        let stuck = tx.find(
            "SELECT kind, resource, attempt FROM tasks_task WHERE attempt >= ?1 ORDER BY attempt DESC LIMIT 1",
            [MANY_ATTEMPTS],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)),
        )?;
        Ok::<_, db::Error>((running, stuck))
    });
    match counted {
        Ok((running, None)) => Part::ok(NAME, format!("{running} under way")).fact("running", running),
        Ok((running, Some((kind, resource, attempt)))) => {
            let reason = format!("{kind} of {resource} was tried {attempt} times");
            let advice = "the list of operations has its reason";
            Part::bad(NAME, State::Degraded, reason, advice).fact("running", running)
        }
        Err(error) => Part::bad(NAME, State::Failed, error.to_string(), "look at the database"),
    }
}

async fn certificates(app: &App, now: OffsetDateTime) -> Part {
    const NAME: &str = "certificates";
    let Some(certificates) = app.certificates.clone() else {
        return Part::ok(NAME, "none: this cloud was started without TLS");
    };
    let Ok(chain) = tokio::task::spawn_blocking(move || certificates.chain()).await else {
        return Part::bad(NAME, State::Failed, "they cannot be read", "the log says why");
    };
    let end = |place| chain.certificates.iter().filter(|one| one.place == place).map(|one| one.not_after).min();
    let (leaf, above) = (end(Place::Leaf), end(Place::Intermediate).into_iter().chain(end(Place::Root)).min());
    let part = if let Some(problem) = &chain.problem {
        Part::bad(NAME, State::Failed, problem.clone(), "see the page of certificates")
    } else if leaf.is_none_or(|end| end <= now) {
        Part::bad(
            NAME,
            State::Failed,
            "the certificate in service has expired",
            "make a new one, and look at the clock",
        )
    } else if above.is_some_and(|end| end - now < AUTHORITY_SOON) && chain.brought {
        let reason = "the intermediate that you brought ends within 30 days";
        Part::bad(NAME, State::Degraded, reason, "bring its successor, or return to the built-in one")
    } else {
        let whose = if chain.brought { "a brought intermediate" } else { "the built-in intermediate" };
        Part::ok(NAME, format!("valid, signed by {whose}, renewed without your help"))
    };
    let part = match leaf {
        Some(end) => part.fact("leaf_not_after", db::clock::text(end)),
        None => part,
    };
    match above {
        Some(end) => part.fact("authority_not_after", db::clock::text(end)),
        None => part,
    }
}

fn clock(now: OffsetDateTime) -> Part {
    const NAME: &str = "clock";
    if now < EARLIEST_TRUE_TIME {
        let advice = "set it (timedatectl set-ntp true): certificates and tokens depend on it";
        return Part::bad(NAME, State::Failed, "it is wrong by years", advice);
    }
    Part::ok(NAME, "plausible")
}
