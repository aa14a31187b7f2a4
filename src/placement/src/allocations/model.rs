//! What is asked for a consumer, in every form that the API has had. No I/O.

use rest::{Ctx, Error, Result};
use serde_json::Value;

use crate::{
    schema::{self, Form, MAX_INT, Object, Pattern, Schema},
    traits::handlers::whole,
};

/// Who pays for allocations that were made before 1.8.
pub const INCOMPLETE: &str = "00000000-0000-0000-0000-000000000000";
/// How a consumer without a type is shown.
pub const UNKNOWN: &str = "unknown";

/// The generation that the caller believes the consumer to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Before 1.28 nobody said.
    Any,
    New,
    Generation(i64),
}

/// Amounts of one provider, by class name.
#[derive(Debug, Clone)]
pub struct Share {
    pub provider: String,
    pub amounts: Vec<(String, i64)>,
}

/// All that a consumer shall have from now on; nothing ends it.
#[derive(Debug, Clone)]
pub struct Request {
    pub consumer: String,
    pub expected: Expected,
    /// Project and user; `None` before 1.8, which leaves them as they are.
    pub owner: Option<(String, String)>,
    /// `None` before 1.38, which leaves it as it is.
    pub consumer_type: Option<String>,
    pub shares: Vec<Share>,
}

const AMOUNT: Schema = Schema::Integer { nullable: false, min: Some(1), max: Some(MAX_INT) };
const RESOURCES: Schema = schema::keyed(&[(schema::CLASS, &AMOUNT)], 1);
const GENERATION: Schema = Schema::Integer { nullable: true, min: None, max: None };
const TYPE: Pattern = schema::CLASS;
const CONSUMER_TYPE: Schema = Schema::Text { nullable: false, min: 1, max: 255, form: Form::Pattern(TYPE) };
/// `all` and `unknown` are words of the query, never types.
pub const CONSUMER_TYPE_QUERY: Schema = Schema::Text {
    nullable: false,
    min: 1,
    max: 255,
    form: Form::Pattern(Pattern {
        text: "^[A-Z0-9_]+$|^all$|^unknown$",
        fits: |text| text == "all" || text == UNKNOWN || schema::is_upper_name(text),
    }),
};

// Before 1.12: a list of providers.
const LISTED_PROVIDER: Schema = schema::object(&["uuid"], &[("uuid", &schema::UUID)]);
const LISTED: Schema = schema::object(
    &["resource_provider", "resources"],
    &[("resource_provider", &LISTED_PROVIDER), ("resources", &RESOURCES)],
);
const LIST: Schema = Schema::List { items: &LISTED, min: 1, unique: false };
const PUT_1_0: Schema = schema::object(&["allocations"], &[("allocations", &LIST)]);
const PUT_1_8: Schema = schema::object(
    &["allocations", "project_id", "user_id"],
    &[("allocations", &LIST), ("project_id", &schema::TEXT_255), ("user_id", &schema::TEXT_255)],
);

// Since 1.12: an object keyed by provider. `generation` is what GET answers; sending it back is harmless.
const SHARE: Schema = schema::object(&["resources"], &[("generation", &schema::INTEGER), ("resources", &RESOURCES)]);
const SHARES: Schema = schema::keyed(&[(schema::UUID_KEY, &SHARE)], 0);
const SOME_SHARES: Schema = schema::keyed(&[(schema::UUID_KEY, &SHARE)], 1);
const PUT_1_12: Schema = schema::object(
    &["allocations", "project_id", "user_id"],
    &[("allocations", &SOME_SHARES), ("project_id", &schema::TEXT_255), ("user_id", &schema::TEXT_255)],
);
/// One consumer of POST /allocations.
const POSTED_1_13: Schema = schema::object(
    &["allocations", "project_id", "user_id"],
    &[("allocations", &SHARES), ("project_id", &schema::TEXT_255), ("user_id", &schema::TEXT_255)],
);
// Since 1.28 one consumer looks the same everywhere.
const ONE_1_28: Schema = schema::object(
    &["allocations", "project_id", "user_id", "consumer_generation"],
    &[
        ("allocations", &SHARES),
        ("project_id", &schema::TEXT_255),
        ("user_id", &schema::TEXT_255),
        ("consumer_generation", &GENERATION),
    ],
);
const MAPPED: Schema = Schema::List { items: &schema::UUID, min: 1, unique: false };
const MAPPINGS: Schema = schema::keyed(&[(schema::SUFFIX, &MAPPED)], 1);
const ONE_1_34: Schema = schema::object(
    &["allocations", "project_id", "user_id", "consumer_generation"],
    &[
        ("allocations", &SHARES),
        ("project_id", &schema::TEXT_255),
        ("user_id", &schema::TEXT_255),
        ("consumer_generation", &GENERATION),
        ("mappings", &MAPPINGS),
    ],
);
const ONE_1_38: Schema = schema::object(
    &["allocations", "project_id", "user_id", "consumer_generation", "consumer_type"],
    &[
        ("allocations", &SHARES),
        ("project_id", &schema::TEXT_255),
        ("user_id", &schema::TEXT_255),
        ("consumer_generation", &GENERATION),
        ("mappings", &MAPPINGS),
        ("consumer_type", &CONSUMER_TYPE),
    ],
);

