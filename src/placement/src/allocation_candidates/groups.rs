//! What is asked for, out of the query string: request groups, and how they relate.

use rest::{Ctx, Error, Params, Result};

use crate::{
    error,
    query::{self, Wanted, query_object},
    schema::{self, Form, Object, Pattern, Schema},
};

/// A request could otherwise name as many groups as a URL holds.
const MAX_GROUPS: usize = 100;

/// Things to be found together. The group without a suffix may be spread over a tree and what is shared with it; each
/// of the others comes from one provider.
#[derive(Debug, Clone, Default)]
pub struct Group {
    pub suffix: String,
    /// Empty for a group that only marks a place in the tree (since 1.36).
    pub amounts: Vec<(String, i64)>,
    pub traits: Wanted<String>,
    pub aggregates: Wanted<String>,
    /// Any provider of the tree that the resources must come from.
    pub in_tree: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Request {
    pub groups: Vec<Group>,
    /// Whether groups with a suffix must come from different providers.
    pub isolate: bool,
    pub limit: Option<usize>,
    /// Traits of the root of the tree that is not (only) shared from.
    pub root_traits: Wanted<String>,
    /// Of each set of suffixes, one group's provider must be above (or be) those of all others.
    pub same_subtree: Vec<Vec<String>>,
    /// Since 1.29 a candidate may take from several providers of one tree.
    pub nested: bool,
}

const LIMIT: Schema = Schema::Text { nullable: false, min: 1, max: 20, form: Form::Pattern(schema::DIGITS) };
const POLICY: Schema = Schema::Text { nullable: false, min: 0, max: 64, form: Form::OneOf(&["none", "isolate"]) };

const QUERY_1_10: Schema = schema::object(&["resources"], &[("resources", &schema::TEXT)]);
const QUERY_1_16: Schema = schema::object(&["resources"], &[("resources", &schema::TEXT), ("limit", &LIMIT)]);
const QUERY_1_17: Schema =
    schema::object(&["resources"], &[("resources", &schema::TEXT), ("limit", &LIMIT), ("required", &schema::TEXT)]);
const QUERY_1_21: Schema = schema::object(
    &["resources"],
    &[("resources", &schema::TEXT), ("limit", &LIMIT), ("required", &schema::TEXT), ("member_of", &schema::TEXT)],
);

/// A key of a group: the word with nothing, or with a number that does not begin with 0.
fn numbered(key: &str, word: &str) -> bool {
    key.strip_prefix(word).is_some_and(|suffix| suffix.is_empty() || (schema::DIGITS.fits)(suffix))
}

/// A key of a group since 1.33: the word with anything of a-z, A-Z, 0-9, `_` and `-` up to 64 characters.
fn named(key: &str, word: &str) -> bool {
    key.strip_prefix(word).is_some_and(|suffix| (schema::SUFFIX.fits)(suffix))
}

const fn grouped(
    patterns: &'static [(Pattern, &'static Schema)],
    fields: &'static [(&'static str, &'static Schema)],
) -> Schema {
    Schema::Object(Object { required: &[], fields, patterns, min: 0 })
}
const RESOURCES_N: (Pattern, &Schema) =
    (Pattern { text: "^resources([1-9][0-9]*)?$", fits: |key| numbered(key, "resources") }, &schema::TEXT);
const REQUIRED_N: (Pattern, &Schema) =
    (Pattern { text: "^required([1-9][0-9]*)?$", fits: |key| numbered(key, "required") }, &schema::TEXT);
const MEMBER_OF_N: (Pattern, &Schema) =
    (Pattern { text: "^member_of([1-9][0-9]*)?$", fits: |key| numbered(key, "member_of") }, &schema::TEXT);
const IN_TREE_N: (Pattern, &Schema) =
    (Pattern { text: "^in_tree([1-9][0-9]*)?$", fits: |key| numbered(key, "in_tree") }, &schema::TEXT);
const RESOURCES_S: (Pattern, &Schema) =
    (Pattern { text: "^resources([a-zA-Z0-9_-]{1,64})?$", fits: |key| named(key, "resources") }, &schema::TEXT);
const REQUIRED_S: (Pattern, &Schema) =
    (Pattern { text: "^required([a-zA-Z0-9_-]{1,64})?$", fits: |key| named(key, "required") }, &schema::TEXT);
