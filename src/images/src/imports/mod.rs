//! Interoperable import (API reference, "Interoperable image import"): `stage`, `import`, and what became of it. The one
//! method is glance-direct.

pub mod handlers;
pub mod operation;
