//! GRUB's script language and those of its commands that decide what boots.
//!
//! `syntax` turns text into a tree, `run` executes it with the menu that results, `commands` holds the commands, `condition`
//! is `[`, `environment` the grubenv file. What is not known is false, as a missing command is in GRUB; what is known to
//! change the boot in a way not done here ends the attempt, and SeaBIOS takes over.

mod commands;
mod condition;
mod environment;
mod run;
mod syntax;

pub use environment::Block as EnvironmentBlock;
pub use run::{Grub, Load};
pub use syntax::{Node, Piece, Word, parse};
