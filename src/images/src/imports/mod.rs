//! Interoperable import (API reference, "Interoperable image import"): `stage`, `import`, and what became of it. The methods
//! are glance-direct (staged bytes), web-download (bytes of a URL) and copy-image (which finds that there is one store).

pub mod handlers;
pub mod operation;
pub mod tasks_of;
pub mod web;
