//! Metadata definitions (API reference, "Metadata definitions"): a catalogue of what properties of images, servers, flavors
//! and volumes mean. Administrators write it, projects read it.
//!
//! A namespace is public or its owner's. It holds objects, properties, tags, and associations with resource types: four kinds
//! of one thing, an item with a name and a body.

pub mod items;
pub mod model;
pub mod namespaces;
pub mod policy;
pub mod schemas;
pub mod store;
pub mod tags;
pub mod types;
mod views;
