//! `/v1/claim`: how a machine that nobody has set up comes to its administrator.
//!
//! What must stay true:
//! - while the row of `system_claim` is there, the first user has a password that nobody knows, and the code is the only way in;
//! - the code is known by its hash here, and in the clear in one file alone, which is for the console;
//! - the password is set and the code is spent in one transaction; afterwards there is no way to claim;
//! - who guesses is slowed down, and a code that was guessed at too often is replaced.

mod code;
pub(crate) mod handlers;
mod pace;
mod store;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use db::{Clock, Db, Tx};
use futures::future::BoxFuture;
use rest::{Error, Kind, Result};

use self::pace::Pace;

/// Wrong codes until there is a new one.
const WRONG_MAX: i64 = 10;

/// Sets a password in a transaction of the caller's.
pub type SetPassword = Box<dyn FnOnce(&Tx<'_>) -> Result<()> + Send>;

/// The first user of the cloud, as the wiring knows it.
pub trait FirstUser: Send + Sync + std::fmt::Debug {
    /// Prepares a password.
    ///
    /// # Errors
    /// 400 when it may not be one.
    fn password(&self, password: String) -> BoxFuture<'_, Result<SetPassword>>;

    /// The same of a hash in PHC form.
    ///
    /// # Errors
    /// 400 when it is none that could ever be verified here.
    fn hash(&self, hash: String) -> Result<SetPassword>;

    /// By what name the user signs in.
    fn name(&self) -> &'static str;
}

/// The claim of one cloud. Clones share everything.
#[derive(Clone, Debug)]
pub struct Claims {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Clock,
    /// Where the code stands for the console.
    file: PathBuf,
    /// There as long as the cloud waits: what runs before the program reads no database.
    mark: PathBuf,
    user: Arc<dyn FirstUser>,
    pace: Pace,
    /// One change of the code at a time, with its file.
    turn: tokio::sync::Mutex<()>,
}

/// How a code was received.
enum Taken {
    Yes,
    /// There is nothing to claim any more.
    Gone,
    Wrong,
    /// Wrong once too often: there is a new one.
    Replaced(String),
}

impl Claims {
    #[must_use]
    pub fn new(db: Db, clock: Clock, file: &Path, mark: &Path, user: Arc<dyn FirstUser>) -> Self {
        let pace = Pace::default();
        let turn = tokio::sync::Mutex::default();
        let (file, mark) = (file.to_owned(), mark.to_owned());
        Self { inner: Arc::new(Inner { db, clock, file, mark, user, pace, turn }) }
    }

    /// Has this cloud wait for who claims it. To be written before the first user is made: who is made then has a password
    /// that nobody knows.
    ///
    /// # Errors
    /// The database's.
    pub async fn expect(&self) -> Result<()> {
        let now = self.inner.clock.now_text();
        self.inner.db.write(move |tx| Ok::<_, Error>(store::insert(tx, &now)?)).await
    }

    /// Whether the cloud waits for who claims it.
    ///
    /// # Errors
    /// The database's.
    pub fn waits(&self) -> Result<bool> {
        let found: db::Result<_> = self.inner.db.read_blocking(store::find);
        Ok(found?.is_some())
    }

    /// Spends the claim for a password that an operator brought as a hash. False when there is nothing to claim any more.
    ///
    /// # Errors
    /// 400 for a hash that is none; the database's.
    pub async fn preset(&self, hash: String) -> Result<bool> {
        let set = self.inner.user.hash(hash)?;
        let spent = self.inner.db.write(move |tx| -> Result<bool> {
            let there = store::delete(tx)?;
            if there {
                set(tx)?;
            }
            Ok(there)
        });
        let spent = spent.await?;
        let _ = self.remove_files();
        Ok(spent)
    }

    /// Once at each start: the file for the console holds the code, or is not there. A code that still stands in it stays.
    ///
    /// # Errors
    /// The database's, and the file's: a cloud that nobody can claim is of no use.
    pub async fn start(&self) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        let found: db::Result<_> = self.inner.db.read(store::find).await;
        let Some(row) = found? else {
            // Nobody can do anything with a code that is spent.
            let _ = self.remove_files();
            return Ok(());
        };
        fs::write(&self.inner.mark, "").map_err(Error::internal)?;
        let shown = fs::read_to_string(&self.inner.file).ok();
        if shown.is_some_and(|text| row.code_hash.as_deref().is_some_and(|hash| code::is_of(&text, hash))) {
            return Ok(());
        }
        let code = code::new().ok_or_else(|| Error::internal("there are no random numbers"))?;
        let (hash, now) = (code::hash(&code), self.inner.clock.now_text());
        self.inner.db.write(move |tx| Ok::<_, Error>(store::set_code(tx, &hash, &now)?)).await?;
        self.write_file(&code).map_err(|error| {
            let file = self.inner.file.display();
            Error::internal(format!("the code to claim this cloud cannot be written to {file}: {error}"))
        })?;
        tracing::info!(file = %self.inner.file.display(), "this cloud waits to be claimed, by the code on the console");
        Ok(())
    }

    /// By what name the first user signs in.
    fn first_user(&self) -> &'static str {
        self.inner.user.name()
    }

    /// 404 when there is nothing to claim.
    fn check_waits(&self) -> Result<()> {
        if self.waits()? { Ok(()) } else { Err(Error::no_such_route()) }
    }

    /// Somebody says the code. `peer` is whoever asks.
    async fn take(&self, peer: std::net::IpAddr, said: &str, password: String) -> Result<()> {
        if let Err(wait) = self.inner.pace.try_again(peer) {
            let error = Error::new(Kind::TooManyRequests, "Too many wrong codes: wait a minute before the next.");
            return Err(error.with_header(http::header::RETRY_AFTER, wait.as_secs().max(1).into()));
        }
        let _turn = self.inner.turn.lock().await;
        let row: db::Result<_> = self.inner.db.read(store::find).await;
        let Some(row) = row? else { return Err(Error::no_such_route()) };
        let right = row.code_hash.as_deref().is_some_and(|hash| code::is_of(said, hash));
        let taken = if right { self.spend(row.code_hash, password).await? } else { self.wrong().await? };
        match taken {
            Taken::Yes => {
                self.inner.pace.forget(peer);
                if let Err(error) = self.remove_files() {
                    tracing::warn!(%error, "files of a claim that is over stay until the next start");
                }
                tracing::info!(%peer, "this cloud is claimed");
                Ok(())
            }
            Taken::Gone => Err(Error::no_such_route()),
            Taken::Wrong => {
                tracing::warn!(%peer, "a wrong code to claim this cloud");
                Err(Error::forbidden("The code is wrong."))
            }
            Taken::Replaced(code) => {
                tracing::warn!(%peer, "too many wrong codes to claim this cloud: there is a new one on the console");
                if let Err(error) = self.write_file(&code) {
                    tracing::error!(%error, "the new code cannot be written; the next start makes another");
                }
                Err(Error::forbidden("The code is wrong. There is a new one on the console."))
            }
        }
    }

    async fn spend(&self, known: Option<String>, password: String) -> Result<Taken> {
        // A password that may not be one costs no try.
        let set = self.inner.user.password(password).await?;
        self.inner
            .db
            .write(move |tx| -> Result<Taken> {
                let there = store::find(tx)?.is_some_and(|row| row.code_hash == known);
                if !there {
                    return Ok(Taken::Gone);
                }
                store::delete(tx)?;
                set(tx)?;
                Ok(Taken::Yes)
            })
            .await
    }

    async fn wrong(&self) -> Result<Taken> {
        let code = code::new().ok_or_else(|| Error::internal("there are no random numbers"))?;
        let now = self.inner.clock.now_text();
        self.inner
            .db
            .write(move |tx| -> Result<Taken> {
                if store::count_wrong(tx)? < WRONG_MAX {
                    return Ok(Taken::Wrong);
                }
                store::set_code(tx, &code::hash(&code), &now)?;
                Ok(Taken::Replaced(code))
            })
            .await
    }

    /// One line, whole or not at all, for its owner alone.
    fn write_file(&self, code: &str) -> io::Result<()> {
        use std::{io::Write, os::unix::fs::OpenOptionsExt};
        let file = &self.inner.file;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let part = file.with_extension("part");
        let mut open = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
        writeln!(open, "{code}")?;
        open.sync_all()?;
        fs::rename(&part, file)
    }

    fn remove_files(&self) -> io::Result<()> {
        for file in [&self.inner.mark, &self.inner.file] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => (),
            }
        }
        Ok(())
    }
}
