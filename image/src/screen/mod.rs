//! The screen of the machine: on tty1 and on serial lines, for who stands before it or has nothing but its cable.
//!
//! `facts` finds out, `ui` decides, `view` draws, `terminal` sends; `run` connects them. What must stay true:
//! - no byte that others wrote reaches the terminal as it came (`plain`, and once more in `terminal`);
//! - nothing that is slow or stuck (the program, systemd, the line itself) holds up a key or the screen;
//! - what destroys something needs a word that is typed: a noisy line types none.

mod facts;
mod form;
mod install;
mod keys;
mod letters;
mod model;
mod qr;
mod terminal;
#[cfg(test)]
mod tests;
mod ui;
mod view;

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use ratatui_core::terminal::Terminal;
use rustix::event::{PollFd, PollFlags};

use self::facts::Finder;
use self::keys::{Key, Keys};
use self::terminal::{Tty, ready};
use self::ui::{Action, LOG_LINES, Outcome, Page, Ui};
use crate::install::{Disk, Disks};
use crate::network::{Changes, Places, ThisSystem};
use crate::{plain, run as program};

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often all is drawn anew: the kernel may have written across it, or somebody has come to the line meanwhile.
const REPAINT_EVERY: Duration = Duration::from_secs(120);
/// How long the copy to a slow disk may take.
const INSTALL_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// After that long without a key the first page is shown again.
const LEAVE_AFTER: Duration = Duration::from_secs(300);
/// What comes this late after an escape is no part of it.
const ESCAPE_WITHIN: Duration = Duration::from_millis(150);

/// Which screen, of which machine.
#[derive(Debug, Clone)]
pub struct Options {
    /// `None`: the one that is standard input.
    pub tty: Option<PathBuf>,
    /// Show, and change nothing.
    pub view_only: bool,
    /// Ctrl-C ends it: it was started by hand.
    pub may_quit: bool,
    pub places: Places,
    pub system: ThisSystem,
    /// Where the program says how it is.
    pub socket: PathBuf,
}

enum News {
    /// With the time at which the look began.
    Facts(Box<model::Facts>, Arc<config::Config>, Instant),
    Done(Outcome),
}

/// Sends news, and wakes who waits for keys.
struct Mouth {
    sender: Sender<News>,
    bell: PipeWriter,
}

impl Mouth {
    fn other(&self) -> std::io::Result<Self> {
        Ok(Self { sender: self.sender.clone(), bell: self.bell.try_clone()? })
    }

    /// False when nobody listens any more.
    fn say(&mut self, news: News) -> bool {
        self.sender.send(news).is_ok() && self.bell.write_all(&[0]).is_ok()
    }
}

/// Until the terminal is gone.
///
/// # Errors
/// When there is no terminal.
pub fn run(options: &Options) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the terminal: {error}");
    let tty = Tty::open(options.tty.as_deref()).map_err(failed)?;
    let (sender, news) = mpsc::channel();
    let (ear, bell) = std::io::pipe().map_err(failed)?;
    let mouth = Mouth { sender, bell };
    let looker = options.clone();
    let mut own = mouth.other().map_err(failed)?;
    let (look_now, looks) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut finder = Finder::default();
        loop {
            let began = Instant::now();
            let (facts, config) = finder.look(&looker.places, &looker.system, &looker.socket);
            if !own.say(News::Facts(Box::new(facts), config, began)) {
                return;
            }
            let _ = looks.recv_timeout(LOOK_EVERY);
        }
    });
    let mut screen = Screen {
        terminal: Terminal::new(tty).map_err(failed)?,
        ui: Ui { view_only: options.view_only, ..Ui::default() },
        keys: Keys::default(),
        options,
        mouth,
        news,
        ear,
        look_now,
    };
    screen.follow().map_err(failed)
}

struct Screen<'a> {
    terminal: Terminal<Tty>,
    ui: Ui,
    keys: Keys,
    options: &'a Options,
    mouth: Mouth,
    news: Receiver<News>,
    ear: PipeReader,
    look_now: Sender<()>,
}

