//! Lists: one const [`ListSpec`] per resource, five query dialects, one [`Page`], keyset paging.
//!
//! SQL text comes only from the spec's constants; everything a client sends is bound.

use std::collections::HashSet;

use db::{Row, Tx, Value, params_from_iter};

use crate::{Ctx, Error, Params, Result, params::parse_bool};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// How a filter's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind {
    /// Equal to any of the values given; an empty value matches an empty or missing one.
    Text,
    /// Equal, ignoring ASCII case.
    TextIgnoreCase,
    Integer,
    Bool,
    /// Nova's: a regular expression found anywhere.
    Regex,
    /// A point in time: rows at or after it.
    Since,
    /// A point in time: rows at or before it.
    Before,
    /// A prefix, taken literally.
    Prefix,
    /// Contained, taken literally.
    Contains,
}

/// A query parameter that restricts the list.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    pub name: &'static str,
    /// An SQL expression.
    pub column: &'static str,
    pub kind: FilterKind,
}

impl Filter {
    #[must_use]
    pub const fn new(name: &'static str, column: &'static str, kind: FilterKind) -> Self {
        Self { name, column, kind }
    }
}

/// Which parameters carry limit, marker and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `limit marker sort_key* sort_dir*`
    Compute,
    /// `limit marker sort=key:dir,key:dir` (and Compute's older pair)
    Volume,
    /// `limit marker sort_key* sort_dir* page_reverse`
    Network,
    /// `limit marker sort_key* sort_dir*` or `sort=key:dir,...`
    Images,
    /// `limit marker sort_key sort_dir`, filters with `__contains` and the like
    Identity,
}

/// What a list can do. All strings are SQL written by us.
#[derive(Clone, Copy, Debug)]
pub struct ListSpec {
    pub dialect: Dialect,
    /// Select list.
    pub columns: &'static str,
    /// Table and joins.
    pub from: &'static str,
    /// The unique, non-null column that a marker names.
    pub key: &'static str,
    /// API names, each in `sortable`.
    pub default_sort: &'static [(&'static str, Direction)],
    /// API name to a non-null SQL expression (`ifnull(column, '')`).
    pub sortable: &'static [(&'static str, &'static str)],
    pub filters: &'static [Filter],
    /// The most rows that one answer holds; also the page size when the client names none. 0: no bound.
    pub limit_max: usize,
}

/// One request for a list, ready for SQL.
#[derive(Clone, Debug)]
pub struct Page {
    spec: &'static ListSpec,
    sort: Vec<(&'static str, Direction)>,
    marker: Option<String>,
    limit: Option<usize>,
    conditions: Vec<String>,
    values: Vec<Value>,
    reverse: bool,
}

/// The rows of a page and whether more follow.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    pub rows: Vec<T>,
    pub more: bool,
    /// Rows were asked for backwards (Network's `page_reverse`).
    pub reverse: bool,
}

impl ListSpec {
    /// Reads limit, marker, order and the spec's filters out of `params`; what is left there is not for a list.
    ///
    /// # Errors
    /// 400 for a limit that is no number, an unknown sort key or direction, a filter value of the wrong type.
    pub fn page(&'static self, params: &mut Params) -> Result<Page> {
        let mut page = Page {
            spec: self,
            sort: Vec::new(),
            marker: params.take("marker").filter(|marker| !marker.is_empty()),
            limit: None,
            conditions: Vec::new(),
            values: Vec::new(),
            reverse: false,
        };
        page.limit = self.limit(params.take("limit").as_deref())?;
        if self.dialect == Dialect::Network {
            page.reverse = params.take_bool("page_reverse")?.unwrap_or(false);
        }
        page.sort = self.sort(params)?;
        for filter in self.filters {
            let values = params.take_all(filter.name);
            if !values.is_empty() {
                page.filter(filter, &values)?;
            }
        }
        Ok(page)
    }

    fn limit(&self, text: Option<&str>) -> Result<Option<usize>> {
        let bound = (self.limit_max > 0).then_some(self.limit_max);
        let Some(text) = text else { return Ok(bound) };
        let limit: i64 = text.trim().parse().map_err(|_| {
            Error::bad_request(format!("Invalid input for query parameter limit: {text:?} is no integer."))
        })?;
        let limit = usize::try_from(limit)
            .map_err(|_| Error::bad_request(format!("Invalid input for query parameter limit: {text} is negative.")))?;
        // 0 means "as many as allowed" to Network and the others, and an empty page to Compute and Images.
        if limit == 0 && !matches!(self.dialect, Dialect::Compute | Dialect::Images) {
            return Ok(bound);
        }
        Ok(Some(bound.map_or(limit, |bound| limit.min(bound))))
    }