const fn many(one: &'static [(Pattern, &'static Schema)], min: usize) -> Schema {
    Schema::Object(Object { required: &[], fields: &[], patterns: one, min })
}
const MANY_1_13: Schema = many(&[(schema::UUID_KEY, &POSTED_1_13)], 1);
const MANY_1_28: Schema = many(&[(schema::UUID_KEY, &ONE_1_28)], 1);
const MANY_1_34: Schema = many(&[(schema::UUID_KEY, &ONE_1_34)], 1);
const MANY_1_38: Schema = many(&[(schema::UUID_KEY, &ONE_1_38)], 1);
/// As `allocations` of a reshape, where none is fine.
pub const RESHAPED_1_30: Schema = many(&[(schema::UUID_KEY, &ONE_1_28)], 0);
pub const RESHAPED_1_34: Schema = many(&[(schema::UUID_KEY, &ONE_1_34)], 0);
pub const RESHAPED_1_38: Schema = many(&[(schema::UUID_KEY, &ONE_1_38)], 0);

/// Body of PUT /allocations/{consumer_uuid}.
pub fn put_schema(ctx: &Ctx) -> &'static Schema {
    match () {
        () if ctx.since(1, 38) => &ONE_1_38,
        () if ctx.since(1, 34) => &ONE_1_34,
        () if ctx.since(1, 28) => &ONE_1_28,
        () if ctx.since(1, 12) => &PUT_1_12,
        () if ctx.since(1, 8) => &PUT_1_8,
        () => &PUT_1_0,
    }
}

/// Body of POST /allocations.
pub fn post_schema(ctx: &Ctx) -> &'static Schema {
    match () {
        () if ctx.since(1, 38) => &MANY_1_38,
        () if ctx.since(1, 34) => &MANY_1_34,
        () if ctx.since(1, 28) => &MANY_1_28,
        () => &MANY_1_13,
    }
}

impl Request {
    /// From a body that fits its schema; `consumer` in the spelling of rows.
    pub fn from_body(consumer: String, body: &Value) -> Self {
        let expected = match body.get("consumer_generation") {
            None => Expected::Any,
            Some(Value::Null) => Expected::New,
            Some(number) => Expected::Generation(whole(number)),
        };
        let owner = body["project_id"]
            .as_str()
            .zip(body["user_id"].as_str())
            .map(|(project, user)| (project.to_owned(), user.to_owned()));
        let consumer_type = body["consumer_type"].as_str().map(str::to_owned);
        let amounts = |resources: &Value| {
            let map = resources.as_object();
            map.into_iter().flatten().map(|(class, amount)| (class.clone(), whole(amount))).collect()
        };
        let uuid = |text: &str| schema::normal_uuid(text).unwrap_or_else(|| text.to_owned());
        let shares = match &body["allocations"] {
            Value::Array(list) => list
                .iter()
                .map(|share| Share {
                    provider: uuid(share["resource_provider"]["uuid"].as_str().unwrap_or_default()),
                    amounts: amounts(&share["resources"]),
                })
                .collect(),
            Value::Object(map) => map
                .iter()
                .map(|(provider, share)| Share { provider: uuid(provider), amounts: amounts(&share["resources"]) })
                .collect(),
            _ => Vec::new(),
        };
        Self { consumer, expected, owner, consumer_type, shares }
    }
}

/// The consumers of a body keyed by their uuids.
pub fn requests(body: &Value) -> Result<Vec<Request>> {
    let mut requests: Vec<Request> = Vec::new();
    for (key, one) in body.as_object().into_iter().flatten() {
        let consumer =
            schema::normal_uuid(key).ok_or_else(|| Error::bad_request(format!("Malformed consumer_uuid: {key}")))?;
        if requests.iter().any(|known| known.consumer == consumer) {
            return Err(Error::bad_request(format!("Consumer {consumer} is named more than once.")));
        }
        requests.push(Request::from_body(consumer, one));
    }
    Ok(requests)
}
