//! What the screen is about at the moment, and what keys do to it. No I/O: what is to be done comes out as an [`Action`].

use std::sync::Arc;

use config::Config;

use super::form::{Asked, Form};
use super::install::{self, Install, Offer};
use super::keys::Key;
use super::model::Facts;
use crate::network::Checked;

/// Log lines that can be looked at.
pub const LOG_LINES: usize = 500;

/// The whole of it.
#[derive(Debug, Clone, Default)]
pub struct Ui {
    pub facts: Facts,
    /// With the network settings in force.
    pub config: Arc<Config>,
    pub page: Page,
    /// The first line of what is longer than its room.
    pub scroll: usize,
    /// An action is under way.
    pub is_busy: bool,
    pub message: Option<Message>,
    /// Keys that change something do nothing.
    pub view_only: bool,
}

/// How the last action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub text: String,
    pub is_bad: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Page {
    #[default]
    Status,
    Network(Form),
    Logs(Vec<String>),
    Install(Install),
    Reset {
        what: Forget,
        typed: String,
    },
    Power {
        how: Power,
        /// Chosen, and to be confirmed.
        is_chosen: bool,
    },
}

/// What a reset forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    Settings,
    Everything,
}

impl Forget {
    /// To be typed by who means it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Settings => "reset",
            Self::Everything => "erase everything",
        }
    }

    /// As the command line has it.
    #[must_use]
    pub fn argument(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Everything => "everything",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Restart,
    Off,
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Apply(Box<Checked>),
    Confirm,
    GiveBack,
    ReadLogs,
    /// Which disks there are.
    ReadDisks,
    /// To the disk of this name.
    Install(String),
    Reset(Forget),
    Power(Power),
    Repaint,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Applied(Result<Vec<String>, String>),
    Confirmed(Result<(), String>),
    GivenBack(Result<(), String>),
    Logs(Result<Vec<String>, String>),
    Disks(Result<Vec<Offer>, String>),
    Installed(Result<(), String>),
    Reset(Result<(), String>),
    Power(Result<(), String>),
}

impl Ui {
    /// What was found out about the machine.
    pub fn learn(&mut self, facts: Facts, config: Arc<Config>) {
        self.facts = facts;
        self.config = config;
    }

    /// Nobody has touched a key for a while: what was typed halfway is forgotten.
    pub fn leave(&mut self) {
        self.page = Page::Status;
        self.message = None;
        self.scroll = 0;
    }

    pub fn key(&mut self, key: Key) -> Option<Action> {
        if key == Key::Repaint {
            return Some(Action::Repaint);
        }
        if matches!(key, Key::CursorAt(..) | Key::Quit) || self.is_busy {
            return None;
        }
        let action = match std::mem::take(&mut self.page) {
            Page::Status => self.status(key),
            Page::Network(mut form) => {
                let asked = form.key(key, &self.config);
                if asked == Asked::Close {
                    return None;
                }
                self.page = Page::Network(form);
                match asked {
                    Asked::Apply(checked) => Some(Action::Apply(checked)),
                    _ => None,
                }
            }
            Page::Logs(lines) => self.logs(key, lines),
            Page::Install(mut page) => {
                let asked = page.key(key);
                self.page = Page::Install(page);
                match asked {
                    install::Asked::Close => return self.open(Page::Status),
                    install::Asked::Copy(disk) => Some(Action::Install(disk)),
                    install::Asked::Refused(text) => {
                        self.message = Some(Message { text, is_bad: true });
                        None
                    }
                    install::Asked::Nothing => None,
                }
            }
            Page::Reset { what, typed } => self.reset(key, what, typed),
            Page::Power { how, is_chosen } => self.power(key, how, is_chosen),
        };
        self.is_busy = action.as_ref().is_some_and(|action| *action != Action::Repaint);
        action
    }

    fn open(&mut self, page: Page) -> Option<Action> {
        self.page = page;
        self.scroll = 0;
        self.message = None;
        None
    }

    fn status(&mut self, key: Key) -> Option<Action> {
        let waits = self.facts.network_waits_s.is_some();
        let letter = if let Key::Char(c) = key { c.to_ascii_lowercase() } else { '\0' };
        match (key, letter) {
            (Key::Up, _) => self.scroll = self.scroll.saturating_sub(1),
            (Key::Down, _) => self.scroll = self.scroll.saturating_add(1),
            (Key::PageUp, _) => self.scroll = self.scroll.saturating_sub(5),
            (Key::PageDown, _) => self.scroll = self.scroll.saturating_add(5),
            (Key::Home | Key::Esc, _) => {
                self.scroll = 0;
                self.message = None;
            }
            // Who has just attached to the line sees nothing yet.
            (Key::Enter, _) => return Some(Action::Repaint),
            (_, 'l') => {
                self.open(Page::Logs(Vec::new()));
                return Some(Action::ReadLogs);
            }
            _ if self.view_only => (),
            (_, 'k') if waits => return Some(Action::Confirm),
            (_, 'u') if waits => return Some(Action::GiveBack),
            (_, 'n') if !waits => {
                let nics: Vec<_> = self.facts.nics.iter().map(|facts| facts.nic.clone()).collect();
                return self.open(Page::Network(Form::new(&nics, &self.config)));
            }
            (_, 'i') if self.facts.is_live => {
                self.open(Page::Install(Install::default()));
                return Some(Action::ReadDisks);
            }
            (_, 'r') => return self.open(Page::Reset { what: Forget::Settings, typed: String::new() }),
            (_, 'p') => return self.open(Page::Power { how: Power::Restart, is_chosen: false }),
            _ => (),
        }
        None
    }

