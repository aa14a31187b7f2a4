//! The page that copies the medium to a disk of the machine: which disk, then its name once more.

use super::keys::Key;

/// A disk as it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub name: String,
    /// Model, size, what is on it.
    pub line: String,
    /// Why it cannot be taken.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Install {
    /// `None` until they have been looked for.
    pub offers: Option<Vec<Offer>>,
    pub at: usize,
    /// The name of the disk, by who means it.
    pub typed: String,
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    Close,
    /// To be told.
    Refused(String),
    Copy(String),
}

impl Install {
    /// The disk that is pointed at.
    #[must_use]
    pub fn chosen(&self) -> Option<&Offer> {
        self.offers.as_ref()?.get(self.at)
    }

    pub fn key(&mut self, key: Key) -> Asked {
        let count = self.offers.as_ref().map_or(0, Vec::len);
        match key {
            Key::Esc => return Asked::Close,
            Key::Up | Key::BackTab if count > 0 => {
                self.at = (self.at + count - 1) % count;
                self.typed.clear();
            }
            Key::Down | Key::Tab if count > 0 => {
                self.at = (self.at + 1) % count;
                self.typed.clear();
            }
            Key::Backspace => drop(self.typed.pop()),
            Key::Char(c) if self.typed.len() < 40 && c.is_ascii_graphic() => self.typed.push(c),
            Key::Enter => return self.enter(),
            _ => (),
        }
        Asked::Nothing
    }

    fn enter(&mut self) -> Asked {
        let Some(offer) = self.chosen() else { return Asked::Nothing };
        if let Some(reason) = &offer.reason {
            return Asked::Refused(format!("{} cannot be taken: {reason}", offer.name));
        }
        let name = offer.name.clone();
        if std::mem::take(&mut self.typed) == name {
            Asked::Copy(name)
        } else {
            Asked::Refused(format!("nothing was done: type {name:?} first"))
        }
    }
}
