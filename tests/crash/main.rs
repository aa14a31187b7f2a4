//! Death: of every operation at every point, in process; and of the real program at random moments, by `kill -9`.
//!
//! What must stay true: the points are counted, never listed; what is random comes from one seed, which is printed; and
//! what survives is compared with what was promised: a 202 is kept, a 204 is final, nothing is left that nobody owns.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails the test that called it")]
#![allow(clippy::print_stdout, reason = "the figures of a run are its result")]

mod backups;
mod full;
mod kill;
mod points;
#[path = "../bench/program.rs"]
mod program;
mod random;
mod stories;