    fn logs(&mut self, key: Key, lines: Vec<String>) -> Option<Action> {
        let last = lines.len().saturating_sub(1);
        // Counted from the end, where the newest are.
        match key {
            Key::Up => self.scroll = (self.scroll + 1).min(last),
            Key::Down => self.scroll = self.scroll.saturating_sub(1),
            Key::PageUp => self.scroll = (self.scroll + 15).min(last),
            Key::PageDown => self.scroll = self.scroll.saturating_sub(15),
            Key::Home => self.scroll = last,
            Key::End => self.scroll = 0,
            Key::Esc | Key::Char('q' | 'Q') => return self.open(Page::Status),
            Key::Char('r' | 'R') => {
                self.page = Page::Logs(lines);
                return Some(Action::ReadLogs);
            }
            _ => (),
        }
        self.page = Page::Logs(lines);
        None
    }

    fn reset(&mut self, key: Key, what: Forget, mut typed: String) -> Option<Action> {
        match key {
            Key::Esc => return self.open(Page::Status),
            Key::Up | Key::Down | Key::Tab | Key::BackTab => {
                let other = if what == Forget::Settings { Forget::Everything } else { Forget::Settings };
                return self.open(Page::Reset { what: other, typed: String::new() });
            }
            Key::Enter if typed.trim().eq_ignore_ascii_case(what.word()) => {
                self.page = Page::Reset { what, typed };
                return Some(Action::Reset(what));
            }
            Key::Enter => {
                let text = format!("nothing was done: type {:?} first", what.word());
                self.message = Some(Message { text, is_bad: true });
                typed.clear();
            }
            Key::Backspace => drop(typed.pop()),
            Key::Char(c) if typed.len() < 40 && (c == ' ' || c.is_ascii_graphic()) => typed.push(c),
            _ => (),
        }
        self.page = Page::Reset { what, typed };
        None
    }

    fn power(&mut self, key: Key, how: Power, is_chosen: bool) -> Option<Action> {
        let other = if how == Power::Restart { Power::Off } else { Power::Restart };
        let (page, action) = match key {
            Key::Esc => (Page::Status, None),
            Key::Up | Key::Down | Key::Tab | Key::BackTab => (Page::Power { how: other, is_chosen: false }, None),
            Key::Enter => (Page::Power { how, is_chosen: true }, None),
            Key::Char('y' | 'Y') if is_chosen => (Page::Power { how, is_chosen }, Some(Action::Power(how))),
            _ => (Page::Power { how, is_chosen: false }, None),
        };
        self.page = page;
        action
    }

    /// An action has ended.
    pub fn done(&mut self, outcome: Outcome) {
        self.is_busy = false;
        let good = |text: &str| Some(Message { text: text.to_owned(), is_bad: false });
        let bad = |text: String| Some(Message { text, is_bad: true });
        match outcome {
            Outcome::Applied(Ok(notes)) => {
                self.leave();
                self.message = if notes.is_empty() { None } else { good(&notes.join("; ")) };
            }
            Outcome::Applied(Err(reason)) => match &mut self.page {
                Page::Network(form) => form.problems = reason.lines().map(str::to_owned).collect(),
                _ => self.message = bad(reason),
            },
            Outcome::Confirmed(Ok(())) => {
                self.facts.network_waits_s = None;
                self.message = good("the new network settings stay");
            }
            Outcome::GivenBack(Ok(())) => {
                self.facts.network_waits_s = None;
                self.message = good("the old network settings are in force again");
            }
            Outcome::Logs(Ok(lines)) => {
                if let Page::Logs(shown) = &mut self.page {
                    *shown = lines;
                    self.scroll = 0;
                }
            }
            Outcome::Disks(Ok(offers)) => {
                if let Page::Install(page) = &mut self.page {
                    page.offers = Some(offers);
                }
            }
            Outcome::Installed(Ok(())) => {
                self.page = Page::Status;
                self.message = good("installed: power off (P), take the medium away, and start the machine again");
            }
            Outcome::Reset(Ok(())) | Outcome::Power(Ok(())) => self.message = good("the machine goes down now"),
            Outcome::Confirmed(Err(reason))
            | Outcome::GivenBack(Err(reason))
            | Outcome::Logs(Err(reason))
            | Outcome::Disks(Err(reason))
            | Outcome::Installed(Err(reason))
            | Outcome::Reset(Err(reason))
            | Outcome::Power(Err(reason)) => self.message = bad(reason),
        }
    }
}