const MEMBER_OF_S: (Pattern, &Schema) =
    (Pattern { text: "^member_of([a-zA-Z0-9_-]{1,64})?$", fits: |key| named(key, "member_of") }, &schema::TEXT);
const IN_TREE_S: (Pattern, &Schema) =
    (Pattern { text: "^in_tree([a-zA-Z0-9_-]{1,64})?$", fits: |key| named(key, "in_tree") }, &schema::TEXT);

const QUERY_1_25: Schema =
    grouped(&[RESOURCES_N, REQUIRED_N, MEMBER_OF_N], &[("limit", &LIMIT), ("group_policy", &POLICY)]);
const QUERY_1_31: Schema =
    grouped(&[RESOURCES_N, REQUIRED_N, MEMBER_OF_N, IN_TREE_N], &[("limit", &LIMIT), ("group_policy", &POLICY)]);
const QUERY_1_33: Schema =
    grouped(&[RESOURCES_S, REQUIRED_S, MEMBER_OF_S, IN_TREE_S], &[("limit", &LIMIT), ("group_policy", &POLICY)]);
const QUERY_1_35: Schema = grouped(
    &[RESOURCES_S, REQUIRED_S, MEMBER_OF_S, IN_TREE_S],
    &[("limit", &LIMIT), ("group_policy", &POLICY), ("root_required", &schema::TEXT)],
);
const QUERY_1_36: Schema = grouped(
    &[RESOURCES_S, REQUIRED_S, MEMBER_OF_S, IN_TREE_S],
    &[("limit", &LIMIT), ("group_policy", &POLICY), ("root_required", &schema::TEXT), ("same_subtree", &schema::TEXT)],
);

fn schema_of(ctx: &Ctx) -> &'static Schema {
    match () {
        () if ctx.since(1, 36) => &QUERY_1_36,
        () if ctx.since(1, 35) => &QUERY_1_35,
        () if ctx.since(1, 33) => &QUERY_1_33,
        () if ctx.since(1, 31) => &QUERY_1_31,
        () if ctx.since(1, 25) => &QUERY_1_25,
        () if ctx.since(1, 21) => &QUERY_1_21,
        () if ctx.since(1, 17) => &QUERY_1_17,
        () if ctx.since(1, 16) => &QUERY_1_16,
        () => &QUERY_1_10,
    }
}

