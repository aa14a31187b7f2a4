//! The Image service behind the real gateway and a real socket, with its own database and directory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bytes_of_images;
mod downloads;
mod harness;
mod imports;
mod lists;
mod metadefs;
mod raw_copies;
mod records;
mod sharing;
