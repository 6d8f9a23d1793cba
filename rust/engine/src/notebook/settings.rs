//! Settings of a notebook that only the caller understands.

use crate::settings::{Edit, change_settings, read_settings};
use crate::workspace::Access;
use nbws_core::{Error, ErrorKind, Result};
use serde_json::Value;

const SET: &str = "change settings";

pub(super) async fn setting(access: &Access, key: &str) -> Result<Option<String>> {
    let settings = read_settings(access).await?;
    Ok(settings.get::<Value>(key)?.map(|value| value.to_string()))
}

/// Sets a key or removes it; with `first` only while the repository is no notebook.
pub(super) async fn set_setting(
    access: &Access,
    key: String,
    value: Option<String>,
    first: bool,
) -> Result<()> {
    let parse = |text: String| serde_json::from_str::<Value>(&text);
    let value = value.map(parse).transpose().map_err(|e| {
        Error::new(ErrorKind::InvalidInput, SET, "a value is not JSON").caused_by(e)
    })?;
    let edit = match first {
        true => Edit::SetFirst { key, value },
        false => Edit::Set { key, value },
    };
    change_settings(access, edit).await.map(drop)
}
