//! Columns to values.

use abide_model::{JsonObject, Timestamp};
use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A column holds something that no version of Abide writes.
#[derive(Debug, thiserror::Error)]
#[error("unexpected value {0:?}")]
struct Unexpected(String);

fn refuse(index: usize, text: &str) -> rusqlite::Error {
    let shown = text.chars().take(64).collect();
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(Unexpected(shown)))
}

/// A member of a closed set, by that set's `parse`.
pub(crate) fn member<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    parse(text).ok_or_else(|| refuse(index, text))
}

/// The same, where the column may be null.
pub(crate) fn optional_member<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(index)?.as_str_or_null()? {
        None => Ok(None),
        Some(text) => parse(text).map(Some).ok_or_else(|| refuse(index, text)),
    }
}

/// A client's JSON object.
pub(crate) fn object(row: &Row<'_>, index: usize) -> rusqlite::Result<JsonObject> {
    checked_object(index, row.get(index)?)
}

/// The same, where the column may be null.
pub(crate) fn optional_object(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<JsonObject>> {
    row.get::<_, Option<String>>(index)?
        .map(|text| checked_object(index, text))
        .transpose()
}

fn checked_object(index: usize, text: String) -> rusqlite::Result<JsonObject> {
    JsonObject::from_text(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}

/// A point in time.
pub(crate) fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    row.get(index).map(Timestamp::from_micros)
}

/// The same, where the column may be null.
pub(crate) fn optional_time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row
        .get::<_, Option<i64>>(index)?
        .map(Timestamp::from_micros))
}

/// A count or an offset; stored as the signed number of the same bits.
pub(crate) fn count(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

/// A value that Abide itself stored as JSON; null where there is none.
pub(crate) fn json<T: DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<T>> {
    row.get_ref(index)?
        .as_str_or_null()?
        .map(serde_json::from_str)
        .transpose()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(e)))
}

/// The inverse of [`json`].
pub(crate) fn json_text<T: Serialize>(value: Option<&T>) -> serde_json::Result<Option<String>> {
    value.map(serde_json::to_string).transpose()
}
