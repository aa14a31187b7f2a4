//! The microversions honoured, one line each. Every one from the first to the last is.
//!
//! 1.0  providers, inventories, usages, allocations
//! 1.1  aggregates of a provider
//! 1.2  custom resource classes
//! 1.3  `member_of` when listing providers
//! 1.4  `resources` when listing providers
//! 1.5  DELETE all inventories of a provider
//! 1.6  traits
//! 1.7  PUT of a resource class creates or confirms it (before: renames)
//! 1.8  allocations carry project and user
//! 1.9  usages of a project, of a user in it
//! 1.10 allocation candidates
//! 1.11 link to allocations in a provider
//! 1.12 allocations as an object keyed by provider
//! 1.13 POST of several consumers' allocations
//! 1.14 provider trees, `in_tree`
//! 1.15 `last-modified` and `cache-control`
//! 1.16 `limit` on candidates
//! 1.17 `required` on candidates, traits in their summaries
//! 1.18 `required` when listing providers
//! 1.19 provider generation in aggregates
//! 1.20 POST of a provider answers with it
//! 1.21 `member_of` on candidates
//! 1.22 forbidden traits
//! 1.23 `code` in errors
//! 1.24 `member_of` more than once
//! 1.25 granular request groups
//! 1.26 `reserved` may equal `total`
//! 1.27 summaries show all of a provider's classes
//! 1.28 consumer generations
//! 1.29 candidates from provider trees
//! 1.30 reshaper
//! 1.31 `in_tree` on candidates
//! 1.32 forbidden aggregates
//! 1.33 any text as a group's suffix
//! 1.34 mappings of groups to providers
//! 1.35 `root_required`
//! 1.36 `same_subtree`, groups without resources
//! 1.37 providers may get another parent
//! 1.38 consumer types
//! 1.39 `required=in:A,B`, and more than once

use rest::{ApiVersion, Microversion, Range};

pub const RANGE: Range =
    Range { service: "placement", legacy_header: None, min: Microversion(1, 0), max: Microversion(1, 39) };

pub const VERSIONS: &[ApiVersion] =
    &[ApiVersion { id: "v1.0", status: "CURRENT", path: "", updated: "", microversions: true }];
