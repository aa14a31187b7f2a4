//! Rules of metadata definitions, with upstream's names and defaults.

use rest::{Rule, rule};

/// What administrators may do, and the older default of readers.
pub const BASE: &[Rule] = &[
    rule("metadef_default", "", "Who might read metadata definitions before there were roles", &[]),
    rule("metadef_admin", crate::policy::ADMIN, "Who writes metadata definitions", &[]),
];

const ADMIN: &str = "rule:metadef_admin";
const READER: &str = crate::policy::READER;
const SEEN: &str = "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))";

pub const NAMESPACE_INDEX: Rule =
    rule("get_metadef_namespaces", READER, "List namespaces", &[("GET", "/v2/metadefs/namespaces")]);
pub const NAMESPACE_SHOW: Rule =
    rule("get_metadef_namespace", SEEN, "Show a namespace", &[("GET", "/v2/metadefs/namespaces/{namespace_name}")]);
pub const NAMESPACE_CREATE: Rule =
    rule("add_metadef_namespace", ADMIN, "Create a namespace", &[("POST", "/v2/metadefs/namespaces")]);
pub const NAMESPACE_UPDATE: Rule = rule(
    "modify_metadef_namespace",
    ADMIN,
    "Update a namespace",
    &[("PUT", "/v2/metadefs/namespaces/{namespace_name}")],
);
pub const NAMESPACE_DELETE: Rule = rule(
    "delete_metadef_namespace",
    ADMIN,
    "Delete a namespace or what it holds",
    &[("DELETE", "/v2/metadefs/namespaces/{namespace_name}")],
);

pub const OBJECT_INDEX: Rule = rule(
    "get_metadef_objects",
    SEEN,
    "List objects of a namespace",
    &[("GET", "/v2/metadefs/namespaces/{namespace_name}/objects")],
);
pub const OBJECT_SHOW: Rule = rule(
    "get_metadef_object",
    SEEN,
    "Show an object of a namespace",
    &[("GET", "/v2/metadefs/namespaces/{namespace_name}/objects/{object_name}")],
);
pub const OBJECT_CREATE: Rule = rule(
    "add_metadef_object",
    ADMIN,
    "Create an object in a namespace",
    &[("POST", "/v2/metadefs/namespaces/{namespace_name}/objects")],
);
pub const OBJECT_UPDATE: Rule = rule(
    "modify_metadef_object",
    ADMIN,
    "Update an object of a namespace",
    &[("PUT", "/v2/metadefs/namespaces/{namespace_name}/objects/{object_name}")],
);
pub const OBJECT_DELETE: Rule = rule(
    "delete_metadef_object",
    ADMIN,
    "Delete an object of a namespace",
    &[("DELETE", "/v2/metadefs/namespaces/{namespace_name}/objects/{object_name}")],
);

pub const PROPERTY_INDEX: Rule = rule(
    "get_metadef_properties",
    SEEN,
    "List properties of a namespace",
    &[("GET", "/v2/metadefs/namespaces/{namespace_name}/properties")],
);
pub const PROPERTY_SHOW: Rule = rule(
    "get_metadef_property",
    SEEN,
    "Show a property of a namespace",
    &[("GET", "/v2/metadefs/namespaces/{namespace_name}/properties/{property_name}")],
);
pub const PROPERTY_CREATE: Rule = rule(
    "add_metadef_property",
    ADMIN,
    "Create a property in a namespace",
    &[("POST", "/v2/metadefs/namespaces/{namespace_name}/properties")],
);
pub const PROPERTY_UPDATE: Rule = rule(
    "modify_metadef_property",
    ADMIN,
    "Update a property of a namespace",
    &[("PUT", "/v2/metadefs/namespaces/{namespace_name}/properties/{property_name}")],
);
pub const PROPERTY_DELETE: Rule = rule(
    "remove_metadef_property",
    ADMIN,
    "Delete a property of a namespace",
    &[("DELETE", "/v2/metadefs/namespaces/{namespace_name}/properties/{property_name}")],
);

pub const TAG_INDEX: Rule = rule(
    "get_metadef_tags",
    SEEN,
    "List tags of a namespace",
    &[("GET", "/v2/metadefs/namespaces/{namespace_name}/tags")],
);
pub const TAG_SHOW: Rule = rule(
    "get_metadef_tag",
    SEEN,
    "Show a tag of a namespace",
    &[("GET", "/v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}")],
);
pub const TAG_CREATE: Rule = rule(
    "add_metadef_tag",
    ADMIN,
    "Create a tag in a namespace",
    &[("POST", "/v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}")],
);
pub const TAGS_CREATE: Rule = rule(
    "add_metadef_tags",
    ADMIN,
    "Create tags in a namespace",
    &[("POST", "/v2/metadefs/namespaces/{namespace_name}/tags")],
);
pub const TAG_UPDATE: Rule = rule(
    "modify_metadef_tag",
    ADMIN,
    "Rename a tag of a namespace",
    &[("PUT", "/v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}")],
);
pub const TAG_DELETE: Rule = rule(
    "delete_metadef_tag",
    ADMIN,
    "Delete a tag of a namespace",
    &[("DELETE", "/v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}")],
);
pub const TAGS_DELETE: Rule = rule(
    "delete_metadef_tags",
    ADMIN,
    "Delete every tag of a namespace",
    &[("DELETE", "/v2/metadefs/namespaces/{namespace_name}/tags")],
);

pub const TYPE_INDEX: Rule = rule(
    "list_metadef_resource_types",
    SEEN,
    "List resource types",
    &[("GET", "/v2/metadefs/resource_types"), ("GET", "/v2/metadefs/namespaces/{namespace_name}/resource_types")],
);
pub const TYPE_SHOW: Rule = rule(
    "get_metadef_resource_type",
    SEEN,
    "Show the resource types of a namespace",
    &[("GET", "/v2/metadefs/namespaces/{namespace_name}/resource_types")],
);
pub const TYPE_CREATE: Rule = rule(
    "add_metadef_resource_type_association",
    ADMIN,
    "Associate a namespace with a resource type",
    &[("POST", "/v2/metadefs/namespaces/{namespace_name}/resource_types")],
);
pub const TYPE_DELETE: Rule = rule(
    "remove_metadef_resource_type_association",
    ADMIN,
    "Take a resource type from a namespace",
    &[("DELETE", "/v2/metadefs/namespaces/{namespace_name}/resource_types/{name}")],
);