impl Screen<'_> {
    fn follow(&mut self) -> std::io::Result<()> {
        self.terminal.clear()?;
        let (mut painted, mut touched) = (Instant::now(), Instant::now());
        let mut done = None;
        loop {
            self.terminal.backend_mut().follow_size();
            if self.terminal.backend().is_torn || painted.elapsed() >= REPAINT_EVERY {
                self.terminal.clear()?;
                painted = Instant::now();
            }
            self.terminal.draw(|frame| view::draw(&self.ui, frame.buffer_mut()))?;

            let wait = if self.keys.waits() { ESCAPE_WITHIN } else { Duration::from_secs(5) };
            let tty = self.terminal.backend().file();
            let mut fds = [PollFd::new(tty, PollFlags::IN), PollFd::new(&self.ear, PollFlags::IN)];
            let Some(something) = ready(&mut fds, wait)? else { return Ok(()) };
            let (has_key, has_news) = (
                something && fds[0].revents().contains(PollFlags::IN),
                something && fds[1].revents().contains(PollFlags::IN),
            );
            let mut keys = Vec::new();
            if has_key {
                let mut bytes = [0; 256];
                let Some(count) = self.terminal.backend_mut().read(&mut bytes)? else { return Ok(()) };
                keys = self.keys.push(&bytes[..count]);
            } else if !something {
                keys.extend(self.keys.pause());
            }
            for key in keys {
                if let Key::CursorAt(column, row) = key {
                    self.terminal.backend_mut().answered(column, row);
                    continue;
                }
                touched = Instant::now();
                if key == Key::Quit && self.options.may_quit {
                    return Ok(());
                }
                if let Some(action) = self.ui.key(key) {
                    self.act(action)?;
                }
            }
            if has_news {
                let _ = self.ear.read(&mut [0; 64])?;
            }
            while let Ok(news) = self.news.try_recv() {
                match news {
                    // What was seen before an action ended is old.
                    News::Facts(_, _, began) if done.is_some_and(|done| began < done) => (),
                    News::Facts(facts, config, _) => self.ui.learn(*facts, config),
                    News::Done(outcome) => {
                        self.ui.done(outcome);
                        done = Some(Instant::now());
                        let _ = self.look_now.send(());
                    }
                }
            }
            if touched.elapsed() >= LEAVE_AFTER
                && !self.ui.is_busy
                && (self.ui.page != Page::Status || self.ui.scroll > 0)
            {
                self.ui.leave();
            }
        }
    }

    fn act(&mut self, action: Action) -> std::io::Result<()> {
        if action == Action::Repaint {
            return self.terminal.clear();
        }
        let (options, mut mouth) = (self.options.clone(), self.mouth.other()?);
        std::thread::spawn(move || mouth.say(News::Done(perform(&options, action))));
        Ok(())
    }
}

/// Does what was asked for; slow, on a thread of its own.
fn perform(options: &Options, action: Action) -> Outcome {
    let changes = Changes::new(&options.places, &options.system);
    let ours =
        || if options.places.mark().exists() { Ok(()) } else { Err("this machine is not the appliance".to_owned()) };
    match action {
        Action::Apply(checked) => {
            Outcome::Applied(ours().and_then(|()| changes.apply(&checked)).map(|applied| applied.notes))
        }
        Action::Confirm => Outcome::Confirmed(changes.confirm()),
        Action::GiveBack => Outcome::GivenBack(changes.give_back()),
        Action::ReadLogs | Action::Repaint => Outcome::Logs(logs()),
        Action::ReadDisks => Outcome::Disks(ours().and_then(|()| disks())),
        Action::Install(disk) => Outcome::Installed(ours().and_then(|()| {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            within(&own.to_string_lossy(), &["install", &disk, "--yes"], INSTALL_WITHIN)
        })),
        Action::Reset(what) => Outcome::Reset(ours().and_then(|()| {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            let (own, state) = (own.to_string_lossy(), options.places.state());
            let arguments = ["reset", what.argument(), "--yes", "--state", &state.to_string_lossy()];
            system(&own, &arguments)?;
            system("systemctl", &["--no-block", "reboot"])
        })),
        Action::Power(how) => {
            let verb = if how == ui::Power::Restart { "reboot" } else { "poweroff" };
            Outcome::Power(ours().and_then(|()| system("systemctl", &["--no-block", verb])))
        }
    }
}

fn disks() -> Result<Vec<install::Offer>, String> {
    let found = Disks::this().and_then(|disks| disks.list()).map_err(|error| error.to_string())?;
    let offer = |disk: Disk| install::Offer { line: plain(&disk.line()), name: disk.name, reason: disk.reason };
    Ok(found.into_iter().map(offer).collect())
}

fn system(name: &str, arguments: &[&str]) -> Result<(), String> {
    within(name, arguments, Duration::from_secs(30))
}

fn within(name: &str, arguments: &[&str], longest: Duration) -> Result<(), String> {
    let done = program::run(name, arguments, longest)?;
    if done.success {
        return Ok(());
    }
    let reason: String = plain(done.err.trim()).chars().take(300).collect();
    Err(if reason.is_empty() { format!("{name} failed") } else { reason })
}

fn logs() -> Result<Vec<String>, String> {
    let count = LOG_LINES.to_string();
    let arguments = ["--no-pager", "--quiet", "--output=short", "--lines", &count];
    let done = program::run("journalctl", &arguments, Duration::from_secs(20))?;
    if !done.success {
        return Err(format!("the log cannot be read: {}", plain(done.err.trim())));
    }
    Ok(done.out.lines().map(|line| plain(line).chars().take(1000).collect()).collect())
}