    fn sort(&self, params: &mut Params) -> Result<Vec<(&'static str, Direction)>> {
        let keys = params.take_all("sort_key");
        let directions = params.take_all("sort_dir");
        let mut asked: Vec<(String, Option<String>)> = Vec::new();
        if matches!(self.dialect, Dialect::Volume | Dialect::Images)
            && let Some(sort) = params.take("sort")
        {
            for part in sort.split(',').filter(|part| !part.is_empty()) {
                match part.split_once(':') {
                    Some((key, direction)) => asked.push((key.to_owned(), Some(direction.to_owned()))),
                    None => asked.push((part.to_owned(), None)),
                }
            }
        }
        for (index, key) in keys.iter().enumerate() {
            asked.push((
                key.clone(),
                directions.get(index).or_else(|| directions.first().filter(|_| directions.len() == 1)).cloned(),
            ));
        }
        if asked.is_empty() {
            let mut sort = Vec::with_capacity(self.default_sort.len());
            for (key, direction) in self.default_sort {
                let flipped = match directions.first() {
                    Some(text) => self.direction(text)?,
                    None => *direction,
                };
                sort.push((self.column(key)?, flipped));
            }
            return Ok(sort);
        }
        let mut seen = HashSet::new();
        let mut sort = Vec::with_capacity(asked.len());
        for (key, direction) in asked {
            let column = self.column(&key)?;
            let direction = match direction {
                Some(text) => self.direction(&text)?,
                None if matches!(self.dialect, Dialect::Network | Dialect::Identity) => Direction::Ascending,
                None => Direction::Descending,
            };
            if seen.insert(column) {
                sort.push((column, direction));
            }
        }
        Ok(sort)
    }

    fn column(&self, key: &str) -> Result<&'static str> {
        self.sortable.iter().find(|(name, _)| *name == key).map(|(_, column)| *column).ok_or_else(|| {
            Error::bad_request(format!("Invalid sort key: {key:?} is not one that this list can be sorted by."))
        })
    }

    fn direction(&self, text: &str) -> Result<Direction> {
        match text {
            "asc" => Ok(Direction::Ascending),
            "desc" => Ok(Direction::Descending),
            _ => Err(Error::bad_request(format!("Invalid sort direction: {text:?} is neither 'asc' nor 'desc'."))),
        }
    }
}

impl Page {
    /// Restricts the list by a condition of ours; `?` stand for `values` in order.
    pub fn and(&mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) -> &mut Self {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
        self
    }

    /// Restricts `column` to any of `values`; none of them means no row.
    pub fn and_in(&mut self, column: &'static str, values: impl IntoIterator<Item = String>) -> &mut Self {
        let values: Vec<Value> = values.into_iter().map(Value::Text).collect();
        let marks = vec!["?"; values.len()].join(", ");
        self.conditions.push(format!("{column} IN ({marks})"));
        self.values.extend(values);
        self
    }

    /// Restricts the list by a filter with its values, as if a client had sent them.
    ///
    /// # Errors
    /// 400 when a value does not fit the filter's kind.
    pub fn filter(&mut self, filter: &Filter, values: &[String]) -> Result<()> {
        let column = filter.column;
        let bad = |value: &str, want: &str| {
            Error::bad_request(format!("Invalid value {value:?} for filter {}: expected {want}.", filter.name))
        };
        let mut either = Vec::with_capacity(values.len());
        for value in values {
            let bound = match filter.kind {
                FilterKind::Text => {
                    either.push(format!("ifnull({column}, '') = ?"));
                    Value::Text(value.clone())
                }
                FilterKind::TextIgnoreCase => {
                    either.push(format!("ifnull({column}, '') = ? COLLATE NOCASE"));
                    Value::Text(value.clone())
                }
                FilterKind::Integer => {
                    either.push(format!("{column} = ?"));
                    Value::Integer(value.parse().map_err(|_| bad(value, "an integer"))?)
                }
                FilterKind::Bool => {
                    either.push(format!("{column} = ?"));
                    Value::Integer(parse_bool(value).ok_or_else(|| bad(value, "a boolean"))?.into())
                }
                FilterKind::Regex => {
                    if value.len() > 255 || regex::RegexBuilder::new(value).size_limit(1 << 18).build().is_err() {
                        return Err(bad(value, "a regular expression"));
                    }
                    either.push(format!("{column} REGEXP ?"));
                    Value::Text(value.clone())
                }
                FilterKind::Since | FilterKind::Before => {
                    let at = db::clock::parse(value).ok_or_else(|| bad(value, "a time in ISO 8601"))?;
                    either.push(format!("{column} {} ?", if filter.kind == FilterKind::Since { ">=" } else { "<=" }));
                    Value::Text(db::clock::text(at))
                }
                FilterKind::Prefix => {
                    either.push(format!("substr({column}, 1, {}) = ?", value.chars().count()));
                    Value::Text(value.clone())
                }
                FilterKind::Contains => {
                    either.push(format!("instr({column}, ?) > 0"));
                    Value::Text(value.clone())
                }
            };
            self.values.push(bound);
        }
        self.conditions.push(format!("({})", either.join(" OR ")));
        Ok(())
    }