/// Reads and checks the whole query; names of classes and traits are looked up later.
pub fn parse(ctx: &Ctx, params: &Params) -> Result<Request> {
    schema::check_query(schema_of(ctx), &query_object(params))?;
    let mut request = Request {
        nested: ctx.since(1, 29),
        // Of repeated policies and limits the first counts.
        isolate: query::all(params, "group_policy").first() == Some(&"isolate"),
        limit: query::all(params, "limit").first().map(|limit| limit.parse().unwrap_or(usize::MAX)),
        ..Request::default()
    };
    match query::all(params, "root_required").as_slice() {
        [] => {}
        [one] => request.root_traits = query::traits(ctx, "root_required", &[one])?,
        _ => {
            return Err(Error::bad_request("Query parameter 'root_required' may be specified only once.")
                .with_code(error::DUPLICATE_KEY));
        }
    }
    for value in query::all(params, "same_subtree") {
        request.same_subtree.push(value.split(',').map(|suffix| suffix.trim().to_owned()).collect());
    }

    let mut suffixes: Vec<&str> = Vec::new();
    for (key, _) in params.pairs() {
        if let Some((_, suffix)) = split(key)
            && !suffixes.contains(&suffix)
        {
            suffixes.push(suffix);
        }
    }
    if suffixes.len() > MAX_GROUPS {
        return Err(Error::bad_request(format!("A request may have at most {MAX_GROUPS} request groups.")));
    }
    suffixes.sort_unstable();
    let (mut lost_traits, mut lost_aggregates, mut lost_trees) = (Vec::new(), Vec::new(), Vec::new());
    let mut lost_groups = Vec::new();
    for suffix in suffixes {
        let key = |word: &str| format!("{word}{suffix}");
        let resources = query::all(params, &key("resources"));
        let traits = query::all(params, &key("required"));
        let aggregates = query::all(params, &key("member_of"));
        let trees = query::all(params, &key("in_tree"));
        let in_subtree = !suffix.is_empty() && request.same_subtree.iter().flatten().any(|named| named == suffix);
        if resources.is_empty() && !in_subtree {
            if ctx.since(1, 36) && !suffix.is_empty() {
                lost_groups.push(format!("'{suffix}'"));
                continue;
            }
            if !traits.is_empty() {
                lost_traits.push(key("required"));
            }
            if !aggregates.is_empty() {
                lost_aggregates.push(key("member_of"));
            }
            if !trees.is_empty() {
                lost_trees.push(key("in_tree"));
            }
            continue;
        }
        request.groups.push(Group {
            suffix: suffix.to_owned(),
            amounts: resources.last().map(|text| query::amounts(text)).transpose()?.unwrap_or_default(),
            traits: query::traits(ctx, &key("required"), &traits)?,
            aggregates: query::aggregates(ctx, &aggregates)?,
            in_tree: trees.last().map(|uuid| query::uuid("in_tree", uuid)).transpose()?,
        });
    }
    if !lost_groups.is_empty() && request.groups.iter().any(|group| !group.amounts.is_empty()) {
        return Err(Error::bad_request(format!(
            "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - [{}].",
            lost_groups.join(", ")
        ))
        .with_code(error::BAD_VALUE));
    }
    let found = |what: &str, keys: &[String]| {
        Error::bad_request(format!(
            "All {what} parameters must be associated with resources. Found the following orphaned {what} keys: {}",
            keys.join(", ")
        ))
        .with_code(error::BAD_VALUE)
    };
    for (what, keys) in [("traits", lost_traits), ("member_of", lost_aggregates)] {
        if !keys.is_empty() {
            return Err(found(what, &keys));
        }
    }
    if !lost_trees.is_empty() {
        return Err(Error::bad_request(format!(
            "All request groups must specify resources. Found none for {}.",
            lost_trees.join(", ")
        ))
        .with_code(error::BAD_VALUE));
    }
    check(params, &request, !lost_groups.is_empty())?;
    Ok(request)
}

/// `marked`: groups without resources were named.
fn check(params: &Params, request: &Request, marked: bool) -> Result<()> {
    if request.groups.iter().all(|group| group.amounts.is_empty()) {
        let message = if request.groups.is_empty() && !marked {
            "At least one request group (`resources` or `resources{$S}`) is required."
        } else {
            "There must be at least one resources or resources[$S] parameter."
        };
        return Err(Error::bad_request(message).with_code(error::MISSING_VALUE));
    }
    let granular = request.groups.iter().filter(|group| !group.suffix.is_empty() && !group.amounts.is_empty());
    if granular.count() > 1 && !params.has("group_policy") {
        return Err(Error::bad_request(
            "The \"group_policy\" parameter is required when specifying more than one \"resources{N}\" parameter.",
        )
        .with_code(error::MISSING_VALUE));
    }
    if request.same_subtree.iter().flatten().any(String::is_empty) {
        return Err(Error::bad_request("Empty string (unsuffixed group) can not be specified in `same_subtree`.")
            .with_code(error::BAD_VALUE));
    }
    let known: Vec<String> = request.groups.iter().map(|group| format!("'{}'", group.suffix)).collect();
    let odd: Vec<String> = request
        .same_subtree
        .iter()
        .flatten()
        .map(|suffix| format!("'{suffix}'"))
        .filter(|suffix| !known.contains(suffix))
        .collect();
    if !odd.is_empty() {
        return Err(Error::bad_request(format!(
            "Real suffixes should be specified in `same_subtree`: {} not found in [{}].",
            odd.join(", "),
            known.join(", ")
        ))
        .with_code(error::BAD_VALUE));
    }
    Ok(())
}

/// The word and the suffix of a group's key.
fn split(key: &str) -> Option<(&'static str, &str)> {
    if matches!(key, "limit" | "group_policy" | "root_required" | "same_subtree") {
        return None;
    }
    ["resources", "required", "member_of", "in_tree"]
        .into_iter()
        .find_map(|word| key.strip_prefix(word).map(|suffix| (word, suffix)))
}
