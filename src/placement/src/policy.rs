//! The rules that others refer to.

use rest::{Rule, rule};

pub const ADMIN_OR_SERVICE: &str = "rule:admin_or_service_api";
pub const SERVICE: &str = "rule:service_api";
pub const ADMIN_OR_PROJECT_READER_OR_SERVICE: &str = "rule:admin_or_project_reader_or_service_api";

pub const BASE: &[Rule] = &[
    rule("admin_api", "role:admin", "An administrator.", &[]),
    rule("service_api", "role:service", "Another service.", &[]),
    rule("admin_or_service_api", "role:admin or role:service", "Most of Placement.", &[]),
    rule(
        "project_reader_api",
        "role:reader and project_id:%(project_id)s",
        "A reader of the project asked about.",
        &[],
    ),
    rule(
        "admin_or_project_reader_or_service_api",
        "role:admin or rule:project_reader_api or role:service",
        "What a project may know about itself.",
        &[],
    ),
];