    #[must_use]
    pub fn marker(&self) -> Option<&str> {
        self.marker.as_deref()
    }

    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Reads the page.
    ///
    /// # Errors
    /// 400 when the marker names no row that the caller can see.
    pub fn fetch<T>(&self, tx: &Tx<'_>, map: impl FnMut(&Row<'_>) -> db::rusqlite::Result<T>) -> Result<Listing<T>> {
        let spec = self.spec;
        let mut sort = self.sort.clone();
        if !sort.iter().any(|(column, _)| *column == spec.key) {
            let direction = sort.last().map_or(Direction::Ascending, |(_, direction)| *direction);
            sort.push((spec.key, direction));
        }
        if self.reverse {
            for (_, direction) in &mut sort {
                *direction = match direction {
                    Direction::Ascending => Direction::Descending,
                    Direction::Descending => Direction::Ascending,
                };
            }
        }
        let mut conditions = self.conditions.clone();
        let mut values = self.values.clone();
        if let Some(marker) = &self.marker {
            let at = self.marker_row(tx, &sort, marker)?;
            conditions.push(after(&sort, &at, &mut values));
        }
        let mut sql = format!("SELECT {} FROM {}", spec.columns, spec.from);
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        let order: Vec<String> = sort
            .iter()
            .map(|(column, direction)| {
                format!("{column} {}", if *direction == Direction::Ascending { "ASC" } else { "DESC" })
            })
            .collect();
        sql.push_str(" ORDER BY ");
        sql.push_str(&order.join(", "));
        if let Some(limit) = self.limit {
            // One more than asked tells whether a next page has anything in it.
            values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1));
            sql.push_str(" LIMIT ?");
        }
        let mut rows = tx.list(&sql, params_from_iter(values), map)?;
        let more = self.limit.is_some_and(|limit| rows.len() > limit);
        if let Some(limit) = self.limit {
            rows.truncate(limit);
        }
        if self.reverse {
            rows.reverse();
        }
        Ok(Listing { rows, more, reverse: self.reverse })
    }

    fn marker_row(&self, tx: &Tx<'_>, sort: &[(&'static str, Direction)], marker: &str) -> Result<Vec<Value>> {
        let columns: Vec<&str> = sort.iter().map(|(column, _)| *column).collect();
        let mut sql = format!("SELECT {} FROM {} WHERE {} = ?", columns.join(", "), self.spec.from, self.spec.key);
        // A marker outside what the caller may list must look like one that does not exist.
        for condition in &self.conditions {
            sql.push_str(" AND ");
            sql.push_str(condition);
        }
        let mut values = vec![Value::Text(marker.to_owned())];
        values.extend(self.values.iter().cloned());
        tx.find(&sql, params_from_iter(values), |row| (0..columns.len()).map(|index| row.get(index)).collect())?
            .ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))
    }
}

/// The condition "behind `at` in this order", for mixed directions.
fn after(sort: &[(&'static str, Direction)], at: &[Value], values: &mut Vec<Value>) -> String {
    let mut alternatives = Vec::with_capacity(sort.len());
    for (index, (column, direction)) in sort.iter().enumerate() {
        let mut all = Vec::with_capacity(index + 1);
        for (equal, value) in sort[..index].iter().zip(at) {
            all.push(format!("{} = ?", equal.0));
            values.push(value.clone());
        }
        all.push(format!("{column} {} ?", if *direction == Direction::Ascending { ">" } else { "<" }));
        values.push(at[index].clone());
        alternatives.push(format!("({})", all.join(" AND ")));
    }
    format!("({})", alternatives.join(" OR "))
}

impl<T> Listing<T> {
    /// The link to the next page: the same request with another marker, or nothing when this was the last.
    #[must_use]
    pub fn next_link(&self, ctx: &Ctx, params: &Params, key: impl FnOnce(&T) -> &str) -> Option<String> {
        let last = if self.reverse { self.rows.first() } else { self.rows.last() };
        let last = last.filter(|_| self.more)?;
        Some(format!("{}?{}", ctx.url(ctx.path()), params.with(&[("marker", key(last))])))
    }
}
